"""Checkers of lesson 07: a codec."""
import torch
import torch.nn.functional as F

from ...data.loaders import stream
from ...data.shapes import Scenes
from .answers import call


def rounds_through(function):
    """A checker for a straight-through estimator: x -> x rounded to whole numbers, with a gradient of 1."""
    x = torch.tensor([-1.7, -0.2, 0.4, 2.6], requires_grad=True)
    y = call(function, x)
    if not isinstance(y, torch.Tensor) or not torch.allclose(y, x.round()):
        return "going forward, return x.round()"
    if not y.requires_grad:
        return "no gradient passes: it has to come from x itself, and the rest must have none"
    (slope,) = torch.autograd.grad(y.sum(), x)
    if not torch.allclose(slope, torch.ones_like(x)):
        return f"the slope is {slope.tolist()}, and should be 1 everywhere"


def counts_evenly(function):
    """A checker for a function (codes, K) -> perplexity."""
    evenly, one = torch.arange(12).view(3, 4) % 4, torch.zeros(5, dtype=torch.int64)
    for codes, K, wanted in ((evenly, 4, 4.0), (one, 9, 1.0), (torch.tensor([0, 0, 1]), 3, 1.8899)):
        answer = call(function, codes, K)
        if answer is None or not abs(float(answer) - wanted) < 1e-3:
            return f"for codes {codes.flatten().tolist()} of {K} it should be {wanted:.4g}, not {answer}"


def renumbers(function):
    """A checker for (entries [K D], in_use) -> table [K]: place in in_use of a code or of its nearest."""
    entries = torch.tensor([0.0, 1.0, 4.0, 0.4, 5.0, 9.0, 7.5, 2.1])[:, None]
    in_use = [1, 2, 5]
    table = call(function, entries, in_use)
    if not isinstance(table, torch.Tensor) or table.shape != (8,) or table.dtype != torch.int64:
        return "return an int64 tensor with a new number for each old code"
    if table[in_use].tolist() != [0, 1, 2]:
        return f"the codes {in_use} are in use: they should become 0, 1, 2, not {table[in_use].tolist()}"
    wrong = [k for k, wanted in enumerate([0, 0, 1, 0, 1, 2, 2, 0]) if table[k] != wanted]
    if wrong:
        return f"code {wrong[0]} is not in use: which of the used entries is nearest to its own?"


def beats_tiles(answer):
    """A checker for a linear codec of tiles, (mean [192], basis [192 8]): over 24 dB on fresh scenes."""
    is_pair = isinstance(answer, tuple) and len(answer) == 2
    if not (is_pair and all(isinstance(v, torch.Tensor) for v in answer)):
        return "give a tuple of two tensors: the mean tile [192] and the basis [192, 8]"
    mean, basis = (v.detach().float() for v in answer)
    if mean.shape != (192,) or basis.shape != (192, 8):
        return f"the shapes are {list(mean.shape)} and {list(basis.shape)}, and should be [192] and [192, 8]"
    if not torch.allclose(basis.T @ basis, torch.eye(8), atol=1e-3):
        return "the columns are not orthonormal: B.T @ B should be the identity"
    images = next(stream(Scenes(size=64), batch_size=64, seed=77)).images
    x = F.pixel_unshuffle(images, 8).movedim(1, -1)                          # [64 8 8 192]
    back = mean + (x - mean) @ basis @ basis.T
    decibels = -10 * ((back - x).square().mean() / 4).log10().item()
    if decibels <= 24:
        return f"{decibels:.1f} dB, and 24 are to be beaten: which directions vary most from tile to tile?"


EXERCISES = {
    "07a": rounds_through,
    "07b": counts_evenly,
    "07c": renumbers,
    "07d": beats_tiles,
}
