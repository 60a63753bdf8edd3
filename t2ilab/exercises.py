"""The answers to the exercises, as functions that look at an answer and say what is wrong with it.

`check("03a", answer)` calls EXERCISES["03a"](answer): None means right, a sentence is a hint that does not give the answer away.
A checker tests a property where it can (does your function invert itself?), and compares with a number where it must.
"""
import torch


def near(target, *, within: float, hint: str):
    """A checker for a number or a tensor: right when every entry is at most `within` away from target."""
    target = torch.as_tensor(target, dtype=torch.float64)

    def checker(answer):
        answer = torch.as_tensor(answer, dtype=torch.float64)
        right = answer.shape == target.shape and bool(((answer - target).abs() <= within).all())
        return None if right else hint
    return checker


def exactly(target, *, hint: str):
    """A checker for words, whole numbers, lists and sets: right when equal."""
    return lambda answer: None if type(answer) is type(target) and answer == target else hint


# Lesson 01: data analysis

def normalises(function):
    """A checker for a function uint8 -> float32 in [-1, 1]."""
    u = torch.arange(256, dtype=torch.uint8)
    x = function(u) if callable(function) else None
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
        return "return a float32 tensor: make floats of u before you divide"
    return None if torch.allclose(x, torch.linspace(-1, 1, 256), atol=1e-6) else "0 must become -1, 255 must become 1, evenly in between"


# Lesson 02: noising

# Lesson 03: DDPM

# Lesson 04: faster sampling

EXERCISES = {
    # Lesson 01
    "01a": exactly(648, hint="multiply the number of choices; a position has five words, or is not stated"),
    "01b": normalises,
    "01c": exactly([2, 7], hint="a caption that is wholly true scores 1; collect the indices of the pictures that score less"),
    # Lesson 02
    # Lesson 03
    # Lesson 04
}
