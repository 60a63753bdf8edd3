"""t2ilab: learn how text-to-image diffusion works, then keep using what you learned with.

`load` a trained run and call it; `train` a preset; everything else is in the modules, one idea a file. Importing this costs almost nothing.
"""
__version__ = "0.1.0"
__all__ = ["load", "train"]


def __getattr__(name: str):
    if name in __all__:
        from . import runs
        return getattr(runs, name)
    raise AttributeError(f"module 't2ilab' has no attribute {name!r}")
