"""Presets: every named run as one row, with its model, data, training and the number it should reach.

`t2ilab train NAME` runs one; every field is an option there. No YAML, no registry. One file per family.
"""
from difflib import get_close_matches

from . import ddpm, glide, imagen, latent_diffusion, rectified_flow, vq_diffusion, vqgan
from .preset import DataConfig, Preset, SaveConfig

__all__ = ["PRESETS", "DataConfig", "Preset", "SaveConfig", "named"]
FILES = (ddpm, glide, imagen, vqgan, vq_diffusion, rectified_flow, latent_diffusion)
PRESETS = {preset.name: preset for file in FILES for preset in file.PRESETS}


def named(name: str) -> Preset:
    """The preset of a name.  ValueError with the one that was probably meant."""
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(PRESETS)}"
        raise ValueError(f"no preset {name!r}: {hint}")
    return PRESETS[name]
