"""Every named run as one literal: what is built, what it eats, how it trains, and the number it should reach.

`t2ilab train NAME` runs one; every field is an option there. No YAML, no registry.
"""
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from .diffusion.denoiser import ObjectiveConfig
from .families.ddpm import DDPM
from .nets.unet import UNetConfig
from .train.fit import FitConfig


@dataclass(frozen=True)
class DataConfig:
    data: str = "shapes"                # data set: shapes, cifar10, flowers102 or folder
    root: str | None = None             # folder it lies in; none needed for shapes
    split: str = "train"                # part of it to train on
    crop: str = "centre"                # centre or random
    flip: bool = False                  # mirror half of the pictures
    limit: int | None = None            # use only so many examples, evenly spaced
    download: bool = False              # fetch the data set if it is not there
    workers: int = 0                    # processes that read pictures ahead


@dataclass(frozen=True)
class SaveConfig:
    checkpoint_steps: int = 0           # save every so many steps; 0 = by the clock only
    checkpoint_seconds: float = 300.0   # save when this long has passed since the last time
    keep: int = 2                       # checkpoints to keep
    sample_steps: int = 1000            # draw a grid of samples every so many steps; 0 = never

    def __post_init__(self):
        if self.keep < 1:
            raise ValueError(f"keep={self.keep}: choose 1 or more")


@dataclass(frozen=True)
class Preset:
    name: Annotated[str, tyro.conf.Suppress]            # of the preset, and of its folder in runs/
    model: DDPM
    data: DataConfig = field(default_factory=DataConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    save: SaveConfig = field(default_factory=SaveConfig)
    family: Annotated[str, tyro.conf.Suppress] = "ddpm"     # which of FAMILIES `model` belongs to
    expected: Annotated[str, tyro.conf.Suppress] = ""       # the number this run should reach
    hardware: Annotated[str, tyro.conf.Suppress] = ""       # what it was meant for


SMALL = UNetConfig(channels=48, mults=(1, 2, 2), blocks=1, attention=(False, False, True), head_channels=48, film=True, dropout=0.0, patch=2,
                   classes=18)
HO = UNetConfig()                                                                                                       # 35,746,307 parameters
IDDPM = UNetConfig(blocks=3, attention=(False, True, True, False), head_channels=64, film=True, dropout=0.3)            # 52,546,438 with learned variance
FLOWERS = UNetConfig(mults=(1, 2, 3, 4), attention=(False, False, True, True), head_channels=64, film=True)

PRESETS = {preset.name: preset for preset in [
    Preset(
        "ddpm-shapes", DDPM(schedule="cosine", net=SMALL, sampling_steps=100,
             objective=ObjectiveConfig(predict="x0", weight="v_clipped", drop=0.2)),
        DataConfig("shapes"),
        FitConfig(steps=9_000, batch_size=32, lr=2e-3, optimizer="muon", decay="linear", ema_decay=0.998),
        expected="95 % of samples are valid scenes", hardware="laptop, 1 hour on 2 cores"),
    Preset(
        "ddpm-cifar10", DDPM(net=HO, objective=ObjectiveConfig(variance="large")),
        DataConfig("cifar10", flip=True, workers=4),
        FitConfig(steps=800_000, batch_size=128, lr=2e-4, betas=(0.9, 0.999), warmup=5000, decay="none", ema_decay=0.9999),
        SaveConfig(sample_steps=10_000),
        expected="FID 3.17 (DDPM Table 1)", hardware="1 GPU, about 2 days"),
    Preset(
        "iddpm-cifar10", DDPM(schedule="cosine", T=4000, net=IDDPM, sampling_steps=4000,
             objective=ObjectiveConfig(variance="learned", loss="hybrid")),
        DataConfig("cifar10", flip=True, workers=4),
        FitConfig(steps=500_000, batch_size=128, lr=1e-4, betas=(0.9, 0.999), warmup=1, decay="none", ema_decay=0.9999),
        SaveConfig(sample_steps=10_000),
        expected="FID 2.90 (improved DDPM Table 2)", hardware="1 GPU, about 2 days"),
    Preset(
        "ddpm-flowers102", DDPM(size=64, schedule="cosine", net=FLOWERS, sampler="ddim", sampling_steps=100,
             objective=ObjectiveConfig(predict="v", weight="min_snr")),
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        FitConfig(steps=100_000, batch_size=64, lr=1e-4, betas=(0.9, 0.999), warmup=1000, ema_decay=0.9999),
        SaveConfig(sample_steps=5_000),
        expected="flowers you would recognise", hardware="1 GPU, about 1 day"),
]}
