"""VQGAN (Esser et al. 2021): an autoencoder of images to a grid of codes, trained first and then
frozen, for VQ-Diffusion (Gu et al. 2022) and latent diffusion.

The network is vqgan/networks.py, the losses are vqgan/objective.py.
"""
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..diffusion.cond import Cond
from ..ranges import check_ranges
from ..vqgan.networks import VQGANConfig
from ..vqgan.objective import VQGANLossConfig, VQGANObjective
from .base import FamilyConfig


@dataclass(frozen=True)
class VQGANRunConfig(FamilyConfig):
    """A VQGAN and what trains it: the codec of models that draw codes or latents."""
    size: int = 256                          # pixels, H = W
    net: VQGANConfig = field(default_factory=VQGANConfig)
    loss: VQGANLossConfig = field(default_factory=VQGANLossConfig)

    def __post_init__(self):
        check_ranges(self)
        if self.size % self.net.factor:
            raise ValueError(f"size={self.size}: choose a multiple of {self.net.factor}, the side "
                             "of a code's cell in pixels")

    needs_image = True

    @property
    def grid(self) -> int:
        """Codes along each side of an image."""
        return self.size // self.net.factor

    def build(self) -> VQGANObjective:
        """The codec with all that trains it, with random weights."""
        return VQGANObjective(self.net, self.loss)

    def pipeline(self, model: VQGANObjective | None = None) -> "Reconstruction":
        """From images to the same images, through codes."""
        return Reconstruction(model or self.build(), self.size)

    def to_training_pair(self, batch, generator=None):
        """(x0 [B 3 H W] in [-1, 1], no condition) from a batch of images."""
        return batch.images, Cond()


@dataclass(frozen=True)
class Reconstruction:
    """Reconstructs images through the VQGAN, behind the interface of Pipeline so that load,
    sample and evaluate work."""
    model: VQGANObjective
    size: int
    stages: tuple = ()
    encode_text: None = None

    @torch.no_grad()
    def walk(self, captions=1, seed: int = 0, *, low_res_image: Tensor | None = None,
             negative_prompt=None, edit=None, sources=None) -> Iterator[tuple[str, Tensor]]:
        """("codes", [B h w]), then ("image", [B 3 H W] in [-1, 1]).
        low_res_image: [B 3 H W] in [-1, 1].

        Captions and seed change nothing; ValueError for an edit, and without an image."""
        if negative_prompt is not None or edit is not None:
            raise ValueError("a codec reads no captions and changes nothing on purpose: give it a "
                             "picture alone (low_res_image=, --low-res-image)")
        if low_res_image is None:
            raise ValueError("a codec paints pictures again and draws none itself: give it one "
                             "(low_res_image=, --low-res-image)")
        images = fitted(low_res_image, self.size).to(self.model.seen.device)
        codes = self.model.codec.encode(images)
        yield "codes", codes
        yield "image", self.model.codec.decode(codes).clamp(-1, 1)

    def __call__(self, captions=1, seed: int = 0, **options) -> Tensor:
        """Images [B 3 H W] in [-1, 1]: the last value of the walk."""
        *_, (_, image) = self.walk(captions, seed, **options)
        return image

    def to(self, device) -> "Reconstruction":
        """This with its networks moved."""
        self.model.to(device)
        return self


def fitted(images: Tensor, size: int) -> Tensor:
    """Images [B 3 H W] resized to a codec's size, [B 3 size size] in [-1, 1]."""
    if images.shape[-2:] == (size, size):
        return images
    resized = torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return resized.clamp(-1, 1)
