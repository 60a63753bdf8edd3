"""Presets of DDPM (Ho et al. 2020) and improved DDPM (Nichol & Dhariwal 2021): every named run as one row."""
from dataclasses import replace

from ..diffusion.gaussian_denoiser import ObjectiveConfig
from ..families.ddpm import DDPMConfig
from ..nets.unet import UNetConfig
from ..training.fit import FitConfig
from .preset import FLOWERS102, LAPTOP, SAMPLES_5K, SAMPLES_10K, SCENES, DataConfig, Preset

# ---- networks ----

# 2,686,860 parameters
SMALL = UNetConfig(
    channels=48, channel_mult=(1, 2, 2), blocks=1, attention=(False, False, True), head_channels=48,
    scale_shift_norm=True, dropout=0.0, patch=2, classes=18)

# 35,746,307 parameters
HO = UNetConfig()

# 52,546,438 parameters, with a learned variance
IDDPM = UNetConfig(
    blocks=3, attention=(False, True, True, False), head_channels=64, scale_shift_norm=True, dropout=0.3)

# 92,025,731 parameters
FLOWERS = UNetConfig(
    channel_mult=(1, 2, 3, 4), attention=(False, False, True, True), head_channels=64,
    scale_shift_norm=True)

# ---- models ----

SHAPES = DDPMConfig(
    schedule="cosine", net=SMALL, sampling_steps=100,
    objective=ObjectiveConfig(predict="x0", loss_weighting="v_clipped", cond_drop_prob=0.2))

CIFAR10_HO = DDPMConfig(
    net=HO,
    objective=ObjectiveConfig(variance="large"))

CIFAR10_IDDPM = DDPMConfig(
    schedule="cosine", T=4000, net=IDDPM, sampling_steps=4000,
    objective=ObjectiveConfig(variance="learned", loss="hybrid"))

FLOWERS_64 = DDPMConfig(
    size=64, schedule="cosine", net=FLOWERS, sampler="ddim", sampling_steps=100,
    objective=ObjectiveConfig(predict="v", loss_weighting="min_snr"))

# ---- data and training ----

CIFAR10 = DataConfig("cifar10", flip=True, workers=4)
FULL = FitConfig(batch_size=128, betas=(0.9, 0.999), decay="none", ema_decay=0.9999)
FLOWERS_FIT = FitConfig(
    steps=100_000, batch_size=64, lr=1e-4, betas=(0.9, 0.999), warmup=1000, ema_decay=0.9999)

PRESETS = [
    #      name               model          hardware
    #      data             fit                                                     save
    #      expected
    Preset("ddpm-shapes",     SHAPES,        hardware="laptop, an hour on one core",
           data=SCENES,     fit=replace(LAPTOP, steps=9_000),
           expected="94 % of samples are valid scenes"),
    Preset("ddpm-cifar10",    CIFAR10_HO,    hardware="1 GPU, about 2 days",
           data=CIFAR10,    fit=replace(FULL, steps=800_000, lr=2e-4, warmup=5000), save=SAMPLES_10K,
           expected="FID 3.17 (DDPM Table 1)"),
    Preset("iddpm-cifar10",   CIFAR10_IDDPM, hardware="1 GPU, about 2 days",
           data=CIFAR10,    fit=replace(FULL, steps=500_000, lr=1e-4, warmup=1),    save=SAMPLES_10K,
           expected="FID 3.19, 3.17 bits per dimension (improved DDPM Table 2)"),
    Preset("ddpm-flowers102", FLOWERS_64,    hardware="1 GPU, about 1 day",
           data=FLOWERS102, fit=FLOWERS_FIT,                                        save=SAMPLES_5K,
           expected="flowers you would recognise"),
]
