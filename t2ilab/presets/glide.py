"""GLIDE (Nichol et al. 2022): every named run as one literal."""
from dataclasses import replace

from ..diffusion.gaussian_denoiser import ObjectiveConfig
from ..diffusion.schedules import FAST27
from ..families.glide import BASE, GLIDEConfig
from ..nets.text_transformer import TextConfig
from ..nets.unet import UNetConfig
from ..training.fit import FitConfig
from .preset import LAPTOP, DataConfig, Preset, SaveConfig

WORDS = UNetConfig(
    channels=48, channel_mult=(1, 2, 2), blocks=1, attention=(False, True, True), head_channels=48,
    scale_shift_norm=True, dropout=0.0, patch=2, text_width=128)
SHAPES = GLIDEConfig(
    size=32, known=0.25, net=replace(WORDS, places=True),
    text=TextConfig(512, 24, text_layers=2, text_heads=4),
    objective=ObjectiveConfig(predict="x0", loss_weighting="v_clipped", timestep_sampler="late",
                              cond_drop_prob=0.2),
    sampling_steps=50, guidance_scale=1.5)
SHAPES_UPSAMPLER = replace(
    SHAPES, size=64, low_res=32, low_res_noise=0.05, net=replace(WORDS, patch=4),
    objective=ObjectiveConfig(predict="x0", loss_weighting="v_clipped", variance="learned", loss="hybrid",
                              cond_drop_prob=0.2),
    sampling_steps=20, guidance_scale=1.0)
TINY = GLIDEConfig(                                                     # 1,625,798 parameters
    size=32, text=TextConfig(512, 32, text_layers=2, text_heads=4),
    net=replace(BASE, channels=32, channel_mult=(1, 2, 2), blocks=1, attention=(False, True, True),
                head_channels=32, dropout=0.0, text_width=64))
MINI = GLIDEConfig(net=replace(BASE, channels=96, head_channels=32))    # 156,947,494
FLOWERS = replace(
    MINI, net=replace(MINI.net, channels=64, blocks=2), text=TextConfig(4096, 32, text_layers=4),
    objective=ObjectiveConfig(predict="v", loss_weighting="min_snr", variance="learned", loss="hybrid",
                              cond_drop_prob=0.2))
UPSAMPLER = GLIDEConfig(                                                # 398,361,286
    size=256, low_res=64, schedule="linear",
    net=replace(BASE, blocks=2, channel_mult=(1, 1, 2, 2, 4, 4),
                attention=(False, False, False, True, True, True)),
    sampler="ddim", sampling_steps=FAST27, guidance_scale=1.0, temperature=0.997)

PRESETS = [
    Preset(
        "glide-shapes", SHAPES,
        DataConfig("shapes"),
        replace(LAPTOP, steps=16_000),
        cascade=("glide-shapes-upsampler",),
        expected="alignment 1.00 on one object, 0.96 on two",
        hardware="laptop, two hours on one core"),
    Preset(
        "glide-shapes-upsampler", SHAPES_UPSAMPLER,
        DataConfig("shapes"),
        replace(LAPTOP, steps=3_000),
        expected="35 dB, 4.6 more than bicubic",
        hardware="laptop, half an hour on one core"),
    Preset(
        "glide-tiny", TINY,
        DataConfig("shapes"),
        FitConfig(steps=5_000, batch_size=64, lr=1e-3),
        expected="colours and shapes follow the caption",
        hardware="laptop, two and a half hours on one core"),
    Preset(
        "glide-flowers102", FLOWERS,
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        FitConfig(steps=100_000, batch_size=64, lr=2e-4, warmup=1000, ema_decay=0.9999),
        SaveConfig(sample_steps=5_000),
        expected="flowers of the kind that was asked for",
        hardware="1 GPU, about 1 day"),
    Preset(
        "glide-mini", MINI,
        DataConfig("folder", workers=4),
        FitConfig(steps=100_000, batch_size=64, lr=1e-4, betas=(0.9, 0.999), decay="none", ema_decay=0.9999),
        SaveConfig(checkpoint_seconds=3600),
        expected="pictures of your own captions",
        hardware="1 GPU, days"),
    Preset(
        "glide-mini-dogs", MINI,
        DataConfig("dogs", split="all", crop="random", flip=True, workers=4),
        FitConfig(steps=150_000, batch_size=64, lr=1e-4, betas=(0.9, 0.999), decay="none", ema_decay=0.9999),
        SaveConfig(checkpoint_seconds=3600),
        expected="dogs of the breed that was asked for",
        hardware="1 GPU, days"),
    Preset(
        "glide-mini-sbu", replace(MINI, T=100, sampling_steps=100),
        DataConfig("sbu", limit=100_000, workers=4),
        FitConfig(steps=800_000, batch_size=12, lr=1e-4, betas=(0.9, 0.999), decay="none", ema_decay=0.9999),
        SaveConfig(checkpoint_seconds=3600),
        expected="FID below miniGLIDE's 145.77 on COCO",
        hardware="1 GPU, a week"),
    Preset(
        "glide-base", GLIDEConfig(),
        DataConfig("folder", workers=8),
        FitConfig(steps=2_500_000, batch_size=2048, lr=1.2e-4, betas=(0.9, 0.999), decay="none",
                  ema_decay=0.9999, accumulate=32),
        SaveConfig(sample_steps=10_000),
        cascade=("glide-upsampler",),
        expected="FID 12.24 on COCO, zero-shot (GLIDE Table 2)",
        hardware="many GPUs, weeks"),
    Preset(
        "glide-upsampler", UPSAMPLER,
        DataConfig("folder", workers=8),
        FitConfig(steps=1_600_000, batch_size=512, lr=1.2e-4, betas=(0.9, 0.999), decay="none",
                  ema_decay=0.9999, accumulate=32),
        SaveConfig(sample_steps=10_000),
        expected="64 px pictures at 256 px",
        hardware="many GPUs, weeks"),
]
