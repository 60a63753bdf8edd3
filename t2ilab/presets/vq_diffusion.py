"""VQ-Diffusion (Gu et al. 2022), Improved VQ-Diffusion (Tang et al. 2022): every named run as one literal."""
from dataclasses import replace

from ..diffusion.token_denoiser import TokenObjectiveConfig
from ..families.vq_diffusion import VQDiffusionConfig
from ..nets.token_transformer import TokenTransformerConfig
from ..training.fit import FitConfig
from .preset import LAPTOP, DataConfig, Preset, SaveConfig
from .vqgan import SLOWLY

WORDS = TokenTransformerConfig(width=128, layers=6, heads=4, text_width=128)
NO_WORDS = replace(WORDS, mlp="conv", mlp_mult=1, text_width=0)         # conv: as published without text
SIMPLE = TokenObjectiveConfig(
    bound=0.0, auxiliary=0.01, adaptive=False, timestep_sampler="uniform", cond_drop_prob=0.1)
SHAPES = VQDiffusionConfig(
    net=WORDS, replaced=0.1, masked=0.9, objective=SIMPLE, cache=False,
    sampling_steps=25, guidance_scale=2.0, truncation=0.86)

# Draws the codes that are taken most: t2ilab codebook runs/vq-codec-coco.
# No cache: 77 positions of each caption would be 65 GB for COCO.
COCO = VQDiffusionConfig(                                               # 388,780,871 parameters
    codec="runs/vq-codec-coco", codebook_size=2887, grid=32, size=256,
    encoder="openai/clip-vit-base-patch32", encoder_normalised=True, attend_padding=True, text_length=77,
    cache=False, truncation=0.86)
PICTURES = TokenTransformerConfig(width=512, layers=24, mlp="conv", text_width=0, position_table=32)
DROPPED = TokenObjectiveConfig(cond_drop_prob=0.1)
SMALL_CUB = TokenTransformerConfig(width=192, layers=18, mlp="conv", mlp_mult=2)

FULL = FitConfig(
    steps=500_000, batch_size=64, lr=4.5e-4, betas=(0.9, 0.96), weight_decay=0.045, warmup=1000,
    clip=0.5, ema_decay=0.9996)

PRESETS = [
    Preset(
        "vq-shapes", SHAPES,
        DataConfig("shapes"),
        replace(LAPTOP, steps=6_000, batch_size=64),
        expected="96 % on one object, 87 % on two",
        hardware="laptop, an hour and a quarter on one core"),
    Preset(
        "vq-shapes-classes", replace(SHAPES, net=replace(NO_WORDS, classes=18)),
        DataConfig("shapes"),
        replace(LAPTOP, steps=5_500, batch_size=64),
        expected="93 % show their label",
        hardware="laptop, an hour on one core"),
    Preset(
        "vq-shapes-free",
        replace(SHAPES, net=NO_WORDS, objective=replace(SIMPLE, cond_drop_prob=0.0),
                guidance_scale=1.0, truncation=0.7),
        DataConfig("shapes"),
        replace(LAPTOP, steps=3_000, batch_size=64),
        expected="scenes of its own choice; half can be read",
        hardware="laptop, half an hour on one core"),
    Preset(
        "vq-flowers102-small",
        replace(SHAPES, codec="vq-codec-flowers102-small", codebook_size=1024,
                net=replace(NO_WORDS, width=192, classes=102), sampling_steps=50, truncation=0.9),
        DataConfig("flowers102", split="all", crop="random", flip=True),
        replace(LAPTOP, steps=1_500, batch_size=64),
        expected="flowers, their colours by the label",
        hardware="laptop, half an hour on one core"),
    Preset(
        "vq-flowers102",
        replace(COCO, codec="runs/vq-codec-flowers102", codebook_size=1024, grid=16, size=128,
                net=TokenTransformerConfig(width=512, layers=12, heads=8), objective=DROPPED,
                attend_padding=False, cache=True, guidance_scale=3.0),
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        replace(FULL, steps=100_000), SaveConfig(sample_steps=5_000),
        expected="flowers of the kind that was asked for",
        hardware="1 GPU, about 1 day"),
    Preset(
        "vq-coco", COCO,
        DataConfig("coco", crop="random", workers=8), replace(FULL, lr=2e-4), SLOWLY,
        expected="FID 19.75 on COCO (VQ-Diffusion-B; -F, begun on more data, 13.86)",
        hardware="8 GPUs, days"),
    Preset(
        "vq-coco-tune", replace(COCO, objective=DROPPED, truncation=1.0, guidance_scale=3.0),
        DataConfig("coco", crop="random", workers=8), replace(FULL, lr=2e-4, steps=100_000), SLOWLY,
        init_from="runs/vq-coco",
        expected="FID 8.44 on COCO (Improved VQ-Diffusion)",
        hardware="8 GPUs, days"),
    Preset(
        "vq-cub", COCO,
        DataConfig("cub", crop="random", workers=8), FULL, SLOWLY,
        expected="FID 10.32 on CUB-200 (VQ-Diffusion-F)",
        hardware="1 GPU, days"),
    Preset(
        "vq-cub-s", replace(COCO, net=SMALL_CUB),                       # 35,936,647
        DataConfig("cub", crop="random", workers=8), FULL, SLOWLY,
        expected="FID 12.97 on CUB-200 (VQ-Diffusion-S)",
        hardware="1 GPU, a day"),
    Preset(
        "vq-imagenet",                                                  # 518,025,678
        replace(COCO, codec="runs/vq-codec-imagenet", codebook_size=974, grid=16,
                net=replace(PICTURES, classes=1000), objective=TokenObjectiveConfig(auxiliary=1e-3)),
        DataConfig("imagenet", crop="random", workers=8), replace(FULL, warmup=5000), SLOWLY,
        expected="FID 11.89 on ImageNet (VQ-Diffusion)",
        hardware="8 GPUs, weeks"),
    Preset(
        "vq-ffhq",                                                      # 411,185,664
        replace(COCO, codec="runs/vq-codec-ffhq", codebook_size=1024, grid=16,
                net=replace(PICTURES, layers=20), objective=TokenObjectiveConfig(auxiliary=1e-3)),
        DataConfig("folder", workers=8), replace(FULL, warmup=2000, ema_decay=0.999), SLOWLY,
        expected="FID 6.33 on FFHQ (VQ-Diffusion)",
        hardware="8 GPUs, days"),
    Preset(
        "vq-ithq",                                                      # 1,359,274,624 + 39,424
        replace(COCO, codec="runs/vq-codec-ithq", codebook_size=4096, objective=DROPPED,
                net=TokenTransformerConfig(width=1408, layers=36, gradient_checkpointing=True)),
        DataConfig("folder", crop="random", workers=8), replace(FULL, lr=1e-4, warmup=7000), SLOWLY,
        expected="pictures of your own captions",
        hardware="8 GPUs, weeks"),
]
