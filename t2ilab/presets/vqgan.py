"""Presets of the VQGANs (Esser et al. 2021) whose codes VQ-Diffusion draws: every named run as one row."""
from dataclasses import replace

from ..families.vqgan import VQGANRunConfig
from ..training.fit import FitConfig
from ..vqgan.networks import VQGANConfig
from ..vqgan.objective import VQGANLossConfig
from .preset import FLOWERS102, LAPTOP, SAMPLES_5K, SCENES, SLOWLY, DataConfig, Preset

# ---- networks, without what only trains them ----

# 3,147,152 parameters
SMALL = VQGANConfig(
    channels=64, channel_mult=(1, 2), blocks=1, attention=(False, True), z_channels=128, patch=4,
    codebook_size=512, codebook_dim=32, quantizer="ema")

# 16,807,555 parameters
FLOWERS = VQGANConfig(channels=64, codebook_size=1024, codebook_dim=64, quantizer="ema")

# 68,995,971 parameters
GUMBEL = VQGANConfig(quantizer="gumbel")

# 72,141,699 parameters
F16 = VQGANConfig(
    channel_mult=(1, 1, 2, 2, 4), attention=(False, False, False, False, True), codebook_size=1024)

# 76,073,859 parameters
IMAGENET = replace(F16, codebook_size=16384)

# 63,485,379 parameters
ITHQ = VQGANConfig(
    channels=64, channel_mult=(1, 2, 4, 8), codebook_size=4096, codebook_dim=128, quantizer="ema")

# ---- models: a network, a loss and a size ----

SMALL_LOSS = VQGANLossConfig(squared=1.0, perceptual=0.0, perceptual_net="scenes", adversarial=0.0)
SHAPES_64 = VQGANRunConfig(size=64, net=SMALL, loss=SMALL_LOSS)
FLOWERS_64 = VQGANRunConfig(size=64, net=replace(SMALL, codebook_size=1024), loss=SMALL_LOSS)
FLOWERS_128 = VQGANRunConfig(size=128, net=FLOWERS)
COCO_256 = VQGANRunConfig(net=GUMBEL)
IMAGENET_256 = VQGANRunConfig(net=IMAGENET)
FFHQ_256 = VQGANRunConfig(net=F16)
ITHQ_256 = VQGANRunConfig(net=ITHQ)

# ---- data and training ----

CROPS = DataConfig("folder", crop="random", flip=True, workers=8)

SMALL_FIT = replace(LAPTOP, ema_decay=0.995)
FULL = FitConfig(
    steps=500_000, batch_size=32, lr=1.44e-4, betas=(0.5, 0.9), decay="none", ema_decay=0.9999)

PRESETS = [
    #      name                         model         hardware
    #      data                                  fit                               save
    #      expected
    Preset("vq-codec-shapes",           SHAPES_64,    hardware="laptop, half an hour on one core",
           data=SCENES,                          fit=replace(SMALL_FIT, steps=2_500),
           expected="36 dB on one object, 33 on two; all still read"),
    Preset("vq-codec-flowers102-small", FLOWERS_64,   hardware="laptop, half an hour on one core",
           data=replace(FLOWERS102, workers=0),  fit=replace(SMALL_FIT, steps=2_200),
           expected="21 dB in 64 codes of 1,024"),
    Preset("vq-codec-flowers102",       FLOWERS_128,  hardware="1 GPU, about 1 day",
           data=FLOWERS102,                      fit=replace(FULL, steps=100_000), save=SAMPLES_5K,
           expected="flowers in 256 codes of 1,024"),
    Preset("vq-codec-coco",             COCO_256,     hardware="8 GPUs, days",
           data=replace(CROPS, data="coco"),     fit=FULL,                         save=SLOWLY,
           expected="photographs in 1,024 codes of 8,192 (published: Gumbel, f8)"),
    Preset("vq-codec-imagenet",         IMAGENET_256, hardware="8 GPUs, days",
           data=replace(CROPS, data="imagenet"), fit=FULL,                         save=SLOWLY,
           expected="photographs in 256 codes of 16,384 (published: f16)"),
    Preset("vq-codec-ffhq",             FFHQ_256,     hardware="8 GPUs, days",
           data=replace(CROPS, crop="centre"),   fit=FULL,                         save=SLOWLY,
           expected="faces in 256 codes of 1,024 (published: f16)"),
    Preset("vq-codec-ithq",             ITHQ_256,     hardware="8 GPUs, days",
           data=CROPS,                           fit=FULL,                         save=SLOWLY,
           expected="any picture in 1,024 codes of 4,096 (published: moving averages, f8)"),
]
