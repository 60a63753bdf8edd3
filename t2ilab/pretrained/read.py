"""Files of published weights, read as data: nothing in them is ever executed."""
import pickle
import struct
from pathlib import Path

import torch

DAMAGE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error)


def read_pickled(path: str | Path):
    """What a .pt or .pth file holds, tensors on the CPU.  FileNotFoundError or ValueError in one line; the file's name is in it."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise ValueError(f"{path}: no file of weights alone ({(str(error).splitlines() or [type(error).__name__])[0]})") from error
