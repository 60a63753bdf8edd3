"""The codecs of VQ-Diffusion (VQGAN, Esser et al. 2021): every named run as one literal."""
from dataclasses import replace

from ..families.vqgan import VQGANRunConfig
from ..training.fit import FitConfig
from ..vqgan.networks import VQGANConfig
from ..vqgan.objective import VQGANLossConfig
from .preset import LAPTOP, DataConfig, Preset, SaveConfig

SMALL = VQGANConfig(
    channels=64, channel_mult=(1, 2), blocks=1, attention=(False, True), z_channels=128, patch=4,
    codebook_size=512, codebook_dim=32, quantizer="ema")
SMALL_LOSS = VQGANLossConfig(squared=1.0, perceptual=0.0, perceptual_net="scenes", adversarial=0.0)
FLOWERS = VQGANConfig(channels=64, codebook_size=1024, codebook_dim=64, quantizer="ema")
GUMBEL = VQGANConfig(quantizer="gumbel")                                # 68,995,971 parameters
F16 = VQGANConfig(                                                      # 72,141,699
    channel_mult=(1, 1, 2, 2, 4), attention=(False, False, False, False, True), codebook_size=1024)
IMAGENET = replace(F16, codebook_size=16384)                            # 76,073,859
ITHQ = VQGANConfig(                                                     # 63,485,379
    channels=64, channel_mult=(1, 2, 4, 8), codebook_size=4096, codebook_dim=128, quantizer="ema")

FULL = FitConfig(
    steps=500_000, batch_size=32, lr=1.44e-4, betas=(0.5, 0.9), decay="none", ema_decay=0.9999)
SLOWLY = SaveConfig(checkpoint_seconds=3600, sample_steps=10_000)

PRESETS = [
    Preset(
        "vq-codec-shapes", VQGANRunConfig(size=64, net=SMALL, loss=SMALL_LOSS),
        DataConfig("shapes"),
        replace(LAPTOP, steps=2_500, ema_decay=0.995),
        expected="36 dB on one object, 33 on two; all still read",
        hardware="laptop, half an hour on one core"),
    Preset(
        "vq-codec-flowers102-small",
        VQGANRunConfig(size=64, net=replace(SMALL, codebook_size=1024), loss=SMALL_LOSS),
        DataConfig("flowers102", split="all", crop="random", flip=True),
        replace(LAPTOP, steps=2_200, ema_decay=0.995),
        expected="21 dB in 64 codes of 1,024",
        hardware="laptop, half an hour on one core"),
    Preset(
        "vq-codec-flowers102", VQGANRunConfig(size=128, net=FLOWERS),
        DataConfig("flowers102", split="all", crop="random", flip=True, workers=4),
        replace(FULL, steps=100_000), SaveConfig(sample_steps=5_000),
        expected="flowers in 256 codes of 1,024",
        hardware="1 GPU, about 1 day"),
    Preset(
        "vq-codec-coco", VQGANRunConfig(net=GUMBEL),
        DataConfig("coco", crop="random", flip=True, workers=8), FULL, SLOWLY,
        expected="photographs in 1,024 codes of 8,192 (published: Gumbel, f8)",
        hardware="8 GPUs, days"),
    Preset(
        "vq-codec-imagenet", VQGANRunConfig(net=IMAGENET),
        DataConfig("imagenet", crop="random", flip=True, workers=8), FULL, SLOWLY,
        expected="photographs in 256 codes of 16,384 (published: f16)",
        hardware="8 GPUs, days"),
    Preset(
        "vq-codec-ffhq", VQGANRunConfig(net=F16),
        DataConfig("folder", flip=True, workers=8), FULL, SLOWLY,
        expected="faces in 256 codes of 1,024 (published: f16)",
        hardware="8 GPUs, days"),
    Preset(
        "vq-codec-ithq", VQGANRunConfig(net=ITHQ),
        DataConfig("folder", crop="random", flip=True, workers=8), FULL, SLOWLY,
        expected="any picture in 1,024 codes of 4,096 (published: moving averages, f8)",
        hardware="8 GPUs, days"),
]
