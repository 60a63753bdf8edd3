"""Presets of rectified flow (Liu, Gong & Liu 2023): every named run as one row."""
from dataclasses import replace

from ..diffusion.gaussian_denoiser import ObjectiveConfig
from ..families.rectified_flow import RectifiedFlowConfig
from .ddpm import SMALL
from .preset import LAPTOP, SCENES, Preset

# 2,686,860 parameters, as ddpm-shapes
SHAPES = RectifiedFlowConfig(
    net=SMALL,
    objective=ObjectiveConfig(predict="velocity", loss_weighting="v_clipped", cond_drop_prob=0.2))

PRESETS = [
    #      name           model   hardware
    #      data         fit
    #      expected
    Preset("flow-shapes", SHAPES, hardware="laptop, an hour on one core",
           data=SCENES, fit=replace(LAPTOP, steps=9_000),
           expected="not measured yet; as ddpm-shapes, from 50 steps"),
]
