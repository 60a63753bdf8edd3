"""Files of published weights, read as data: nothing in them is ever executed."""
import json
import pickle
import re
import struct
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ..training.checkpoint import read_tensors

DAMAGE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
          AssertionError, struct.error)
WEIGHTS = "diffusion_pytorch_model"          # what diffusers calls a network's file
# What diffusers called the layers of attention in 2022, when much was published -> what it calls them today.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_pickled(path: str | Path):
    """What a .pt or .pth file holds, tensors on the CPU.

    FileNotFoundError or ValueError in one line; the file's name is in it."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: no file of weights alone ({why})") from error


@dataclass(frozen=True)
class Published:
    """What somebody published: a file of weights, or a folder as diffusers writes it."""
    path: Path

    @cached_property
    def content(self):
        """What the file holds, read once; None for a folder.  FileNotFoundError or ValueError in one line."""
        if self.path.is_dir():
            return None
        return read_tensors(self.path) if self.path.suffix == ".safetensors" else read_pickled(self.path)

    def part(self, name: str) -> "Published":
        """One of a folder's parts: a folder inside it, or the folder itself where all lies at the top."""
        return Published(self.path / name) if (self.path / name).is_dir() else self

    def config(self, name: str) -> dict:
        """A JSON file of the folder; {} if there is none.  ValueError in one line if it is no JSON object."""
        if not (self.path / name).is_file():
            return {}
        try:
            found = json.loads((self.path / name).read_text(encoding="utf8"))
        except ValueError as error:
            raise ValueError(f"{self.path / name} is no JSON ({error})") from error
        if not isinstance(found, dict):
            raise ValueError(f"{self.path / name} holds no JSON object")
        return found

    def needed(self, name: str) -> dict:
        """The same, where there must be one.  FileNotFoundError in one line."""
        if not (self.path / name).is_file():
            raise FileNotFoundError(f"{self.path / name}: no such file; weights alone do not say enough")
        return self.config(name)

    def weights(self) -> dict[str, Tensor]:
        """The tensors by name of a network's folder, safetensors rather than a pickle.

        FileNotFoundError or ValueError in one line."""
        if (self.path / f"{WEIGHTS}.safetensors").is_file():
            return read_tensors(self.path / f"{WEIGHTS}.safetensors")
        found = read_pickled(self.path / f"{WEIGHTS}.bin")
        if not is_state_dict(found):
            raise ValueError(f"{self.path / WEIGHTS}.bin: no state dict: it should hold tensors by name")
        return found


def is_state_dict(found) -> bool:
    """Whether this is tensors by name and nothing else."""
    return isinstance(found, dict) and all(isinstance(v, Tensor) for v in found.values())


def with_new_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network of diffusers with the names of today in its attention layers, where it has those of 2022."""
    def renamed(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        part, _, last = layer.rpartition(".")
        return f"{part}.{OLD_NAMES[last]}.{kind}" if "attentions" in part and last in OLD_NAMES else name
    return {renamed(name): v for name, v in state.items()}


def check(config: dict, wanted: dict[str, tuple]) -> None:
    """ValueError unless a config of theirs says what our model does.

    wanted: name -> (what our model does, what theirs does where nothing is said)."""
    for name, (does, default) in wanted.items():
        if config.get(name, default) != does:
            raise ValueError(f"{name}={config.get(name, default)!r}: this model has {does!r} there")


def one_of(value, known: dict, name: str):
    """Our word for a value of theirs.  ValueError for one that we have none for."""
    if value not in known:
        raise ValueError(f"{name}={value!r}: this model has one of {', '.join(map(repr, known))} there")
    return known[value]


def differing(a, b) -> list[tuple[str, object, object]]:
    """(name, a's, b's) of the fields in which two configurations of one kind differ."""
    pairs = ((field.name, getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    return [(name, mine, other) for name, mine, other in pairs if mine != other]


def refuse_another(path: Path, preset: str, differs: list[tuple[str, object, object]]) -> None:
    """ValueError naming the fields in which a published model is not its preset's, if there are any."""
    if differs:
        has = ", ".join(f"{name}={mine!r} for {other!r}" for name, mine, other in differs)
        raise ValueError(f"{path} is another model than {preset}, which has {has}")


def gathered(state: dict[str, Tensor], model: nn.Module, sources: dict[str, tuple[str, ...]],
             unused: str = "$^") -> dict[str, Tensor]:
    """Our float32 state dict, each weight joined from theirs.

    sources: our name -> their names.  unused: a regular expression for names of theirs that have no use.
    ValueError, in one line, names what is missing, unexpected or misshapen."""
    own, found = model.state_dict(), {}
    wanted = {k: sources[k] for k in own if k in sources}
    known = {name for names in wanted.values() for name in names}
    wrong = [f"{name} is unexpected" for name in state if name not in known and not re.match(unused, name)]
    wrong += [f"{name} is missing" for name in sorted(known - state.keys())]
    for k, names in wanted.items() if known <= state.keys() else ():
        v = torch.cat([state[name].float() for name in names])
        width_1 = own[k].ndim == 2 and v.shape[2:] == (1, 1)     # a convolution of width 1 is a linear layer
        found[k] = v.flatten(1) if width_1 else v
        there, shape = list(found[k].shape), list(own[k].shape)
        if there != shape:
            wrong.append(f"{' and '.join(names)} is {there}, should be {shape}")
    if wrong:
        more = f" (and {len(wrong) - 8} more)" * (len(wrong) > 8)
        raise ValueError(f"these weights are of another model: {'; '.join(wrong[:8])}{more}")
    return {k: found.get(k, v) for k, v in own.items()}          # counts of a codebook's use are in no file
