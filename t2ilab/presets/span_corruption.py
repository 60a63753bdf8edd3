"""Preset of T5's span corruption (Raffel et al. 2020), as one row.

`t2ilab pretrain` runs it; it draws no images, so it is none of the PRESETS that `train` offers.
"""
from ..families.span_corruption import SpanCorruptionConfig
from ..training.fit import FitConfig
from .preset import SCENES, Preset, SaveConfig

T5_SHAPES = Preset(
    "t5-shapes", SpanCorruptionConfig(), SCENES,
    FitConfig(steps=4000, batch_size=48, lr=2e-3, warmup=100, precision="fp32"),
    SaveConfig(checkpoint_seconds=60, keep=1, sample_steps=0),
    hardware="laptop, 12 minutes on one core")
