"""The two parts of a pipeline that come in several kinds: what reads captions,
and what stands between pixels and model space."""
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class TextEncoder(Protocol):
    """B captions -> (text, mask), as Cond holds them.  "" is no caption: an all-False mask."""
    kind: str                    # what it reads: "text", "label", or "none" (a model without a condition)

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor | None, Tensor | None]:
        """(ids [B L] or features [B L D], mask [B L] bool), ([B 1] labels, [B 1] bool), or (None, None)."""


class Codec(Protocol):
    """An autoencoder: images [B 3 H W] in [-1, 1] <-> what the model denoises,
    tokens [B N] or latents [B C h w]."""

    @property
    def size(self) -> int:
        """Pixels along each side of its images."""

    @property
    def cell(self) -> int:
        """Pixels along each side of what one token or latent stands for."""

    def open(self) -> None:
        """Read it from disk now, so that what is missing is said before the first step."""

    def encode(self, images: Tensor) -> Tensor:
        """Images of any size in model space."""

    def decode(self, x0: Tensor) -> Tensor:
        """Images [B 3 size size]."""
