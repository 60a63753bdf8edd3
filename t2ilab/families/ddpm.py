"""Denoising diffusion probabilistic models (Ho et al. 2020), improved (Nichol & Dhariwal 2021),
with or without class labels.

In the paper's order: the forward process, the network and what it predicts, the objective,
sampling. With labels, some are dropped in training, so that guidance (Ho & Salimans 2022) can be
turned on when sampling.
"""
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..data.captions import clean
from ..diffusion.cond import Cond
from ..diffusion.gaussian import variance_preserving
from ..diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from ..diffusion.sampling import SAMPLERS
from ..diffusion.schedules import SCHEDULES
from ..nets.unet import UNet, UNetConfig
from ..pipeline.walk import Pipeline
from ..ranges import check_ranges
from .base import (
    FamilyConfig,
    check_choices,
    check_size,
    check_steps,
    class_names,
    label_cond,
    pixel_stage,
)


@dataclass(frozen=True)
class DDPMConfig(FamilyConfig):
    """DDPM and improved DDPM, with class labels or without."""
    size: int = 32                           # pixels, H = W
    schedule: str = "linear"                 # linear (DDPM) or cosine (improved DDPM)
    T: int = 1000                            # noising steps
    net: UNetConfig = field(default_factory=UNetConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    sampler: str = "ancestral"               # ancestral (DDPM), ddim or dpm_solver_pp_2m
    sampling_steps: int = 1000               # network calls per image
    guidance_scale: float = 1.0              # 1 = off, 0 = unconditional; needs labels
    labels: tuple[str, ...] = ()             # class names; training fills them in from the data set

    def __post_init__(self):
        check_ranges(self)
        check_choices(self, schedule=SCHEDULES, sampler=SAMPLERS)
        SCHEDULES[self.schedule](self.T)                        # its error is this config's too
        check_steps(self)
        check_size(self.size, self.net)

    @property
    def reads(self) -> str:
        return "label" if self.net.classes else "none"

    def build(self) -> GaussianDenoiser:
        """The denoiser, with random weights."""
        process = variance_preserving(SCHEDULES[self.schedule](self.T))
        channels = 6 if self.objective.variance == "learned" else 3
        return GaussianDenoiser(UNet(self.net, out_channels=channels), process, self.objective)

    def pipeline(self, model: GaussianDenoiser | None = None) -> Pipeline:
        """One stage, from noise to pixels."""
        stage = pixel_stage(self, model, SAMPLERS[self.sampler])
        return Pipeline(Labels(self.labels, self.net.classes), (stage,))

    def fit_to_dataset(self, dataset) -> "DDPMConfig":
        """The same model with the data set's class names.
        ValueError if their number is not the network's."""
        return replace(self, labels=class_names(self, dataset))

    def to_training_pair(self, batch, generator=None):
        """(x0 [B 3 H W] in [-1, 1], Cond) from images and labels; a label of -1 is no label."""
        return batch.images, label_cond(batch.labels) if self.net.classes else Cond()


@dataclass(frozen=True)
class Labels:
    """Class names or numbers to indices: list of B captions -> ([B 1] int64, [B 1] bool).

    407 is read as well as "407"; "" is no label.  ValueError for a class that the model does not
    know, and for any caption at all if it has no classes."""
    names: tuple[str, ...]
    classes: int

    @property
    def kind(self) -> str:
        """"label", or "none" for a model without classes."""
        return "label" if self.classes else "none"

    def __call__(self, captions: Sequence[str | int]) -> tuple[Tensor | None, Tensor | None]:
        if not self.classes:
            if any(caption != "" for caption in captions):
                raise ValueError("this model takes no captions: "
                                 "ask for a number of pictures instead")
            return None, None
        index = torch.tensor([[self.find(caption)] for caption in captions])     # [B 1]
        return index.clamp(min=0), index >= 0

    def find(self, caption: str | int) -> int:
        """Index of a class by its name or number; -1 for "".  ValueError for an unknown one."""
        caption = clean(str(caption)).lower()
        names = [clean(name).lower() for name in self.names]
        if not caption:
            return -1
        if caption in names:
            return names.index(caption)
        if caption in map(str, range(self.classes)):
            return int(caption)
        known = ", ".join(self.names) or f"the numbers 0 to {self.classes - 1}"
        raise ValueError(f"no class {caption[:60]!r}: this model knows {known}")
