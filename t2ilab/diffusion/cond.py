"""What a network sees besides x_t and t (`Cond`), and what it says (`Prediction`):
the two nouns that every family shares.

"No caption" is an all-False mask. Left out: what the network is, and where captions come from.
"""
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """What the network thinks: the clean picture, and how noisy the next draw should be."""
    x0: Tensor                   # [B C H W] in about [-1, 1]
    var: Tensor | None = None    # [B C H W] interpolation in [0, 1] (iDDPM Eq. 15); None: q's own variance


@dataclass(frozen=True)
class Cond:
    """All the network may see besides x_t and t."""
    text: Tensor | None = None  # [B L] int64 token ids, [B L D] their features, or [B 1] int64 class labels
    mask: Tensor | None = None       # [B L] bool, True = a real token; all False = no caption
    low_res: Tensor | None = None    # [B 3 H W] in [-1, 1], already at this stage's size
    aug: Tensor | None = None        # [B] in 0..1: how far low_res was noised
    known: Tensor | None = None  # [B 4 H W]: pixels that are given (0 elsewhere), then 1 where they are given

    def map(self, f) -> "Cond":
        """The same condition with f applied to every tensor in it."""
        return Cond(*(None if (v := getattr(self, k.name)) is None else f(v) for k in fields(self)))

    def null(self) -> "Cond":
        """The condition with its caption taken away: what "unconditional" means here."""
        return self if self.mask is None else replace(self, mask=torch.zeros_like(self.mask))

    def drop(self, p: float, generator=None) -> "Cond":
        """Take the caption away from a share p of the batch,
        so that one network learns both with and without."""
        if self.mask is None or p == 0:
            return self
        keep = torch.rand(len(self.mask), 1, generator=generator) >= p
        return replace(self, mask=self.mask & keep.to(self.mask.device))

    def beside(self, other: "Cond") -> "Cond":
        """Both conditions in one batch [2B ...]: this one first."""
        return Cond(*(None if (v := getattr(self, k.name)) is None else torch.cat([v, getattr(other, k.name)])
                      for k in fields(self)))


def conditioned(net, cond: Cond) -> Cond:
    """The condition as a network wants it at every step: what does not depend on x_t is worked out once, by
    net.condition if it has one."""
    return net.condition(cond) if hasattr(net, "condition") else cond
