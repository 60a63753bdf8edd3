"""Imagen (Saharia et al. 2022): text-to-image diffusion from the features of a frozen language
model: a base draws a small image, and further stages upsample it.

In the paper's order: the frozen text encoder, guidance with large scales and the thresholding that
it needs, the cascade with noise conditioning augmentation, the Efficient U-Net of the upsampling
stages. Text cross-attention and pooled text are nets/text_pooling.py's tokens.
"""
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from ..diffusion.cond import Cond
from ..diffusion.constraints import THRESHOLDS
from ..diffusion.gaussian import GaussianDiffusion, variance_preserving
from ..diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from ..diffusion.sampling import SAMPLERS
from ..diffusion.schedules import SCHEDULES
from ..nets.efficient_unet import EfficientUNet, EfficientUNetConfig
from ..nets.text_pooling import TextPooling
from ..nets.unet import UNet, UNetConfig
from ..pipeline.walk import Pipeline
from ..ranges import check_ranges
from ..tensors import Source
from ..text.find_encoder import find_encoder
from ..text.frozen_encoder import FrozenEncoder
from .base import FamilyConfig, check_choices, check_size, check_steps, pixel_stage
from .glide import shrink

# The paper's base, 64 px.
BASE = UNetConfig(
    channels=512, channel_mult=(1, 2, 3, 4), blocks=3, attention=(False, True, True, True),
    head_channels=64, scale_shift_norm=True, dropout=0.0, text_width=512)


class ImagenNet(nn.Module):
    """A U-Net and the text pooling between it and the language model."""

    def __init__(self, reader: TextPooling, unet: nn.Module):
        super().__init__()
        self.reader, self.unet = reader, unet

    def condition(self, cond: Cond) -> Cond:
        """Features [B L E] to tokens [B 1+L+1 D], once per sampling run.

        They do not depend on x_t."""
        tokens, mask = self.reader(cond.text, cond.mask)
        return replace(cond, text=tokens, mask=mask)

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """As the U-Net's.  cond: as `condition` returns it."""
        return self.unet(x, t, cond)


@dataclass(frozen=True)
class ImagenConfig(FamilyConfig):
    """Imagen: a base that draws from a caption, or an upsampler of its images."""
    size: int = 64                       # pixels, H = W
    low_res: int = 0                     # pixels of the image it upsamples; 0 = from captions alone
    augmentation: float = 0.1            # noise on it in sampling, 0..1; training draws from 0..1
    crop_size: int = 0                   # train on random crops of so many pixels; 0 = whole images
    encoder: str = "google/t5-v1_1-xxl"  # language model: a shipped one, a folder or a hub name
    encoder_width: int = 4096            # E, of its features
    text_length: int = 256               # L: tokens; longer captions are cut; fixed once trained
    cache: bool = True                   # keep features on disk; off if captions never come twice
    net: Annotated[UNetConfig | EfficientUNetConfig, tyro.conf.AvoidSubcommands] = BASE
    schedule: str = "cosine"             # cosine (base) or linear
    low_res_schedule: str = "linear"     # of the noise on the image it upsamples
    T: int = 1000                        # noising steps
    objective: ObjectiveConfig = ObjectiveConfig(cond_drop_prob=0.1)
    sampler: str = "ancestral"           # ancestral, ddim or dpm_solver_pp_2m
    sampling_steps: int = 250            # network calls per image
    guidance_scale: float = 7.0          # 1 = off, 0 = unconditional
    threshold: str = "dynamic"           # of x0_hat: none, static (cut at 1) or dynamic (shrunk)
    percentile: float = 0.995            # share of values that dynamic thresholding shrinks to fit

    def __post_init__(self):
        check_ranges(self)
        check_choices(self, schedule=SCHEDULES, low_res_schedule=SCHEDULES, sampler=SAMPLERS,
                      threshold=THRESHOLDS)
        for schedule in (self.schedule, *(self.low_res_schedule,) * bool(self.low_res)):
            SCHEDULES[schedule](self.T)                         # its error is this config's too
        check_steps(self)
        check_size(self.size, self.net)
        check_size(self.crop_size, self.net, "crop_size")
        if self.low_res >= self.size or self.crop_size > self.size:
            raise ValueError(f"low_res={self.low_res}, crop_size={self.crop_size}: choose low_res "
                             f"below size={self.size}, crop_size up to it")
        if self.low_res and isinstance(self.net, UNetConfig):
            raise ValueError(f"low_res={self.low_res}: a stage that enlarges has an "
                             "EfficientUNetConfig as its net")
        if self.net.text_width < 1 or getattr(self.net, "classes", 0):
            raise ValueError(f"text_width={self.net.text_width}: Imagen reads captions, no labels: "
                             "classes=0, text_width > 0")

    reads = "text"

    @property
    def needs_image(self) -> bool:
        return self.low_res > 0

    def build(self) -> GaussianDenoiser:
        """The denoiser of this one stage, with random weights."""
        channels = 6 if self.objective.variance == "learned" else 3
        unet: UNet | EfficientUNet
        if isinstance(self.net, UNetConfig):
            unet = UNet(self.net, out_channels=channels)
        else:
            seen = 6 if self.low_res else 3
            unet = EfficientUNet(self.net, in_channels=seen, out_channels=channels)
        reader = TextPooling(self.encoder_width, self.net.text_width, self.text_length)
        process = variance_preserving(SCHEDULES[self.schedule](self.T))
        return GaussianDenoiser(ImagenNet(reader, unet), process, self.objective)

    def pipeline(self, model: GaussianDenoiser | None = None) -> Pipeline:
        """The pipeline of this one stage."""
        enlarge = partial(self._enlarge, share=self.augmentation) if self.low_res else None
        stage = replace(
            pixel_stage(self, model, SAMPLERS[self.sampler]),
            constrain=THRESHOLDS[self.threshold](self.percentile),
            enlarge=enlarge)
        return Pipeline(self.language_model, (stage,))

    @cached_property
    def language_model(self) -> FrozenEncoder:
        """Text encoder of the captions; its weights are loaded with the first caption."""
        return FrozenEncoder(
            self.encoder, self.text_length, width=self.encoder_width, cache=self.cache)

    def _enlarge(self, images: Tensor, generator: Source = None,
                 share: float | None = None) -> dict[str, Tensor]:
        process = variance_preserving(SCHEDULES[self.low_res_schedule](self.T))
        return augmented(
            images, generator, small=self.low_res, size=self.size, diffusion=process, share=share)

    def check_parts(self) -> None:
        """FileNotFoundError with the command that fetches the encoder, if it is not there."""
        find_encoder(self.encoder)

    def as_upsampler_of(self, base: "ImagenConfig") -> "ImagenConfig":
        """The same model as the stage that upsamples another one's images."""
        return replace(
            self, low_res=base.size, encoder=base.encoder, encoder_width=base.encoder_width,
            text_length=base.text_length, cache=base.cache)

    def to_training_pair(self, batch, generator: torch.Generator):
        """(x0 [B 3 H W] in [-1, 1], Cond) from a batch of images and captions."""
        text, mask = self.language_model(batch.captions)
        x0 = batch.images
        seen = self._enlarge(x0, generator) if self.low_res else {}
        if self.crop_size and seen:
            x0, low_res = cropped((x0, seen["low_res"]), self.crop_size, generator)
            seen = seen | {"low_res": low_res}
        elif self.crop_size:
            [x0] = cropped((x0,), self.crop_size, generator)
        return x0, Cond(text, mask, **seen)


def augmented(images: Tensor, generator=None, *, small: int, size: int,
              diffusion: GaussianDiffusion, share: float | None = None) -> dict[str, Tensor]:
    """Low-resolution input of an upsampling stage, with noise conditioning augmentation: small,
    bilinearly enlarged, and noised by a known amount.

    images: [B 3 h w] in [-1, 1].  share: of the noise, 0..1, as in sampling; None draws one per
    image, as in training.  Returns cond's low_res [B 3 size size] and aug [B].
    Lesson: notebooks/06_imagen.ipynb"""
    low = shrink(images, small) if images.shape[-1] > small else images
    low = F.interpolate(low, (size, size), mode="bilinear", align_corners=False)
    n = len(images)
    shares = torch.rand(n, generator=generator) if share is None else torch.full((n,), float(share))
    t = (shares * diffusion.T).round().long()               # [B] in 0..T
    low = diffusion.diffuse(low, t, generator)              # Imagen noise conditioning augmentation
    return {"low_res": low, "aug": (t / diffusion.T).to(low)}


def cropped(pictures: tuple[Tensor, ...], side: int, generator: torch.Generator) -> list[Tensor]:
    """Random square crops, at the same place in each tensor: [B C H W] -> [B C side side]."""
    B, _, H, W = pictures[0].shape
    top, left = (torch.randint(0, n - side + 1, (B,), generator=generator).tolist() for n in (H, W))
    crops = [(..., slice(y, y + side), slice(x, x + side)) for y, x in zip(top, left)]
    return [torch.stack([image[crop] for image, crop in zip(batch, crops)]) for batch in pictures]
