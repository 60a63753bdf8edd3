"""A picture to start from: inpainting and image-to-image as one small noun."""
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Edit:
    """A picture to start from: paint around the pixels to keep,
    or noise it a little and walk home from there."""
    image: Tensor                           # [B or 1, 3 H W] in [-1, 1], any size
    keep: Tensor | None = None  # [B or 1, 1 H W] bool, True = keep this pixel (inpainting); None = none
    # of the noise to start from, above 0: 1 = nothing but noise, 0.5 = from the middle of the way
    strength: float = 1.0

    def __post_init__(self):
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength={self.strength}: choose a number above 0, at most 1")
        if self.image.ndim != 4 or self.image.shape[1] != 3 or not self.image.abs().amax() <= 1.001:
            raise ValueError(f"image {list(self.image.shape)}: give it as [B 3 H W] in [-1, 1]")
        if self.keep is not None and (self.keep.dtype != torch.bool
                                      or self.keep.shape[1:] != (1, *self.image.shape[2:])):
            raise ValueError(f"keep {list(self.keep.shape)} {self.keep.dtype}: give it as bool [B 1 H W] at "
                             "the size of the image")

    def at(self, batch: int, size: Sequence[int], device) -> "Edit":
        """The same edit for a batch of pictures of another size (H, W);
        a pixel is kept where all it is made of is."""
        image = F.interpolate(self.image, tuple(size), mode="bilinear", antialias=True)
        keep = (
            None
            if self.keep is None
            else F.interpolate(self.keep.float(), tuple(size), mode="bilinear", antialias=True) > 0.999
        )
        return replace(self, image=_repeated(image, batch, "image").to(device),
                       keep=None if keep is None else _repeated(keep, batch, "keep").to(device))


def given(image: Tensor, keep: Tensor) -> Tensor:
    """cond.known [B 4 H W] from pictures [B 3 H W] and the pixels to show of them [B 1 H W] bool: those
    pixels, 0 elsewhere, and where they are."""
    return torch.cat([image * keep, keep.to(image)], dim=1)


def _repeated(images: Tensor, batch: int, name: str) -> Tensor:
    """[1 or B, C H W] -> [B C H W]"""
    if images.ndim != 4 or len(images) not in (1, batch):
        raise ValueError(f"{name} {list(images.shape)} for {batch} pictures: give one for all, or one each")
    return images.expand(batch, -1, -1, -1)
