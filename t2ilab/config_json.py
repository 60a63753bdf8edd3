"""config.json -> the dataclasses it was written from, checked field by field.

Left out: which dataclass it is (runs/folder.py).
"""
import typing
from dataclasses import fields, is_dataclass
from types import UnionType


def from_dict(cls, values: dict, **types):
    """The dataclass that asdict turned into these values.

    types: of fields that the class itself leaves open.
    ValueError for fields this version does not know, or values of the wrong type."""
    hints = typing.get_type_hints(cls) | types
    unknown = set(values) - set(hints)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}: "
                         "the run is of another version of t2ilab")
    return cls(**{k: _value(v, hints[k], f"{cls.__name__}.{k}") for k, v in values.items()})


def _fields_in_common(kind, values: dict) -> int:
    return len({field.name for field in fields(kind)} & set(values))


def _value(value, hint, name: str):
    """A value read from JSON, as a field of this type wants it.  ValueError if it is of another."""
    allowed = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if configs := [kind for kind in allowed if is_dataclass(kind)]:
        return from_dict(max(configs, key=lambda kind: _fields_in_common(kind, value)), value)
    value = tuple(value) if isinstance(value, list) else value
    allowed += (int,) * (float in allowed)
    if not isinstance(value, tuple(typing.get_origin(kind) or kind for kind in allowed)):
        raise ValueError(f"{name}={value!r} should be {getattr(hint, '__name__', hint)}")
    return value
