"""t2ilab: learn how text-to-image diffusion works, then keep using what you learned with.

`load` a trained run and call it, or `sample` and `sample_class` in one call; `train` a preset, by its name
too, step by step; `evaluate` a run; `export` it into a small folder.
All else is in the modules, one idea a file.
"""
from typing import TYPE_CHECKING

__version__ = "0.2.0"
__all__ = ["evaluate", "export", "load", "sample", "sample_class", "train"]

if TYPE_CHECKING:                       # what editors see; at run time each is imported when first asked for
    from .runs.evaluate import evaluate
    from .runs.export import export_run as export
    from .runs.load import load
    from .runs.sample import sample, sample_class
    from .runs.train import train


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 't2ilab' has no attribute {name!r}")
    from importlib import import_module
    elsewhere = {"sample_class": ("sample", name), "export": ("export", "export_run")}
    home, function = elsewhere.get(name, (name, name))
    return getattr(import_module(f".runs.{home}", __name__), function)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
