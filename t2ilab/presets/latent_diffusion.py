"""Presets of latent diffusion (Rombach et al. 2022): every named run as one row."""
from dataclasses import replace

from ..diffusion.gaussian_denoiser import ObjectiveConfig
from ..families.latent_diffusion import LatentDiffusionConfig
from .ddpm import SMALL
from .preset import LAPTOP, SCENES, Preset

# 1,752,704 parameters.  64 latents of 32 channels per image, in place of 64 x 64 pixels.
SHAPES = LatentDiffusionConfig(
    net=replace(SMALL, channel_mult=(1, 2), attention=(True, True), patch=1),
    objective=ObjectiveConfig(predict="v", cond_drop_prob=0.2))

PRESETS = [
    #      name             model   hardware
    #      data         fit
    #      expected
    Preset("latent-shapes", SHAPES, hardware="laptop, half an hour on one core",
           data=SCENES, fit=replace(LAPTOP, steps=9_000),
           expected="not measured yet"),
]
