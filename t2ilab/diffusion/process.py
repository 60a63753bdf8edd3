"""Forward processes: what all have in common, and all that the sampling loop asks of one.

Two exist: `GaussianDiffusion` (pixels or latents, DDPM's or rectified flow's) and
`MaskReplaceDiffusion` (tokens). t = 0 is data, t = T is (almost) pure noise.
Left out: networks, and where captions come from.
"""
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from ..tensors import Source


class Process(Protocol):
    """A forward process: noise in one jump, and a draw of x_s from x_t for any s < t.

    x0: [B ...], t, s: numbers or [B], 0..T."""

    @property
    def T(self) -> int:
        """Number of noising steps that training knows."""

    def times(self, n: int) -> Sequence[float]:
        """The n + 1 falling times, T first and 0 last, that a sampler of n steps visits."""

    def prior(self, shape, *, device="cpu", generator: Source = None) -> Tensor:
        """x_T of the given shape."""

    def diffuse(self, x0: Tensor, t, generator: Source = None) -> Tensor:
        """One draw of x_t ~ q(x_t | x_0)."""

    def step(self, pred, x_t: Tensor, t, s, generator: Source = None) -> Tensor:
        """One draw of x_s ~ p(x_s | x_t), with the network's Prediction in place of x_0."""

    def keep(self, x0: Tensor, known: Tensor) -> Callable[[Tensor], Tensor]:
        """Inpainting: the constraint that puts known parts of x0 back into a prediction.

        known: [B 1 H W] bool, True = keep."""


# A step is Process.step or another with its arguments; a sampler makes one, so that a solver with a
# memory starts each run anew.  Any: not all take every process; DDIM and DPM-Solver++ are for
# Gaussian ones.
Step = Callable[..., Tensor]
Sampler = Callable[[Any], Step]
