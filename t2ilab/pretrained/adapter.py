"""What an adapter of published weights is: one row in convert.py, one file beside this one."""
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import __version__
from ..presets.preset import Preset
from ..training.checkpoint import save_weights, write_text
from .read import Published


@dataclass(frozen=True)
class Extras:
    """What some layouts want beside the weights."""
    table: Path | None = None                # the original VQ-Diffusion's list of used codes
    vocabulary: Path | None = None           # GLIDE's file of merges
    null_embedding: str = "learned"          # what a VQ-Diffusion holds for "no caption": learned, or ignore


# (given, preset, the folder to write in, the folder it will be, extras) -> lines that the user should read.
# ValueError or FileNotFoundError in one line.
Convert = Callable[[Published, Preset, Path, Path, Extras], list[str]]


@dataclass(frozen=True)
class Adapter:
    """One published layout: how to tell it, and how to make a run of it."""
    name: str                                # as help and errors say it
    family: str                              # of the presets that it fits
    detect: Callable[[Published], bool]      # whether something is of this layout
    convert: Convert
    wants: tuple[str, ...] = ()              # which extras it knows


def write_run(model: nn.Module, preset: Preset, folder: Path) -> None:
    """Leave a model behind as a run's folder: its weights and its config."""
    folder.mkdir(exist_ok=True)
    save_weights(model, folder / "model.safetensors")
    config = preset.to_dict() | {"t2ilab": __version__, "torch": torch.__version__}
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
