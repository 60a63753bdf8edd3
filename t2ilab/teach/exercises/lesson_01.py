"""Checkers of lesson 01: data analysis."""
import torch

from .answers import call, exactly


def normalises(function):
    """A checker for a function uint8 -> float32 in [-1, 1]."""
    u = torch.arange(256, dtype=torch.uint8)
    x = call(function, u)
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
        return "return a float32 tensor: make floats of u before you divide"
    if not torch.allclose(x, torch.linspace(-1, 1, 256), atol=1e-6):
        return "0 must become -1, 255 must become 1, evenly in between"


EXERCISES = {
    "01a": exactly(648, hint="multiply the number of choices; a position has five words, or is not stated"),
    "01b": normalises,
    "01c": exactly([2, 7], hint="a caption that is wholly true scores 1; "
                                "collect the indices of the pictures that score less"),
}
