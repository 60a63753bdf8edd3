"""DDPM (Ho et al. 2020) and improved DDPM (Nichol & Dhariwal 2021): every named run as one literal."""
from dataclasses import replace

from ..diffusion.gaussian_denoiser import ObjectiveConfig
from ..families.ddpm import DDPMConfig
from ..nets.unet import UNetConfig
from ..training.fit import FitConfig
from .preset import LAPTOP, DataConfig, Preset, SaveConfig

SMALL = UNetConfig(
    channels=48, channel_mult=(1, 2, 2), blocks=1, attention=(False, False, True), head_channels=48,
    scale_shift_norm=True, dropout=0.0, patch=2, classes=18)
HO = UNetConfig()                                                       # 35,746,307 parameters
IDDPM = UNetConfig(                                                     # 52,546,438 with learned variance
    blocks=3, attention=(False, True, True, False), head_channels=64, scale_shift_norm=True, dropout=0.3)
FLOWERS = UNetConfig(
    channel_mult=(1, 2, 3, 4), attention=(False, False, True, True), head_channels=64,
    scale_shift_norm=True)
CIFAR10_FIT = FitConfig(
    steps=800_000, batch_size=128, lr=2e-4, betas=(0.9, 0.999), warmup=5000, decay="none",
    ema_decay=0.9999)

PRESETS = [
    Preset(
        "ddpm-shapes",
        DDPMConfig(schedule="cosine", net=SMALL, sampling_steps=100,
                   objective=ObjectiveConfig(predict="x0", loss_weighting="v_clipped", cond_drop_prob=0.2)),
        DataConfig("shapes"),
        replace(LAPTOP, steps=9_000),
        expected="94 % of samples are valid scenes",
        hardware="laptop, an hour on one core"),
    Preset(
        "ddpm-cifar10",
        DDPMConfig(net=HO, objective=ObjectiveConfig(variance="large")),
        DataConfig("cifar10", flip=True, workers=4),
        CIFAR10_FIT, SaveConfig(sample_steps=10_000),
        expected="FID 3.17 (DDPM Table 1)",
        hardware="1 GPU, about 2 days"),
    Preset(
        "iddpm-cifar10",
        DDPMConfig(schedule="cosine", T=4000, net=IDDPM, sampling_steps=4000,
                   objective=ObjectiveConfig(variance="learned", loss="hybrid")),
        DataConfig("cifar10", flip=True, workers=4),
        replace(CIFAR10_FIT, steps=500_000, lr=1e-4, warmup=1), SaveConfig(sample_steps=10_000),
        expected="FID 2.90 (improved DDPM Table 2)",
        hardware="1 GPU, about 2 days"),
    Preset(
        "ddpm-flowers102",
        DDPMConfig(size=64, schedule="cosine", net=FLOWERS, sampler="ddim", sampling_steps=100,
                   objective=ObjectiveConfig(predict="v", loss_weighting="min_snr")),
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        FitConfig(steps=100_000, batch_size=64, lr=1e-4, betas=(0.9, 0.999), warmup=1000, ema_decay=0.9999),
        SaveConfig(sample_steps=5_000),
        expected="flowers you would recognise",
        hardware="1 GPU, about 1 day"),
]
