"""Condition (`Cond`) and prediction (`Prediction`): network inputs besides x_t and t, its output.

Every family shares these two. "No caption" is an all-False mask.
Left out: what the network is, and where captions come from.
"""
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """The denoiser's output: the predicted x_0, and the variance of the next step."""
    x0: Tensor                   # [B C H W] in about [-1, 1]
    var: Tensor | None = None    # [B C H W] interpolation in [0, 1] (iDDPM Eq. 15); None = q's own


@dataclass(frozen=True)
class Cond:
    """The condition: all the network may see besides x_t and t."""
    text: Tensor | None = None       # [B L] int64 ids, [B L D] features or [B 1] int64 labels
    mask: Tensor | None = None       # [B L] bool, True = a real token; all False = no caption
    low_res: Tensor | None = None    # [B 3 H W] in [-1, 1], already at this stage's size
    aug: Tensor | None = None        # [B] in 0..1: how far low_res was noised
    known: Tensor | None = None      # [B 4 H W]: known pixels (0 elsewhere), then 1 where known

    def map(self, f) -> "Cond":
        """The same condition with f applied to every tensor in it."""
        values = (getattr(self, field.name) for field in fields(self))
        return Cond(*(None if v is None else f(v) for v in values))

    def null(self) -> "Cond":
        """The null condition, without its caption: what "unconditional" means here."""
        return self if self.mask is None else replace(self, mask=torch.zeros_like(self.mask))

    def drop(self, p: float, generator=None) -> "Cond":
        """Condition dropout: a share p of the batch loses its caption.

        So one network learns both with and without.  Without captions it stays as it is."""
        if self.mask is None or p == 0:
            return self
        keep = torch.rand(len(self.mask), 1, generator=generator) >= p
        return replace(self, mask=self.mask & keep.to(self.mask.device))

    def beside(self, other: "Cond") -> "Cond":
        """Both conditions in one batch [2B ...]: this one first."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Cond(*(None if a is None else torch.cat([a, b]) for a, b in pairs))


def conditioned(net, cond: Cond) -> Cond:
    """The condition as a network wants it at every step.

    What does not depend on x_t is computed once, by net.condition if the network has one."""
    return net.condition(cond) if hasattr(net, "condition") else cond
