"""GLIDE (Nichol et al. 2022): text-to-image diffusion in pixels, a second network upsamples, and
either can inpaint.

In the paper's order: the text transformer and the network it conditions, the objective with a
learned variance, captions dropped in training so that guidance works without a classifier, the
upsampler, inpainting. CLIP guidance is diffusion/guidance.py's `scored`.
"""
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.cond import Cond
from ..diffusion.gaussian import variance_preserving
from ..diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from ..diffusion.sampling import SAMPLERS
from ..diffusion.schedules import SCHEDULES
from ..nets.text_transformer import TextConfig, TextTransformer
from ..nets.unet import UNet, UNetConfig
from ..pipeline.edit import given
from ..pipeline.walk import Pipeline
from ..ranges import check_ranges
from ..tensors import Source, from_uint8, randn, to_uint8
from ..text.tokenizer import Tokenizer, learn_merges
from .base import FamilyConfig, check_choices, check_size, check_steps, pixel_stage


class GlideNet(nn.Module):
    """The U-Net and the text transformer that conditions it."""

    def __init__(self, text: TextTransformer, unet: UNet):
        super().__init__()
        self.text, self.unet = text, unet

    def condition(self, cond: Cond) -> Cond:
        """Token ids [B L] to features [B L D], once per sampling run: they do not depend on x_t.

        Padding has features too, so there is no mask."""
        return replace(cond, text=self.text(cond.text, cond.mask), mask=None)

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """As the U-Net's.  cond: as `condition` returns it."""
        return self.unet(x, t, cond)


# GLIDE's base network, 64 px; its text width is the text transformer's too.
BASE = UNetConfig(
    channels=192, channel_mult=(1, 2, 3, 4), blocks=3, attention=(False, True, True, True),
    head_channels=64, scale_shift_norm=True, resample="block", text_width=512)

OBJECTIVE = ObjectiveConfig(variance="learned", loss="hybrid", cond_drop_prob=0.2)


@dataclass(frozen=True)
class GLIDEConfig(FamilyConfig):
    """GLIDE: a base that draws from a caption, or an upsampler of its images."""
    size: int = 64                               # pixels, H = W
    low_res: int = 0                             # pixels of the image it upsamples; 0 = a base
    low_res_noise: float = 0.0                   # std of noise on it, in training and sampling
    known: float = 0.0                           # share partly known, for inpainting; 0 = no input
    text: TextConfig = field(default_factory=TextConfig)
    net: UNetConfig = BASE
    schedule: str = "cosine"                     # cosine (base) or linear (upsampler)
    T: int = 1000                                # noising steps
    objective: ObjectiveConfig = OBJECTIVE
    sampler: str = "ancestral"                   # ancestral, ddim or dpm_solver_pp_2m
    sampling_steps: int | tuple[int, ...] = 100  # network calls per image, or the falling times
    guidance_scale: float = 3.0                  # 1 = off, 0 = unconditional
    temperature: float = 1.0                     # of the starting noise; paper's upsampler: 0.997
    merges: tuple[str, ...] = ()                 # byte pairs; training learns them from captions

    def __post_init__(self):
        check_ranges(self, sampling_steps=None)                 # check_steps does
        check_choices(self, schedule=SCHEDULES, sampler=SAMPLERS)
        SCHEDULES[self.schedule](self.T)                        # its error is this config's too
        check_steps(self)
        check_size(self.size, self.net)
        if self.net.classes or self.net.text_width < 1:
            raise ValueError(f"classes={self.net.classes}, text_width={self.net.text_width}: "
                             "GLIDE reads captions, no labels: classes=0, text_width > 0")
        if self.low_res >= self.size:
            raise ValueError(f"low_res={self.low_res}: choose low_res below size={self.size}")

    reads = "text"

    @property
    def needs_image(self) -> bool:
        return self.low_res > 0

    def build(self) -> GaussianDenoiser:
        """The denoiser of this one stage, with random weights."""
        in_channels = 3 + 4 * (self.known > 0) + 3 * (self.low_res > 0)
        out_channels = 6 if self.objective.variance == "learned" else 3
        unet = UNet(
            self.net, in_channels=in_channels, out_channels=out_channels, known=self.known > 0)
        net = GlideNet(TextTransformer(self.text, self.net.text_width), unet)
        process = variance_preserving(SCHEDULES[self.schedule](self.T))
        return GaussianDenoiser(net, process, self.objective)

    def pipeline(self, model: GaussianDenoiser | None = None) -> Pipeline:
        """The pipeline of this one stage."""
        stage = replace(
            pixel_stage(self, model, SAMPLERS[self.sampler]),
            temperature=self.temperature,
            enlarge=self._enlarge if self.low_res else None,
            sees_known=self.known > 0)
        return Pipeline(self.tokenizer, (stage,))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """How this model reads captions."""
        return Tokenizer(self.merges, self.text.vocabulary, self.text.text_length)

    def _enlarge(self, images: Tensor, generator: Source = None) -> dict[str, Tensor]:
        low_res = enlarge(
            images, generator, small=self.low_res, size=self.size, noise=self.low_res_noise)
        return {"low_res": low_res}

    def adapt_to_checkpoint(self, first: "GLIDEConfig") -> "GLIDEConfig":
        """The same model with the vocabulary that the weights of another one know."""
        return replace(self, merges=first.merges)

    def fit_to_dataset(self, dataset) -> "GLIDEConfig":
        """The same model with a vocabulary learned from the data's captions, unless it has one."""
        if self.merges:
            return self
        return replace(self, merges=learn_merges(dataset.texts(), self.text.vocabulary))

    def as_upsampler_of(self, base: "GLIDEConfig") -> "GLIDEConfig":
        """The same model as the stage that upsamples another one's images."""
        return replace(self, low_res=base.size, text=base.text, merges=base.merges)

    def to_training_pair(self, batch, generator: torch.Generator):
        """(x0 [B 3 H W] in [-1, 1], Cond) from a batch of images and captions."""
        x0 = batch.images
        ids, mask = self.tokenizer(batch.captions)
        seen = self._enlarge(x0, generator) if self.low_res else {}
        known = given(x0, some_known(x0, self.known, generator)) if self.known else None
        return x0, Cond(ids, mask, known=known, **seen)


def shrink(images: Tensor, size: int) -> Tensor:
    """Images [B 3 H W] downsampled to [B 3 size size], as the smaller stage would have drawn them:
    the mean of each area."""
    return F.interpolate(images, (size, size), mode="area")


def enlarge(images: Tensor, generator: Source = None, *, small: int, size: int,
            noise: float) -> Tensor:
    """Low-resolution input of the upsampler: [B 3 h w] in [-1, 1] -> [B 3 size size].

    It is `small` pixels wide, has 256 levels per colour and a little noise, then is enlarged
    bilinearly.

    Training and sampling both come through here, so that the upsampler never meets a kind of image
    it was not trained on."""
    low = shrink(images, small) if images.shape[-1] > small else images
    levels = from_uint8(to_uint8(low))                                           # [B 3 small small]
    rough = levels + noise * randn(levels.shape, generator, device=levels.device)
    return F.interpolate(rough, (size, size), mode="bilinear", align_corners=False)


def some_known(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Inpainting masks for training, True = known, [B 1 H W] bool: nothing of most images,
    and of a share of them all but one random rectangle."""
    B, _, H, W = images.shape
    # where the hole starts and ends, 0..1: [B axis 2]
    edges = torch.rand(B, 2, 2, generator=generator).sort(dim=2).values
    y, x = torch.arange(H) / H, torch.arange(W) / W
    rows    = (edges[:, 0, :1] <= y) & (y < edges[:, 0, 1:])                     # [B H]
    columns = (edges[:, 1, :1] <= x) & (x < edges[:, 1, 1:])                     # [B W]
    hole = rows[:, None, :, None] & columns[:, None, None, :]                    # [B 1 H W]
    shows = torch.rand(B, 1, 1, 1, generator=generator) < share
    return shows & ~hole
