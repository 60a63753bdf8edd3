"""Every named run as one literal: what is built, what it eats, how it trains, and the number it should reach.

`t2ilab train NAME` runs one; every field is an option there. No YAML, no registry.
"""
from dataclasses import dataclass, field, replace
from typing import Annotated, Generic, TypeVar

import tyro

from .diffusion.denoiser import ObjectiveConfig
from .diffusion.schedules import FAST27
from .diffusion.token_denoiser import TokenObjectiveConfig
from .families.ddpm import DDPM
from .families.glide import BASE, GLIDE
from .families.imagen import BASE as IMAGEN_BASE
from .families.imagen import Imagen
from .families.vq_codec import VQCodec
from .families.vq_diffusion import VQDiffusion
from .nets.efficient_unet import EfficientUNetConfig
from .nets.text_transformer import TextConfig
from .nets.token_transformer import TokenTransformerConfig
from .nets.unet import UNetConfig
from .nets.vqgan import VQGANConfig
from .train.codec import CodecLossConfig
from .train.fit import FitConfig


@dataclass(frozen=True)
class DataConfig:
    data: str = "shapes"                # data set: shapes, cifar10, flowers102, sbu, dogs, coco or folder
    root: str | None = None             # folder it lies in; none needed for shapes
    split: str = "train"                # part of it to train on
    crop: str = "centre"                # centre or random
    flip: bool = False                  # mirror half of the pictures
    limit: int | None = None            # use only so many examples, evenly spaced
    download: bool = False              # fetch the data set if it is not there
    workers: int = 0                    # processes that read pictures ahead
    validation: float = 0.0             # share of the examples that is held back to measure the loss on

    def __post_init__(self):
        if not 0 <= self.validation <= 0.5:
            raise ValueError(f"validation={self.validation}: choose a share from 0 to 0.5")


@dataclass(frozen=True)
class SaveConfig:
    checkpoint_steps: int = 0           # save every so many steps; 0 = by the clock only
    checkpoint_seconds: float = 300.0   # save when this long has passed since the last time
    keep: int = 2                       # checkpoints to keep
    sample_steps: int = 1000            # draw a grid of samples every so many steps; 0 = never
    validate_steps: int = 1000          # measure the loss on what is held back every so many steps

    def __post_init__(self):
        if self.keep < 1:
            raise ValueError(f"keep={self.keep}: choose 1 or more")


Family = TypeVar("Family", DDPM, GLIDE, Imagen, VQCodec, VQDiffusion)


@dataclass(frozen=True)
class Preset(Generic[Family]):
    name: Annotated[str, tyro.conf.Suppress]            # of the preset, and of its folder in runs/
    model: Family
    data: DataConfig = field(default_factory=DataConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    save: SaveConfig = field(default_factory=SaveConfig)
    family: Annotated[str, tyro.conf.Suppress] = "ddpm"     # which of FAMILIES `model` belongs to
    start: str | None = None                                # a run whose weights to begin with; it stays as it is
    then: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()   # presets trained after it on the same data, each in a folder inside its run's
    expected: Annotated[str, tyro.conf.Suppress] = ""       # the number this run should reach
    hardware: Annotated[str, tyro.conf.Suppress] = ""       # what it was meant for


SMALL = UNetConfig(channels=48, mults=(1, 2, 2), blocks=1, attention=(False, False, True), head_channels=48, film=True, dropout=0.0, patch=2,
                   classes=18)
HO = UNetConfig()                                                                                                       # 35,746,307 parameters
IDDPM = UNetConfig(blocks=3, attention=(False, True, True, False), head_channels=64, film=True, dropout=0.3)            # 52,546,438 with learned variance
FLOWERS = UNetConfig(mults=(1, 2, 3, 4), attention=(False, False, True, True), head_channels=64, film=True)
WORDS = UNetConfig(channels=48, mults=(1, 2, 2), blocks=1, attention=(False, True, True), head_channels=48, film=True, dropout=0.0, patch=2, text_width=128)
SHAPES = GLIDE(size=32, known=0.25, sampling_steps=50, guidance_scale=1.5, text=TextConfig(512, 24, text_layers=2, text_heads=4), net=replace(WORDS, places=True),
               objective=ObjectiveConfig(predict="x0", weight="v_clipped", times="late", drop=0.2))
TINY = GLIDE(size=32, text=TextConfig(512, 32, text_layers=2, text_heads=4),                                            # 1,625,798
             net=replace(BASE, channels=32, mults=(1, 2, 2), blocks=1, attention=(False, True, True), head_channels=32, dropout=0.0, text_width=64))
MINI = GLIDE(net=replace(BASE, channels=96, head_channels=32))                                                          # 156,947,494
UPSAMPLER = GLIDE(size=256, low_res=64, schedule="linear", sampler="ddim", sampling_steps=FAST27, guidance_scale=1.0, temperature=0.997,     # 398,361,286
                  net=replace(BASE, blocks=2, mults=(1, 1, 2, 2, 4, 4), attention=(False, False, False, True, True, True)))
IMAGEN_SHAPES = Imagen(size=32, encoder="t5-shapes", encoder_width=128, text_length=24, cache=False, sampling_steps=50, guidance_scale=2.0,
                       net=replace(WORDS, places=True),
                       objective=ObjectiveConfig(predict="x0", weight="v_clipped", times="late", drop=0.1))
SHARPEN = EfficientUNetConfig(channels=48, mults=(2, 3), blocks=(2, 2), attention=(True, True), cross=(False, False), head_channels=48, patch=4, places=True,
                              text_width=128)
IMAGEN_TINY = replace(IMAGEN_SHAPES, size=16, net=UNetConfig(channels=8, mults=(1, 2), blocks=1, attention=(False, False), film=True, dropout=0.0, text_width=8))
IMAGEN_UPSAMPLER = Imagen(size=256, low_res=64, net=EfficientUNetConfig(), crop_size=64, guidance_scale=5.0, augmentation=0.2,
                          objective=ObjectiveConfig(predict="v", drop=0.1))
IMAGEN_FIT = FitConfig(steps=2_500_000, batch_size=2048, lr=1e-4, betas=(0.9, 0.999), warmup=10_000, decay="none", ema_decay=0.9999, accumulate=64)
CODEC_SHAPES = VQCodec(size=64, net=VQGANConfig(channels=32, mults=(1, 2, 3), blocks=1, attention=(False, False, True), z_channels=64, code_width=32,
                                               codes=512, quantizer="ema", patch=2),
                       loss=CodecLossConfig(squared=1.0, perceptual=0.0, eyes="scenes", adversarial=0.0))
VQ_SHAPES = VQDiffusion(cache=False, net=TokenTransformerConfig(width=192, layers=6, heads=6, text_width=128), replaced=0.1, masked=0.9,
                        objective=TokenObjectiveConfig(bound=0.0, auxiliary=0.01, adaptive=False, times="uniform", drop=0.1),
                        sampler="purity", sampling_steps=20, guidance_scale=2.0)
F16 = VQGANConfig(mults=(1, 1, 2, 2, 4), attention=(False, False, False, False, True), codes=1024)                     # 72,141,699

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
    Preset(
        "glide-shapes", SHAPES,
        DataConfig("shapes"),
        FitConfig(steps=16_000, batch_size=32, lr=2e-3, optimizer="muon", decay="linear", ema_decay=0.998),
        family="glide", then=("glide-shapes-upsampler",),
        expected="alignment 0.99 on one object, 0.95 on two", hardware="laptop, 2 hours on 2 cores"),
    Preset(
        "glide-shapes-upsampler", replace(
            SHAPES, size=64, low_res=32, low_res_noise=0.05, net=replace(WORDS, patch=4), sampling_steps=20, guidance_scale=1.0,
            objective=ObjectiveConfig(predict="x0", weight="v_clipped", variance="learned", loss="hybrid", drop=0.2)),
        DataConfig("shapes"),
        FitConfig(steps=3_000, batch_size=32, lr=2e-3, optimizer="muon", decay="linear", ema_decay=0.998),
        family="glide",
        expected="35 dB, 4.6 more than bicubic", hardware="laptop, half an hour on 2 cores"),
    Preset(
        "glide-tiny", TINY,
        DataConfig("shapes"),
        FitConfig(steps=5_000, batch_size=64, lr=1e-3),
        family="glide",
        expected="colours and shapes follow the caption", hardware="laptop, an hour on 2 cores"),
    Preset(
        "glide-flowers102", replace(MINI, net=replace(MINI.net, channels=64, blocks=2), text=TextConfig(4096, 32, text_layers=4),
                                    objective=ObjectiveConfig(predict="v", weight="min_snr", variance="learned", loss="hybrid", drop=0.2)),
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        FitConfig(steps=100_000, batch_size=64, lr=2e-4, warmup=1000, ema_decay=0.9999),
        SaveConfig(sample_steps=5_000),
        family="glide",
        expected="flowers of the kind that was asked for", hardware="1 GPU, about 1 day"),
    Preset(
        "glide-mini", MINI,
        DataConfig("folder", workers=4),
        FitConfig(steps=100_000, batch_size=64, lr=1e-4, betas=(0.9, 0.999), decay="none", ema_decay=0.9999),
        SaveConfig(checkpoint_seconds=3600),
        family="glide",
        expected="pictures of your own captions", hardware="1 GPU, days"),
    Preset(
        "glide-mini-dogs", MINI,
        DataConfig("dogs", split="all", crop="random", flip=True, workers=4),
        FitConfig(steps=150_000, batch_size=64, lr=1e-4, betas=(0.9, 0.999), decay="none", ema_decay=0.9999),
        SaveConfig(checkpoint_seconds=3600),
        family="glide",
        expected="dogs of the breed that was asked for", hardware="1 GPU, days"),
    Preset(
        "glide-mini-sbu", replace(MINI, T=100, sampling_steps=100),
        DataConfig("sbu", limit=100_000, workers=4),
        FitConfig(steps=800_000, batch_size=12, lr=1e-4, betas=(0.9, 0.999), decay="none", ema_decay=0.9999),
        SaveConfig(checkpoint_seconds=3600),
        family="glide",
        expected="FID below miniGLIDE's 145.77 on COCO", hardware="1 GPU, a week"),
    Preset(
        "glide-base", GLIDE(),
        DataConfig("folder", workers=8),
        FitConfig(steps=2_500_000, batch_size=2048, lr=1.2e-4, betas=(0.9, 0.999), decay="none", ema_decay=0.9999, accumulate=32),
        SaveConfig(sample_steps=10_000),
        family="glide", then=("glide-upsampler",),
        expected="FID 12.24 on COCO, zero-shot (GLIDE Table 2)", hardware="many GPUs, weeks"),
    Preset(
        "glide-upsampler", UPSAMPLER,
        DataConfig("folder", workers=8),
        FitConfig(steps=1_600_000, batch_size=512, lr=1.2e-4, betas=(0.9, 0.999), decay="none", ema_decay=0.9999, accumulate=32),
        SaveConfig(sample_steps=10_000),
        family="glide",
        expected="64 px pictures at 256 px", hardware="many GPUs, weeks"),
    Preset(
        "imagen-shapes", IMAGEN_SHAPES,
        DataConfig("shapes"),
        FitConfig(steps=9_000, batch_size=32, lr=2e-3, optimizer="muon", decay="linear", ema_decay=0.998),
        family="imagen", then=("imagen-shapes-upsampler",),
        expected="alignment 0.87 on one object, 0.40 on two; longer runs go on rising", hardware="laptop, half an hour on 2 cores"),
    Preset(
        "imagen-shapes-upsampler", replace(
            IMAGEN_SHAPES, size=64, low_res=32, net=SHARPEN, sampling_steps=20, guidance_scale=1.0, threshold="static",
            objective=ObjectiveConfig(predict="x0", weight="v_clipped", drop=0.1)),
        DataConfig("shapes"),
        FitConfig(steps=3_000, batch_size=32, lr=2e-3, optimizer="muon", decay="linear", ema_decay=0.998),
        family="imagen",
        expected="27.9 dB, 2.6 more than bicubic", hardware="laptop, half an hour on 2 cores"),
    Preset(
        "imagen-tiny", IMAGEN_TINY,
        DataConfig("shapes"),
        FitConfig(steps=2_000, batch_size=32, lr=2e-3),
        family="imagen", then=("imagen-tiny-upsampler",),
        expected="a quick trial of every part", hardware="laptop, minutes"),
    Preset(
        "imagen-tiny-upsampler", replace(
            IMAGEN_TINY, size=32, low_res=16, sampling_steps=20, guidance_scale=1.0,
            net=replace(SHARPEN, channels=8, mults=(1, 2), blocks=(1, 2), attention=(False, False), head_channels=8, patch=1, text_width=8)),
        DataConfig("shapes"),
        FitConfig(steps=2_000, batch_size=32, lr=2e-3),
        family="imagen",
        expected="a quick trial of every part", hardware="laptop, minutes"),
    Preset(
        "imagen-flowers102", Imagen(encoder="google-t5/t5-small", encoder_width=512, text_length=32,
            net=UNetConfig(channels=128, mults=(1, 2, 3, 4), attention=(False, False, True, True), head_channels=64, film=True, text_width=256),
            objective=ObjectiveConfig(predict="v", weight="min_snr", drop=0.1)),
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        FitConfig(steps=100_000, batch_size=64, lr=1e-4, warmup=1000, ema_decay=0.9999),
        SaveConfig(sample_steps=5_000),
        family="imagen",
        expected="flowers of the kind that was asked for", hardware="1 GPU, about 1 day"),
    Preset(
        "imagen-coco", Imagen(encoder="google/t5-v1_1-large", encoder_width=1024, text_length=64, net=replace(IMAGEN_BASE, channels=192)),
        DataConfig("coco", crop="random", workers=8),
        FitConfig(steps=500_000, batch_size=256, lr=1e-4, warmup=10_000, decay="none", ema_decay=0.9999, accumulate=4),
        SaveConfig(sample_steps=10_000),
        family="imagen", then=("imagen-upsampler",),
        expected="scenes of everyday things", hardware="8 GPUs, days"),
    Preset(
        "imagen-base", Imagen(),
        DataConfig("folder", workers=8),
        IMAGEN_FIT, SaveConfig(sample_steps=10_000),
        family="imagen", then=("imagen-upsampler", "imagen-upsampler-1024"),
        expected="FID 7.27 on COCO, zero-shot (Imagen Table 1)", hardware="many GPUs, weeks"),
    Preset(
        "imagen-upsampler", IMAGEN_UPSAMPLER,
        DataConfig("folder", workers=8),
        IMAGEN_FIT, SaveConfig(sample_steps=10_000),
        family="imagen",
        expected="64 px pictures at 256 px", hardware="many GPUs, weeks"),
    Preset(
        "imagen-upsampler-1024", replace(IMAGEN_UPSAMPLER, size=1024, low_res=256, crop_size=256,
            net=EfficientUNetConfig(attention=(False,) * 4, cross=(False, False, False, True))),
        DataConfig("folder", workers=8),
        IMAGEN_FIT, SaveConfig(sample_steps=10_000),
        family="imagen",
        expected="256 px pictures at 1024 px", hardware="many GPUs, weeks"),
    Preset(
        "vq-codec-shapes", CODEC_SHAPES,
        DataConfig("shapes"),
        FitConfig(steps=3_000, batch_size=32, lr=1e-3, decay="linear", ema_decay=0.998),
        family="vq_codec",
        expected="scenes that the parser still reads", hardware="laptop, half an hour on 2 cores"),
    Preset(
        "vq-shapes", VQ_SHAPES,
        DataConfig("shapes"),
        FitConfig(steps=9_000, batch_size=64, lr=2e-3, optimizer="muon", decay="linear", ema_decay=0.998),
        family="vq_diffusion",
        expected="scenes as captions say", hardware="laptop, 1 hour on 2 cores"),
]}
