"""What every data set hands out: one picture, one caption, one label.

Shapes, photographs and folders all speak this one small language, so the trainer never asks where a picture
came from. A data set is any object with `classes` (tuple of names, () if none), `size` (S), `__len__` and
`example(index, generator) -> Example`.
"""
from typing import NamedTuple

from torch import Tensor

ENDLESS = 2**62                 # len() of a data set that is drawn afresh for ever


class Example(NamedTuple):
    """One picture with its caption and its label. image: [3 S S] uint8, 0..255. label: index into the data
    set's classes, -1 = none."""
    image: Tensor
    caption: str
    label: int
