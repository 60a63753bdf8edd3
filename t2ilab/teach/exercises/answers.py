"""What the checkers of all lessons share: numbers, words, and answers that are functions."""
import torch

from ...diffusion.cond import Cond, Prediction


def call(function, *given):
    """What an answer returns, or None if it is no function."""
    return function(*given) if callable(function) else None


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


def echo(x_t, t, cond):
    """A denoiser whose x_0 is x_t times the number that is its text."""
    return Prediction(x_t * cond.text.view(-1, 1, 1, 1))


def labelled(*numbers):
    """For each number a Cond of batch 2 that has it as its text."""
    return [Cond(torch.full((2, 1), number), torch.ones(2, 1, dtype=torch.bool)) for number in numbers]


def line(start, end):
    """[9] float64, evenly from start to end."""
    return torch.linspace(start, end, 9, dtype=torch.float64)
