"""t2ilab: learn how text-to-image diffusion works, then keep using what you learned with.

`load` a trained run and call it, or `sample` and `sample_class` in one call; `train` a preset; everything else is in the
modules, one idea a file. Importing this costs almost nothing.
"""
__version__ = "0.1.0"
__all__ = ["load", "sample", "sample_class", "train"]


def __getattr__(name: str):
    if name in __all__:
        from . import drawing, runs
        return getattr(drawing if name.startswith("sample") else runs, name)
    raise AttributeError(f"module 't2ilab' has no attribute {name!r}")
