"""Presets of Imagen (Saharia et al. 2022): every named run as one row."""
from dataclasses import replace

from ..diffusion.gaussian_denoiser import ObjectiveConfig
from ..families.imagen import BASE, ImagenConfig
from ..nets.efficient_unet import EfficientUNetConfig
from ..nets.unet import UNetConfig
from ..training.fit import FitConfig
from .glide import WORDS
from .preset import FLOWERS102, FOLDER, LAPTOP, SAMPLES_5K, SAMPLES_10K, SCENES, DataConfig, Preset

# ---- models ----

# 3,169,004 parameters, without the text encoder's as everywhere below
SHAPES = ImagenConfig(
    size=32, encoder="t5-shapes", encoder_width=128, text_length=24, cache=False,
    net=replace(WORDS, places=True),
    objective=ObjectiveConfig(
        predict="x0", loss_weighting="v_clipped", timestep_sampler="late", cond_drop_prob=0.1),
    sampling_steps=50, guidance_scale=2.0, threshold="static")

# 1,713,500 parameters
SHARPEN = EfficientUNetConfig(
    channels=48, channel_mult=(1, 2), blocks=(2, 2), attention=(False, True), cross=(False, False),
    head_channels=48, patch=2, places=True, text_width=128)
SHAPES_UPSAMPLER = replace(
    SHAPES, size=64, low_res=32, net=SHARPEN,
    objective=ObjectiveConfig(predict="x0", loss_weighting="v_clipped", cond_drop_prob=0.1),
    sampling_steps=20, guidance_scale=1.0)

# 48,075 parameters
TINY = replace(
    SHAPES, size=16,
    net=UNetConfig(
        channels=8, channel_mult=(1, 2), blocks=1, attention=(False, False), scale_shift_norm=True,
        dropout=0.0, text_width=8))

# 38,899 parameters
TINY_UPSAMPLER = replace(
    TINY, size=32, low_res=16,
    net=replace(
        SHARPEN, channels=8, channel_mult=(1, 2), blocks=(1, 2), attention=(False, False),
        head_channels=8, patch=1, text_width=8),
    sampling_steps=20, guidance_scale=1.0)

# 95,457,155 parameters
FLOWERS = ImagenConfig(
    encoder="google-t5/t5-small", encoder_width=512, text_length=32,
    net=UNetConfig(
        channels=128, channel_mult=(1, 2, 3, 4), attention=(False, False, True, True), head_channels=64,
        scale_shift_norm=True, text_width=256),
    objective=ObjectiveConfig(predict="v", loss_weighting="min_snr", cond_drop_prob=0.1))

# 292,939,587 parameters
COCO = ImagenConfig(
    encoder="google/t5-v1_1-large", encoder_width=1024, text_length=64, net=replace(BASE, channels=192))

# 2,005,462,019 parameters
PUBLISHED = ImagenConfig()

# 455,375,491 parameters
UPSAMPLER = ImagenConfig(
    size=256, low_res=64, net=EfficientUNetConfig(), crop_size=64, augmentation=0.2,
    objective=ObjectiveConfig(predict="v", cond_drop_prob=0.1), guidance_scale=5.0)

# 451,177,091 parameters
UPSAMPLER_1024 = replace(
    UPSAMPLER, size=1024, low_res=256, crop_size=256,
    net=EfficientUNetConfig(attention=(False,) * 4, cross=(False, False, False, True)))

# ---- data and training ----

EVERYDAY = DataConfig("coco", crop="random", workers=8)

QUICK = FitConfig(steps=2_000, batch_size=32, lr=2e-3)
FLOWERS_FIT = FitConfig(steps=100_000, batch_size=64, lr=1e-4, warmup=1000, ema_decay=0.9999)
COCO_FIT = FitConfig(
    steps=500_000, batch_size=256, lr=1e-4, warmup=10_000, decay="none", ema_decay=0.9999, accumulate=4)
FULL = FitConfig(
    steps=2_500_000, batch_size=2048, lr=1e-4, betas=(0.9, 0.999), warmup=10_000, decay="none",
    ema_decay=0.9999, accumulate=64)

LATER = ("imagen-upsampler", "imagen-upsampler-1024")

PRESETS = [
    #      name                       model             hardware
    #      data             fit              save
    #      expected                                                 cascade
    Preset("imagen-shapes",           SHAPES,           hardware="laptop, an hour on one core",
           data=SCENES,     fit=replace(LAPTOP, steps=8_000),
           expected="alignment 1.00 on one object, 0.89 on two",    cascade=("imagen-shapes-upsampler",)),
    Preset("imagen-shapes-upsampler", SHAPES_UPSAMPLER, hardware="laptop, half an hour on one core",
           data=SCENES,     fit=replace(LAPTOP, steps=3_000),
           expected="31.7 dB, 1.1 more than bicubic"),
    Preset("imagen-tiny",             TINY,             hardware="laptop, minutes",
           data=SCENES,     fit=QUICK,
           expected="a quick trial of every part",                  cascade=("imagen-tiny-upsampler",)),
    Preset("imagen-tiny-upsampler",   TINY_UPSAMPLER,   hardware="laptop, minutes",
           data=SCENES,     fit=QUICK,
           expected="a quick trial of every part"),
    Preset("imagen-flowers102",       FLOWERS,          hardware="1 GPU, about 1 day",
           data=FLOWERS102, fit=FLOWERS_FIT, save=SAMPLES_5K,
           expected="flowers of the kind that was asked for"),
    Preset("imagen-coco",             COCO,             hardware="8 GPUs, days",
           data=EVERYDAY,   fit=COCO_FIT,    save=SAMPLES_10K,
           expected="scenes of everyday things",                    cascade=LATER[:1]),
    Preset("imagen-base",             PUBLISHED,        hardware="many GPUs, weeks",
           data=FOLDER,     fit=FULL,        save=SAMPLES_10K,
           expected="FID 7.27 on COCO, zero-shot (Imagen Table 1)", cascade=LATER),
    Preset("imagen-upsampler",        UPSAMPLER,        hardware="many GPUs, weeks",
           data=FOLDER,     fit=FULL,        save=SAMPLES_10K,
           expected="64 px pictures at 256 px"),
    Preset("imagen-upsampler-1024",   UPSAMPLER_1024,   hardware="many GPUs, weeks",
           data=FOLDER,     fit=FULL,        save=SAMPLES_10K,
           expected="256 px pictures at 1024 px"),
]
