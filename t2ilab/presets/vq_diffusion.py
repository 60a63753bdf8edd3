"""Presets of VQ-Diffusion (Gu et al. 2022), also improved (Tang et al. 2022): every named run as one row."""
from dataclasses import replace

from ..diffusion.token_denoiser import TokenObjectiveConfig
from ..families.vq_diffusion import VQDiffusionConfig
from ..nets.token_transformer import TokenTransformerConfig
from ..training.fit import FitConfig
from .preset import FLOWERS102, FOLDER, LAPTOP, SAMPLES_5K, SCENES, SLOWLY, DataConfig, Preset

# ---- objectives ----

SIMPLE = TokenObjectiveConfig(
    bound=0.0, auxiliary=0.01, adaptive=False, timestep_sampler="uniform", cond_drop_prob=0.1)
DROPPED = TokenObjectiveConfig(cond_drop_prob=0.1)
PICTURES_OBJECTIVE = TokenObjectiveConfig(auxiliary=1e-3)

# ---- small models ----

WORDS = TokenTransformerConfig(width=128, layers=6, heads=4, text_width=128)
# conv: as published without text
NO_WORDS = replace(WORDS, mlp="conv", mlp_mult=1, text_width=0)

# 2,271,360 parameters
SHAPES = VQDiffusionConfig(
    net=WORDS, replaced=0.1, masked=0.9, objective=SIMPLE, cache=False,
    sampling_steps=25, guidance_scale=2.0, truncation=0.86)

# 2,788,992 parameters
SHAPES_CLASSES = replace(SHAPES, net=replace(NO_WORDS, classes=18))

# 2,577,792 parameters
SHAPES_FREE = replace(
    SHAPES, net=NO_WORDS, objective=replace(SIMPLE, cond_drop_prob=0.0), guidance_scale=1.0, truncation=0.7)

# 6,394,048 parameters
FLOWERS_SMALL = replace(
    SHAPES, codec="vq-codec-flowers102-small", codebook_size=1024,
    net=replace(NO_WORDS, width=192, classes=102), sampling_steps=50, truncation=0.9)

# ---- models of the papers' size ----

# 388,780,871 parameters.  Draws the codes that are taken most: t2ilab codebook runs/vq-codec-coco.
# No cache: 77 positions of each caption would be 65 GB for COCO.
COCO = VQDiffusionConfig(
    codec="runs/vq-codec-coco", codebook_size=2887, grid=32, size=256,
    encoder="openai/clip-vit-base-patch32", encoder_normalised=True, attend_padding=True, text_length=77,
    cache=False, truncation=0.86)

# 388,820,295 parameters, 39,424 of them of the null embedding
COCO_TUNE = replace(COCO, objective=DROPPED, truncation=1.0, guidance_scale=3.0)

# 65,367,040 parameters, 39,424 of them of the null embedding
FLOWERS = replace(
    COCO, codec="runs/vq-codec-flowers102", codebook_size=1024, grid=16, size=128,
    net=TokenTransformerConfig(width=512, layers=12, heads=8), objective=DROPPED,
    attend_padding=False, cache=True, guidance_scale=3.0)

# 35,936,647 parameters
CUB_S = replace(COCO, net=TokenTransformerConfig(width=192, layers=18, mlp="conv", mlp_mult=2))

PICTURES = TokenTransformerConfig(width=512, layers=24, mlp="conv", text_width=0, position_table=32)

# 518,025,678 parameters
IMAGENET = replace(
    COCO, codec="runs/vq-codec-imagenet", codebook_size=974, grid=16,
    net=replace(PICTURES, classes=1000), objective=PICTURES_OBJECTIVE)

# 411,185,664 parameters
FFHQ = replace(
    COCO, codec="runs/vq-codec-ffhq", codebook_size=1024, grid=16,
    net=replace(PICTURES, layers=20), objective=PICTURES_OBJECTIVE)

# 1,359,314,048 parameters, 39,424 of them of the null embedding
ITHQ = replace(
    COCO, codec="runs/vq-codec-ithq", codebook_size=4096, objective=DROPPED,
    net=TokenTransformerConfig(width=1408, layers=36, gradient_checkpointing=True))

# ---- data and training ----

OWN = DataConfig("folder", crop="random", workers=8)
COCO_DATA = replace(OWN, data="coco")
CUB_DATA = replace(OWN, data="cub")
IMAGENET_DATA = replace(OWN, data="imagenet")
FLOWERS_DATA = replace(FLOWERS102, workers=0)

SMALL = replace(LAPTOP, batch_size=64)
FULL = FitConfig(
    steps=500_000, batch_size=64, lr=4.5e-4, betas=(0.9, 0.96), weight_decay=0.045, warmup=1000,
    clip=0.5, ema_decay=0.9996)

PRESETS = [
    #      name                   model           hardware
    #      data                fit                                              save
    #      expected                                             init_from
    Preset("vq-shapes",           SHAPES,         hardware="laptop, an hour and a quarter on one core",
           data=SCENES,        fit=replace(SMALL, steps=6_000),
           expected="96 % on one object, 87 % on two"),
    Preset("vq-shapes-classes",   SHAPES_CLASSES, hardware="laptop, an hour on one core",
           data=SCENES,        fit=replace(SMALL, steps=5_500),
           expected="93 % show their label"),
    Preset("vq-shapes-free",      SHAPES_FREE,    hardware="laptop, half an hour on one core",
           data=SCENES,        fit=replace(SMALL, steps=3_000),
           expected="scenes of its own choice; half can be read"),
    Preset("vq-flowers102-small", FLOWERS_SMALL,  hardware="laptop, half an hour on one core",
           data=FLOWERS_DATA,  fit=replace(SMALL, steps=1_500),
           expected="flowers, their colours by the label"),
    Preset("vq-flowers102",       FLOWERS,        hardware="1 GPU, about 1 day",
           data=FLOWERS102,    fit=replace(FULL, steps=100_000),                save=SAMPLES_5K,
           expected="flowers of the kind that was asked for"),
    Preset("vq-coco",             COCO,           hardware="8 GPUs, days",
           data=COCO_DATA,     fit=replace(FULL, lr=2e-4),                      save=SLOWLY,
           expected="FID 19.75 on COCO (VQ-Diffusion-B; -F, begun on more data, 13.86)"),
    Preset("vq-coco-tune",        COCO_TUNE,      hardware="8 GPUs, days",
           data=COCO_DATA,     fit=replace(FULL, lr=2e-4, steps=100_000),       save=SLOWLY,
           expected="FID 8.44 on COCO (Improved VQ-Diffusion)", init_from="runs/vq-coco"),
    Preset("vq-cub",              COCO,           hardware="1 GPU, days",
           data=CUB_DATA,      fit=FULL,                                        save=SLOWLY,
           expected="FID 10.32 on CUB-200 (VQ-Diffusion-F)"),
    Preset("vq-cub-s",            CUB_S,          hardware="1 GPU, a day",
           data=CUB_DATA,      fit=FULL,                                        save=SLOWLY,
           expected="FID 12.97 on CUB-200 (VQ-Diffusion-S)"),
    Preset("vq-imagenet",         IMAGENET,       hardware="8 GPUs, weeks",
           data=IMAGENET_DATA, fit=replace(FULL, warmup=5000),                  save=SLOWLY,
           expected="FID 11.89 on ImageNet (VQ-Diffusion)"),
    Preset("vq-ffhq",             FFHQ,           hardware="8 GPUs, days",
           data=FOLDER,        fit=replace(FULL, warmup=2000, ema_decay=0.999), save=SLOWLY,
           expected="FID 6.33 on FFHQ (VQ-Diffusion)"),
    Preset("vq-ithq",             ITHQ,           hardware="8 GPUs, weeks",
           data=OWN,           fit=replace(FULL, lr=1e-4, warmup=7000),         save=SLOWLY,
           expected="pictures of your own captions"),
]
