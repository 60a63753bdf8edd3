"""Protocols of a pipeline's parts that come in several kinds: text encoder and autoencoder."""
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class TextEncoder(Protocol):
    """Text encoder: B captions -> (text, mask), as Cond holds them.

    "" is no caption: an all-False mask."""

    @property
    def kind(self) -> str:
        """What it reads: "text", "label", or "none" (unconditional)."""

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor | None, Tensor | None]:
        """(ids [B L] or features [B L D], mask [B L] bool), ([B 1] labels, [B 1] bool) or Nones."""


class Codec(Protocol):
    """An autoencoder between images and what the model denoises.

    Images [B 3 H W] in [-1, 1] <-> tokens [B N] or latents [B C h w]."""

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
