"""Imagen (Saharia et al. 2022): a frozen language model reads the caption, a small picture is drawn from it, and further stages enlarge that.

In the paper's order: the frozen text encoder, guidance with large scales and the thresholding that it needs, the cascade with noise conditioning
augmentation, the Efficient U-Net of the stages that enlarge. Text cross-attention and pooled text are nets/text_pooling.py's tokens.
"""
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from ..diffusion.constraints import THRESHOLDS
from ..diffusion.cond import Cond
from ..diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from ..diffusion.gaussian import GaussianDiffusion
from ..diffusion.sampling import SAMPLERS
from ..diffusion.schedules import SCHEDULES
from ..nets.efficient_unet import EfficientUNet, EfficientUNetConfig
from ..nets.text_pooling import TextReader
from ..nets.unet import UNet, UNetConfig
from ..pipeline.stage import Stage
from ..pipeline.walk import TextToImage
from ..text.frozen_encoder import FrozenEncoder
from .glide import shrink

# The paper's base, 64 px.
BASE = UNetConfig(channels=512, mults=(1, 2, 3, 4), blocks=3, attention=(False, True, True, True), head_channels=64, film=True, dropout=0.0,
                  text_width=512)


class ReadCond(Cond):
    """A condition whose text the TextReader has turned into tokens."""


class ImagenNet(nn.Module):
    """A U-Net and the reader that tells it what the language model said.  Same call as a U-Net's, with cond.text as the encoder's features."""

    def __init__(self, reader: TextReader, unet: nn.Module):
        super().__init__()
        self.reader, self.unet = reader, unet

    def condition(self, cond: Cond) -> ReadCond:
        """Features [B L E] to tokens [B 1+L+1 D]. Once a sampling run is enough: they do not depend on x_t."""
        tokens, mask = self.reader(cond.text, cond.mask)
        return replace(ReadCond(**vars(cond)), text=tokens, mask=mask)

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.unet(x, t, cond if isinstance(cond, ReadCond) else self.condition(cond))


@dataclass(frozen=True)
class Imagen:
    size: int = 64                               # pixels, H = W
    low_res: int = 0                             # pixels of the picture it enlarges; 0 = it draws from the caption alone
    augmentation: float = 0.1                    # how far sampling noises that picture: 0 = not at all, 1 = to nothing; training draws from 0..1
    crop_size: int = 0                           # train on random squares of so many pixels; 0 = whole pictures
    encoder: str = "google/t5-v1_1-xxl"          # language model: a shipped one's name, a folder, or a name on the Hugging Face hub
    encoder_width: int = 4096                    # E of its features
    text_length: int = 256                       # L: tokens; longer captions are cut; fixed once trained
    cache: bool = True                           # keep features on disk; off for captions that never come twice
    net: Annotated[UNetConfig | EfficientUNetConfig, tyro.conf.AvoidSubcommands] = BASE
    schedule: str = "cosine"                     # cosine (base) or linear
    low_res_schedule: str = "linear"             # of the noise on the picture it enlarges
    T: int = 1000                                # noising steps
    objective: ObjectiveConfig = ObjectiveConfig(drop=0.1)
    sampler: str = "ancestral"                   # ancestral, ddim or dpm_solver_pp_2m
    sampling_steps: int = 250                    # network calls a picture
    guidance_scale: float = 7.0                  # 1 = off, 0 = unconditional
    threshold: str = "dynamic"                   # of x0_hat while sampling: none, static (cut at 1) or dynamic (shrink until it fits)
    percentile: float = 0.995                    # share of a picture's values that dynamic thresholding shrinks to fit

    def __post_init__(self):
        for name, allowed in {"schedule": SCHEDULES, "low_res_schedule": SCHEDULES, "sampler": SAMPLERS, "threshold": THRESHOLDS}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        if not 0 <= self.low_res < self.size or not 0 <= self.crop_size <= self.size or not 0 <= self.augmentation <= 1:
            raise ValueError(f"low_res={self.low_res}, crop_size={self.crop_size}, augmentation={self.augmentation}: "
                             f"choose low_res below size={self.size}, crop_size up to it, augmentation in [0, 1]")
        if self.low_res and isinstance(self.net, UNetConfig):
            raise ValueError(f"low_res={self.low_res}: a stage that enlarges has an EfficientUNetConfig as its net")
        if self.net.text_width < 1 or getattr(self.net, "classes", 0):
            raise ValueError(f"text_width={self.net.text_width}: Imagen reads captions, no labels: classes=0, text_width > 0")
        THRESHOLDS[self.threshold](self.percentile)

    def build(self) -> TextToImage:
        """The pipeline of this one stage, with random weights."""
        channels = {"in_channels": 6 if self.low_res else 3, "out_channels": 6 if self.objective.variance == "learned" else 3}
        unet = (UNet if isinstance(self.net, UNetConfig) else EfficientUNet)(self.net, **channels)
        net = ImagenNet(TextReader(self.encoder_width, self.net.text_width, self.text_length), unet)
        denoiser = GaussianDenoiser(net, GaussianDiffusion(SCHEDULES[self.schedule](self.T)), self.objective)
        stage = Stage(denoiser, (3, self.size, self.size), self.sampling_steps, self.guidance_scale, THRESHOLDS[self.threshold](self.percentile),
                      SAMPLERS[self.sampler], enlarge=partial(self._enlarge, share=self.augmentation) if self.low_res else None)
        return TextToImage(self.language_model, (stage,))

    @cached_property
    def language_model(self) -> FrozenEncoder:
        """What reads the captions; its weights are loaded with the first caption."""
        return FrozenEncoder(self.encoder, self.text_length, width=self.encoder_width, cache=self.cache)

    def _enlarge(self, images: Tensor, generator=None, share: float | None = None) -> dict[str, Tensor]:
        diffusion = GaussianDiffusion(SCHEDULES[self.low_res_schedule](self.T))
        return augmented(images, generator, small=self.low_res, size=self.size, diffusion=diffusion, share=share)

    def for_data(self, dataset) -> "Imagen":
        """The same model: a frozen encoder learns nothing from a data set."""
        return self

    def after(self, first: "Imagen") -> "Imagen":
        """The same model as the stage that enlarges what another one draws."""
        return replace(self, low_res=first.size, encoder=first.encoder, encoder_width=first.encoder_width, text_length=first.text_length, cache=first.cache)

    def example(self, batch, generator: torch.Generator):
        """(x0 [B 3 H W] in [-1, 1], Cond) from a batch of images and captions."""
        text, mask = self.language_model(batch.captions)
        x0, seen = batch.images, self._enlarge(batch.images, generator) if self.low_res else {}
        if self.crop_size:
            x0, *low_res = cropped((x0, *([seen["low_res"]] if seen else [])), self.crop_size, generator)
            seen = seen | ({"low_res": low_res[0]} if seen else {})
        return x0, Cond(text, mask, **seen)

    def probe(self, batch):
        """(captions, options) of a sampling run that shows how training is going."""
        return batch.captions, {"picture": batch.images} if self.low_res else {}


def augmented(images: Tensor, generator=None, *, small: int, size: int, diffusion: GaussianDiffusion, share: float | None = None) -> dict[str, Tensor]:
    """What a stage sees of the picture it enlarges: small, smoothly enlarged, and noised by a known amount, in [-1, 1] like every picture.

    images: [B 3 h w].  share: of the noise, 0..1, as in sampling; None draws one a picture, as in training.
    Returns cond's low_res [B 3 size size] and aug [B].  Lesson: notebooks/06_imagen.ipynb"""
    low = F.interpolate(shrink(images, small) if images.shape[-1] > small else images, (size, size), mode="bilinear", align_corners=False)
    shares = torch.rand(len(images), generator=generator) if share is None else torch.full((len(images),), float(share))
    t = (shares * diffusion.T).round().long()                                               # [B] in 0..T
    return {"low_res": diffusion.diffuse(low, t, generator), "aug": (t / diffusion.T).to(low)}     # Imagen noise conditioning augmentation


def cropped(pictures: tuple[Tensor, ...], side: int, generator: torch.Generator) -> list[Tensor]:
    """One random square of so many pixels of every picture, the same place in each tensor: [B C H W] -> [B C side side]."""
    B, _, H, W = pictures[0].shape
    top, left = (torch.randint(0, n - side + 1, (B,), generator=generator).tolist() for n in (H, W))
    return [torch.stack([picture[:, y:y + side, x:x + side] for picture, y, x in zip(batch, top, left)]) for batch in pictures]
