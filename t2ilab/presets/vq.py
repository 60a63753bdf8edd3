"""VQ-Diffusion (Gu et al. 2022; Tang et al. 2022) and its codecs (VQGAN, Esser et al. 2021):
every named run as one literal."""
from dataclasses import replace

from ..diffusion.token_denoiser import TokenObjectiveConfig
from ..families.vq_diffusion import VQDiffusionConfig
from ..families.vqgan import VQGANRunConfig
from ..nets.token_transformer import TokenTransformerConfig
from ..training.fit import FitConfig
from ..vqgan.networks import VQGANConfig
from ..vqgan.objective import VQGANLossConfig
from .preset import LAPTOP, DataConfig, Preset, SaveConfig

CODEC_SHAPES = VQGANRunConfig(size=64, net=VQGANConfig(channels=64, channel_mult=(1, 2), blocks=1,
                                                       attention=(False, True), z_channels=128,
                                                       codebook_dim=32,
                                               codebook_size=512, quantizer="ema", patch=4),
                       loss=VQGANLossConfig(squared=1.0, perceptual=0.0, perceptual_net="scenes",
                                            adversarial=0.0))
VQ_SHAPES = VQDiffusionConfig(cache=False,
                              net=TokenTransformerConfig(width=128, layers=6, heads=4, text_width=128),
                              replaced=0.1, masked=0.9,
                        objective=TokenObjectiveConfig(bound=0.0, auxiliary=0.01, adaptive=False,
                                                       timestep_sampler="uniform", cond_drop_prob=0.1),
                        sampling_steps=25, guidance_scale=2.0, truncation=0.86)
WITHOUT_TEXT = replace(VQ_SHAPES.net, mlp="conv", mlp_mult=1, text_width=0)  # conv: as published without text
# 72,141,699 parameters
F16 = VQGANConfig(channel_mult=(1, 1, 2, 2, 4), attention=(False, False, False, False, True),
                  codebook_size=1024)
# 63,485,379
ITHQ = VQGANConfig(channels=64, channel_mult=(1, 2, 4, 8), codebook_dim=128, codebook_size=4096,
                   quantizer="ema")
# 388,780,871; draws the codes that are taken most: t2ilab codebook runs/vq-codec-coco. No cache: 77 positions
# of each caption would be 65 GB for COCO.
COCO = VQDiffusionConfig(codec="runs/vq-codec-coco", codebook_size=2887, grid=32, size=256,
                         encoder="openai/clip-vit-base-patch32", encoder_normalised=True,
                   attend_padding=True, text_length=77, cache=False, truncation=0.86)
PICTURES = TokenTransformerConfig(width=512, layers=24, mlp="conv", text_width=0, position_table=32)
CODEC_FIT = FitConfig(steps=500_000, batch_size=32, lr=1.44e-4, betas=(0.5, 0.9), decay="none",
                      ema_decay=0.9999)
VQ_FIT = FitConfig(steps=500_000, batch_size=64, lr=4.5e-4, betas=(0.9, 0.96), weight_decay=0.045,
                   warmup=1000, clip=0.5, ema_decay=0.9996)
SLOWLY = SaveConfig(checkpoint_seconds=3600, sample_steps=10_000)

PRESETS = [
    Preset(
        "vq-codec-shapes", CODEC_SHAPES,
        DataConfig("shapes"),
        replace(LAPTOP, steps=2_500, ema_decay=0.995),
        expected="36 dB on one object, 33 on two; all still read",
        hardware="laptop, half an hour on one core"),
    Preset(
        "vq-codec-coco", VQGANRunConfig(net=VQGANConfig(quantizer="gumbel")),  # 68,995,971
        DataConfig("coco", crop="random", flip=True, workers=8), CODEC_FIT, SLOWLY,
        expected="photographs in 1,024 codes of 8,192 (published: Gumbel, f8)", hardware="8 GPUs, days"),
    Preset(
        "vq-codec-imagenet", VQGANRunConfig(net=replace(F16, codebook_size=16384)),  # 76,073,859
        DataConfig("imagenet", crop="random", flip=True, workers=8), CODEC_FIT, SLOWLY,
        expected="photographs in 256 codes of 16,384 (published: f16)", hardware="8 GPUs, days"),
    Preset(
        "vq-codec-ffhq", VQGANRunConfig(net=F16),
        DataConfig("folder", flip=True, workers=8), CODEC_FIT, SLOWLY,
        expected="faces in 256 codes of 1,024 (published: f16)", hardware="8 GPUs, days"),
    Preset(
        "vq-codec-ithq", VQGANRunConfig(net=ITHQ),
        DataConfig("folder", crop="random", flip=True, workers=8), CODEC_FIT, SLOWLY,
        expected="any picture in 1,024 codes of 4,096 (published: moving averages, f8)",
        hardware="8 GPUs, days"),
    Preset(
        "vq-shapes", VQ_SHAPES,
        DataConfig("shapes"),
        replace(LAPTOP, steps=6_000, batch_size=64),
        expected="96 % on one object, 87 % on two", hardware="laptop, an hour and a quarter on one core"),
    Preset(
        "vq-shapes-classes", replace(VQ_SHAPES, net=replace(WITHOUT_TEXT, classes=18)),
        DataConfig("shapes"),
        replace(LAPTOP, steps=5_500, batch_size=64),
        expected="93 % show their label", hardware="laptop, an hour on one core"),
    Preset(
        "vq-shapes-free", replace(VQ_SHAPES, net=WITHOUT_TEXT, guidance_scale=1.0, truncation=0.7,
                                  objective=replace(VQ_SHAPES.objective, cond_drop_prob=0.0)),
        DataConfig("shapes"),
        replace(LAPTOP, steps=3_000, batch_size=64),
        expected="scenes of its own choice; half can be read", hardware="laptop, half an hour on one core"),
    Preset(
        "vq-coco", COCO,
        DataConfig("coco", crop="random", workers=8), replace(VQ_FIT, lr=2e-4), SLOWLY,
        expected="FID 19.75 on COCO (VQ-Diffusion-B; -F, begun on more data, 13.86)",
        hardware="8 GPUs, days"),
    Preset(
        "vq-coco-tune", replace(COCO, objective=TokenObjectiveConfig(cond_drop_prob=0.1), truncation=1.0,
                                guidance_scale=3.0),
        DataConfig("coco", crop="random", workers=8), replace(VQ_FIT, lr=2e-4, steps=100_000), SLOWLY,
        init_from="runs/vq-coco",
        expected="FID 8.44 on COCO (Improved VQ-Diffusion)", hardware="8 GPUs, days"),
    Preset(
        "vq-cub", COCO,
        DataConfig("cub", crop="random", workers=8), VQ_FIT, SLOWLY,
        expected="FID 10.32 on CUB-200 (VQ-Diffusion-F)", hardware="1 GPU, days"),
    Preset(
        # 35,936,647
        "vq-cub-s", replace(COCO, net=TokenTransformerConfig(width=192, layers=18, mlp="conv", mlp_mult=2)),
        DataConfig("cub", crop="random", workers=8), VQ_FIT, SLOWLY,
        expected="FID 12.97 on CUB-200 (VQ-Diffusion-S)", hardware="1 GPU, a day"),
    Preset(
        # 518,025,678
        "vq-imagenet", replace(COCO, codec="runs/vq-codec-imagenet", codebook_size=974, grid=16,
                               net=replace(PICTURES, classes=1000),
                               objective=TokenObjectiveConfig(auxiliary=1e-3)),
        DataConfig("imagenet", crop="random", workers=8), replace(VQ_FIT, warmup=5000), SLOWLY,
        expected="FID 11.89 on ImageNet (VQ-Diffusion)", hardware="8 GPUs, weeks"),
    Preset(
        # 411,185,664
        "vq-ffhq", replace(COCO, codec="runs/vq-codec-ffhq", codebook_size=1024, grid=16,
                           net=replace(PICTURES, layers=20),
                           objective=TokenObjectiveConfig(auxiliary=1e-3)),
        DataConfig("folder", workers=8), replace(VQ_FIT, warmup=2000, ema_decay=0.999), SLOWLY,
        expected="FID 6.33 on FFHQ (VQ-Diffusion)", hardware="8 GPUs, days"),
    Preset(
        "vq-ithq", replace(COCO, codec="runs/vq-codec-ithq", codebook_size=4096,
                           net=TokenTransformerConfig(width=1408, layers=36, gradient_checkpointing=True),
                           objective=TokenObjectiveConfig(cond_drop_prob=0.1)),  # 1,359,274,624 + 39,424
        DataConfig("folder", crop="random", workers=8), replace(VQ_FIT, lr=1e-4, warmup=7000), SLOWLY,
        expected="pictures of your own captions", hardware="8 GPUs, weeks"),
    Preset(
        "vq-flowers102", replace(COCO, codec="runs/vq-codec-flowers102", codebook_size=1024, grid=16,
                                 size=128, attend_padding=False, cache=True, guidance_scale=3.0,
                                 net=TokenTransformerConfig(width=512, layers=12, heads=8),
                                 objective=TokenObjectiveConfig(cond_drop_prob=0.1)),
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        replace(VQ_FIT, steps=100_000), SaveConfig(sample_steps=5_000),
        expected="flowers of the kind that was asked for", hardware="1 GPU, about 1 day"),
    Preset(
        "vq-codec-flowers102", VQGANRunConfig(size=128,
                                              net=VQGANConfig(channels=64, codebook_size=1024,
                                                              quantizer="ema", codebook_dim=64)),
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        replace(CODEC_FIT, steps=100_000), SaveConfig(sample_steps=5_000),
        expected="flowers in 256 codes of 1,024", hardware="1 GPU, about 1 day"),
    Preset(
        "vq-flowers102-small", replace(VQ_SHAPES, codec="vq-codec-flowers102-small", codebook_size=1024,
                                       sampling_steps=50, truncation=0.9,
                                       net=replace(WITHOUT_TEXT, width=192, classes=102)),
        DataConfig("flowers102", split="all", crop="random", flip=True),
        replace(LAPTOP, steps=1_500, batch_size=64),
        expected="flowers, their colours by the label", hardware="laptop, half an hour on one core"),
    Preset(
        "vq-codec-flowers102-small", replace(CODEC_SHAPES, net=replace(CODEC_SHAPES.net, codebook_size=1024)),
        DataConfig("flowers102", split="all", crop="random", flip=True),
        replace(LAPTOP, steps=2_200, ema_decay=0.995),
        expected="21 dB in 64 codes of 1,024", hardware="laptop, half an hour on one core"),
]
