"""The first half of VQ-Diffusion (Gu et al. 2022): a codec that turns pictures into a grid of codes, trained before anything is drawn, then frozen.

VQGAN (Esser et al. 2021). The network is vqgan/networks.py, the losses are vqgan/objective.py.
"""
import torch
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from torch import Tensor

from ..diffusion.cond import Cond
from ..vqgan.networks import VQGANConfig
from ..vqgan.objective import CodecLossConfig, CodecObjective


@dataclass(frozen=True)
class VQCodec:
    size: int = 256                          # pixels, H = W
    net: VQGANConfig = field(default_factory=VQGANConfig)
    loss: CodecLossConfig = field(default_factory=CodecLossConfig)

    def __post_init__(self):
        if self.size % self.net.factor:
            raise ValueError(f"size={self.size}: choose a multiple of {self.net.factor}, the side of a code's cell in pixels")

    @property
    def grid(self) -> int:
        """Codes along each side of a picture."""
        return self.size // self.net.factor

    def build(self) -> "Reconstruction":
        """The codec with all that trains it, with random weights."""
        return Reconstruction(CodecObjective(self.net, self.loss), self.size)

    def for_data(self, dataset) -> "VQCodec":
        """The same model: a codec reads no captions."""
        return self

    def example(self, batch, generator=None):
        """(x0 [B 3 H W] in [-1, 1], nothing) from a batch of images."""
        return batch.images, Cond()

    def probe(self, batch):
        """(captions, options) of a run that shows how training is going."""
        return len(batch.images), {"picture": batch.images}


@dataclass(frozen=True)
class Reconstruction:
    """Pictures in, the same pictures out, through codes: how a codec stands where models that draw stand."""
    model: CodecObjective
    size: int
    stages: tuple = ()
    encode_text: None = None

    @torch.no_grad()
    def walk(self, captions=1, seed: int = 0, *, picture: Tensor | None = None, negative=None, edit=None) -> Iterator[tuple[str, Tensor]]:
        """("codes", [B h w]), then ("image", [B 3 H W]).  picture: [B 3 H W] in [-1, 1].  Captions and seed change nothing; ValueError for an edit."""
        if negative is not None or edit is not None:
            raise ValueError("a codec reads no captions and changes nothing on purpose: give it a picture alone (picture=, --picture)")
        if picture is None:
            raise ValueError("a codec paints pictures again and draws none itself: give it one (picture=, --picture)")
        codes = self.model.codec.encode(fitted(picture, self.size).to(self.model.seen.device))
        yield "codes", codes
        yield "image", self.model.codec.decode(codes).clamp(-1, 1)

    def __call__(self, captions=1, seed: int = 0, **options) -> Tensor:
        """Pictures [B 3 H W] in [-1, 1]: the last value of the walk."""
        *_, (_, image) = self.walk(captions, seed, **options)
        return image

    def with_model(self, model: CodecObjective) -> "Reconstruction":
        """The same with other weights."""
        return replace(self, model=model)

    def to(self, device) -> "Reconstruction":
        """This with its networks moved."""
        self.model.to(device)
        return self



def fitted(images: Tensor, size: int) -> Tensor:
    """Pictures [B 3 H W] at a codec's size."""
    if images.shape[-2:] == (size, size):
        return images
    return torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True).clamp(-1, 1)
