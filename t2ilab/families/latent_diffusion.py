"""Latent diffusion (Rombach et al. 2022): DDPM in the latent space of a frozen autoencoder,
where there are fewer numbers than pixels, so that the network is cheaper.

The autoencoder is a trained VQGAN; its latents are its encoder's features before they are rounded
to codes, divided by their standard deviation, and decoding rounds them. Left out: KL-regularised
autoencoders, and text (GLIDE and Imagen show how captions join a U-Net).
"""
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..data.loaders import stream
from ..diffusion.cond import Cond
from ..diffusion.gaussian import variance_preserving
from ..diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from ..diffusion.sampling import SAMPLERS
from ..diffusion.schedules import SCHEDULES
from ..nets.unet import UNet, UNetConfig
from ..pipeline.stage import Stage
from ..pipeline.walk import Pipeline
from ..ranges import check_ranges
from .base import FamilyConfig, check_choices, check_size, check_steps, class_names, label_cond
from .ddpm import Labels
from .frozen_codec import FrozenCodec, fingerprint, present
from .vqgan import fitted


@dataclass(frozen=True)
class LatentDiffusionConfig(FamilyConfig):
    """DDPM over the latents of a frozen VQGAN, with class labels or without."""
    codec: str = "vq-codec-shapes"       # run of the VQGAN: a folder, or one that ships
    codec_weights: str = ""              # fingerprint its weights must have; training fills it in
    codebook_size: int = 512             # K, of the VQGAN
    latent_channels: int = 32            # C of its latents
    grid: int = 8                        # latents along each side of an image
    size: int = 64                       # pixels of its images, H = W
    scale: float = 1.0                   # divides the latents, to std 1; training fills it in
    schedule: str = "cosine"             # linear (DDPM) or cosine (improved DDPM)
    T: int = 1000                        # noising steps
    net: UNetConfig = field(default_factory=UNetConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    sampler: str = "ancestral"           # ancestral (DDPM), ddim or dpm_solver_pp_2m
    sampling_steps: int = 100            # network calls per image
    guidance_scale: float = 1.0          # 1 = off, 0 = unconditional; needs labels
    labels: tuple[str, ...] = ()         # class names; training fills them in from the data set

    def __post_init__(self):
        check_ranges(self)
        check_choices(self, schedule=SCHEDULES, sampler=SAMPLERS)
        SCHEDULES[self.schedule](self.T)                        # its error is this config's too
        check_steps(self)
        check_size(self.grid, self.net, "grid")

    @property
    def reads(self) -> str:
        return "label" if self.net.classes else "none"

    def build(self) -> GaussianDenoiser:
        """The denoiser of latents, with random weights."""
        C = self.latent_channels
        out_channels = 2 * C if self.objective.variance == "learned" else C
        unet = UNet(self.net, in_channels=C, out_channels=out_channels)
        process = variance_preserving(SCHEDULES[self.schedule](self.T))
        return GaussianDenoiser(unet, process, self.objective, pixels=False)

    def pipeline(self, model: GaussianDenoiser | None = None) -> Pipeline:
        """One stage, from noise to latents to pixels; the VQGAN is loaded when first needed."""
        stage = Stage(
            denoiser=model or self.build(),
            shape=(self.latent_channels, self.grid, self.grid),
            steps=self.sampling_steps,
            guidance_scale=self.guidance_scale,
            sampler=SAMPLERS[self.sampler],
            codec=self.latents)
        return Pipeline(Labels(self.labels, self.net.classes), (stage,))

    @cached_property
    def latents(self) -> "LatentCodec":
        """Codec between images and latents."""
        vqgan = FrozenCodec(self.codec, self.codebook_size, self.grid, weights=self.codec_weights)
        return LatentCodec(vqgan, self.scale)

    def fit_to_dataset(self, dataset) -> "LatentDiffusionConfig":
        """The same model with the data set's class names,
        and with the standard deviation of the latents of some of its images.

        ValueError if classes or latent channels are not as many as the network's."""
        labels = class_names(self, dataset)
        width = self.latents.codec.config.net.codebook_dim
        if width != self.latent_channels:
            raise ValueError(f"latent_channels={self.latent_channels}: the latents of "
                             f"codec={self.codec!r} have {width} channels")
        images = next(stream(dataset, batch_size=64, seed=0)).images
        scale = self.scale
        if not self.codec_weights:
            scale = self.latents.encode(images).std().item() * self.scale
        weights = self.codec_weights or fingerprint(self.latents.codec.whole)
        return replace(self, scale=scale, labels=labels, codec_weights=weights)

    def adapt_to_checkpoint(self, first: "LatentDiffusionConfig") -> "LatentDiffusionConfig":
        """The same model with the codec that the weights of another one know, and their scale."""
        codec = present(self.codec, first.codec)
        return replace(self, codec=codec, codec_weights=first.codec_weights, scale=first.scale)

    def to_training_pair(self, batch, generator=None):
        """(latents [B C h w], Cond) from images and labels; a label of -1 is no label."""
        cond = label_cond(batch.labels) if self.net.classes else Cond()
        return self.latents.encode(batch.images), cond


@dataclass(frozen=True)
class LatentCodec:
    """A frozen VQGAN as a codec of latents: images [B 3 H W] in [-1, 1] <-> latents [B C h w]
    of standard deviation about 1."""
    codec: FrozenCodec
    scale: float

    @property
    def size(self) -> int:
        """Pixels along each side of its images."""
        return self.codec.size

    @property
    def cell(self) -> int:
        """Pixels along each side of what one latent stands for."""
        return self.codec.cell

    def open(self) -> None:
        """Load the VQGAN now.  The errors of FrozenCodec."""
        self.codec.open()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents [B C h w] of images [B 3 H W] of any size, before they are rounded to codes."""
        net = self.codec.net.to(images.device)
        return net.features(fitted(images, self.size)) / self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [B 3 H W] of latents [B C h w], each rounded to the nearest code first."""
        net = self.codec.net.to(latents.device)
        return net.decode(net.quantizer.nearest(latents * self.scale))
