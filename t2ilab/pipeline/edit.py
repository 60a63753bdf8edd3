"""Edits: inpainting and image-to-image, as one small noun."""
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Edit:
    """An image to start from: inpaint around kept pixels, or noise it partly and denoise."""
    image: Tensor                # [B or 1, 3 H W] in [-1, 1], any size
    keep: Tensor | None = None   # [B or 1, 1 H W] bool, True = keep (inpainting); None = none
    strength: float = 1.0        # of the starting noise, in (0, 1]: 1 = all, 0.5 = half way

    def __post_init__(self):
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength={self.strength}: choose a number above 0, at most 1")
        image, keep = self.image, self.keep
        if image.ndim != 4 or image.shape[1] != 3 or not image.abs().amax() <= 1.001:
            raise ValueError(f"image {list(image.shape)}: give it as [B 3 H W] in [-1, 1]")
        size = (1, *image.shape[2:])
        if keep is not None and (keep.dtype != torch.bool or keep.shape[1:] != size):
            raise ValueError(f"keep {list(keep.shape)} {keep.dtype}: "
                             "give it as bool [B 1 H W] at the size of the image")

    def at(self, batch: int, size: Sequence[int], device) -> "Edit":
        """The same edit for `batch` images of another size (H, W), on a device.

        A pixel is kept where all it is made of is.
        ValueError unless there is one image for all, or one each."""
        image = _resized(self.image, size)
        keep = None if self.keep is None else _resized(self.keep.float(), size) > 0.999
        image = repeated(image, batch, "image").to(device)
        if keep is not None:
            keep = repeated(keep, batch, "keep").to(device)
        return replace(self, image=image, keep=keep)


def given(image: Tensor, keep: Tensor) -> Tensor:
    """cond.known [B 4 H W]: the kept pixels of an image, 0 elsewhere, then 1 where they are kept.

    image: [B 3 H W] in [-1, 1].  keep: [B 1 H W] bool."""
    return torch.cat([image * keep, keep.to(image)], dim=1)


def _resized(images: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(images, tuple(size), mode="bilinear", antialias=True)


def repeated(images: Tensor, batch: int, name: str) -> Tensor:
    """[1 or B, C H W] -> [B C H W]"""
    if images.ndim != 4 or len(images) not in (1, batch):
        raise ValueError(f"{name} {list(images.shape)} for {batch} pictures: "
                         "give one for all, or one each")
    return images.expand(batch, -1, -1, -1)
