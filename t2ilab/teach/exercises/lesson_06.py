"""Checkers of lesson 06: Imagen."""
import torch

from ...text.span_corruption import cut_out
from .answers import call, near


def repairs(function):
    """A checker for (inputs, targets, sentinels) -> ids: undo span corruption."""
    text, sentinels = torch.tensor([5, 7, 5, 6, 9, 5, 8, 7]), [90, 91, 92, 93]
    for spans in ([(2, 4)], [(0, 1), (3, 5)], [(1, 2), (4, 5), (6, 8)], [(0, 8)], []):
        inputs, targets = cut_out(text, spans, sentinels)
        ids = call(function, inputs, targets, sentinels)
        if not isinstance(ids, torch.Tensor) or ids.dtype != torch.int64 or ids.ndim != 1:
            return "return a one-dimensional tensor of int64"
        if not ids.equal(text):
            return (f"from {inputs.tolist()} and {targets.tolist()} comes {ids.tolist()}, "
                    f"and the text was {text.tolist()}")


def sees_the_bug(function):
    """A checker for (v, ab) -> (mean, std) of a pixel noised in [0, 1] and mapped to [-1, 1] afterwards."""
    for v, ab in ((0.0, 0.99), (1.0, 0.25), (-0.6, 0.5)):
        pair = call(function, v, ab)
        if not isinstance(pair, tuple) or len(pair) != 2:
            return "return two numbers, the mean and the standard deviation"
        if abs(float(pair[1]) - 2 * (1 - ab) ** 0.5) > 1e-6:
            return (f"for v={v:g}, ab={ab:g} the standard deviation is another: "
                    "what does the last line do to the noise?")
        if abs(float(pair[0]) - (ab**0.5 * (v + 1) - 1)) > 1e-6:
            return (f"for v={v:g}, ab={ab:g} the mean is another: "
                    "follow v through the three lines, without the noise")


EXERCISES = {
    "06a": repairs,
    "06b": sees_the_bug,
    "06c": near(152.6, within=0.5,
                hint="captions x tokens x numbers a token x 2 bytes, in units of 2**30 bytes"),
}
