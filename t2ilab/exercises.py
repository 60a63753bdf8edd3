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

# Lesson 02: noising

# Lesson 03: DDPM

# Lesson 04: faster sampling

EXERCISES = {
    # Lesson 01
    # Lesson 02
    # Lesson 03
    # Lesson 04
}
