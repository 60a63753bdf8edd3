"""Every named run as one literal: what is built, what it eats, how it trains, and the number it should reach.

`t2ilab train NAME` runs one; every field is an option there. No YAML, no registry. One file a family.
"""
from . import ddpm, glide, imagen, latent_diffusion, rectified_flow, vq
from .preset import DataConfig, Preset, SaveConfig

__all__ = ["PRESETS", "DataConfig", "Preset", "SaveConfig"]
PRESETS = {preset.name: preset for family in (ddpm, glide, imagen, vq, rectified_flow, latent_diffusion) for preset in family.PRESETS}
