"""Presets of GLIDE (Nichol et al. 2022): every named run as one row."""
from dataclasses import replace

from ..diffusion.gaussian_denoiser import ObjectiveConfig
from ..diffusion.schedules import FAST27
from ..families.glide import BASE, GLIDEConfig
from ..nets.text_transformer import TextConfig
from ..nets.unet import UNetConfig
from ..training.fit import FitConfig
from .preset import (
    FLOWERS102,
    FOLDER,
    HOURLY,
    LAPTOP,
    SAMPLES_5K,
    SAMPLES_10K,
    SCENES,
    SCENES_ONE,
    DataConfig,
    Preset,
)

# ---- models ----

WORDS = UNetConfig(
    channels=48, channel_mult=(1, 2, 2), blocks=1, attention=(False, True, True), head_channels=48,
    scale_shift_norm=True, dropout=0.0, patch=2, text_width=128)

# 3,475,308 parameters
SHAPES = GLIDEConfig(
    size=32, known=0.25, net=replace(WORDS, places=True),
    text=TextConfig(512, 24, text_layers=2, text_heads=4),
    objective=ObjectiveConfig(
        predict="x0", loss_weighting="v_clipped", timestep_sampler="late", cond_drop_prob=0.2),
    sampling_steps=50, guidance_scale=1.5)

# 2,835,212 parameters: what learns fastest, results/speedrun says how it was found
QUICK = GLIDEConfig(
    size=32, net=replace(WORDS, attention=(False, False, True), text_width=64, coordinates=True),
    text=TextConfig(512, 24, text_layers=1, text_heads=4),
    objective=ObjectiveConfig(
        predict="x0", loss_weighting="min_snr_plus", timestep_sampler="middle", cond_drop_prob=0.1),
    sampling_steps=50, guidance_scale=1.25)

# 3,562,656 parameters
SHAPES_UPSAMPLER = replace(
    SHAPES, size=64, low_res=32, low_res_noise=0.05, net=replace(WORDS, patch=4),
    objective=ObjectiveConfig(
        predict="x0", loss_weighting="v_clipped", variance="learned", loss="hybrid", cond_drop_prob=0.2),
    sampling_steps=20, guidance_scale=1.0)

# 1,625,798 parameters
TINY = GLIDEConfig(
    size=32, text=TextConfig(512, 32, text_layers=2, text_heads=4),
    net=replace(
        BASE, channels=32, channel_mult=(1, 2, 2), blocks=1, attention=(False, True, True),
        head_channels=32, dropout=0.0, text_width=64))

# 156,947,494 parameters
MINI = GLIDEConfig(net=replace(BASE, channels=96, head_channels=32))
MINI_100 = replace(MINI, T=100, sampling_steps=100)

# 43,540,294 parameters
FLOWERS = replace(
    MINI, net=replace(MINI.net, channels=64, blocks=2), text=TextConfig(4096, 32, text_layers=4),
    objective=ObjectiveConfig(
        predict="v", loss_weighting="min_snr", variance="learned", loss="hybrid", cond_drop_prob=0.2))

# The released GLIDE (filtered), 385,030,726 parameters; the paper's own has 3.5 billion and an
# upsampler of 1.5 billion, and was never released.
PUBLISHED = GLIDEConfig()

# 398,361,286 parameters
UPSAMPLER = GLIDEConfig(
    size=256, low_res=64, schedule="linear",
    net=replace(
        BASE, blocks=2, channel_mult=(1, 1, 2, 2, 4, 4),
        attention=(False, False, False, True, True, True)),
    sampler="ddim", sampling_steps=FAST27, guidance_scale=1.0, temperature=0.997)

# ---- data and training ----

CAPTIONED = DataConfig("folder", workers=4)
DOGS = DataConfig("dogs", split="all", crop="random", flip=True, workers=4)
SBU = DataConfig("sbu", limit=100_000, workers=4)

QUICK_FIT = replace(LAPTOP, steps=1_600, lr=4e-3, warmup=20, ema_decay=0.99)
FLOWERS_FIT = FitConfig(steps=100_000, batch_size=64, lr=2e-4, warmup=1000, ema_decay=0.9999)
ADAM = FitConfig(betas=(0.9, 0.999), decay="none", ema_decay=0.9999)
MINI_FIT = replace(ADAM, batch_size=64, lr=1e-4)
FULL = replace(ADAM, lr=1.2e-4, accumulate=32)

PRESETS = [
    #      name                      model             hardware
    #      data             fit                                                  save
    #      expected                                                 cascade
    Preset("glide-shapes",           SHAPES,           hardware="laptop, two hours on one core",
           data=SCENES,     fit=replace(LAPTOP, steps=16_000),
           expected="alignment 1.00 on one object, 0.96 on two",    cascade=("glide-shapes-upsampler",)),
    Preset("glide-shapes-upsampler", SHAPES_UPSAMPLER, hardware="laptop, half an hour on one core",
           data=SCENES,     fit=replace(LAPTOP, steps=3_000),
           expected="35 dB, 4.6 more than bicubic"),
    Preset("quick-one",              QUICK,            hardware="laptop, eight minutes on two cores",
           data=SCENES_ONE, fit=QUICK_FIT,
           expected="alignment above 0.9 on one object"),
    Preset("quick",                  QUICK,            hardware="laptop, 20 minutes on two cores",
           data=SCENES,     fit=replace(QUICK_FIT, steps=4_000),
           expected="not measured yet; the same recipe on two objects"),
    Preset("glide-tiny",             TINY,             hardware="laptop, two and a half hours on one core",
           data=SCENES,     fit=FitConfig(steps=5_000, batch_size=64, lr=1e-3),
           expected="colours and shapes follow the caption"),
    Preset("glide-flowers102",       FLOWERS,          hardware="1 GPU, about 1 day",
           data=FLOWERS102, fit=FLOWERS_FIT,                                     save=SAMPLES_5K,
           expected="flowers of the kind that was asked for"),
    Preset("glide-mini",             MINI,             hardware="1 GPU, days",
           data=CAPTIONED,  fit=replace(MINI_FIT, steps=100_000),                save=HOURLY,
           expected="pictures of your own captions"),
    Preset("glide-mini-dogs",        MINI,             hardware="1 GPU, days",
           data=DOGS,       fit=replace(MINI_FIT, steps=150_000),                save=HOURLY,
           expected="dogs of the breed that was asked for"),
    Preset("glide-mini-sbu",         MINI_100,         hardware="1 GPU, a week",
           data=SBU,        fit=replace(MINI_FIT, steps=800_000, batch_size=12), save=HOURLY,
           expected="FID below miniGLIDE's 145.77 on COCO"),
    Preset("glide-base",             PUBLISHED,        hardware="many GPUs, weeks",
           data=FOLDER,     fit=replace(FULL, steps=2_500_000, batch_size=2048), save=SAMPLES_10K,
           expected="no FID published at this size; 12.24 is the paper's 3.5 B model",
           cascade=("glide-upsampler",)),
    Preset("glide-upsampler",        UPSAMPLER,        hardware="many GPUs, weeks",
           data=FOLDER,     fit=replace(FULL, steps=1_600_000, batch_size=512),  save=SAMPLES_10K,
           expected="64 px pictures at 256 px"),
]
