"""What every data set returns per example: one image, one caption, one label.

Shapes, photographs and folders share this one small interface, so the trainer never asks where an image
came from. A data set is any object with `classes` (tuple of names, () if none), `size` (S), `__len__` and
`example(index, generator) -> Example`.
"""
from typing import NamedTuple

from torch import Tensor

ENDLESS = 2**62                 # len() of a data set that is drawn afresh for ever


class Example(NamedTuple):
    """One image with its caption and its label."""
    image: Tensor               # [3 S S] uint8, 0..255
    caption: str
    label: int                  # index into the data set's classes, -1 = none
