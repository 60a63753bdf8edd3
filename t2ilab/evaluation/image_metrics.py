"""Metrics that need nothing but images: PSNR, colourfulness, diversity; and bicubic upsampling."""
import torch.nn.functional as F
from torch import Tensor

from .scene_metrics import sample_many


def colourfulness(images: Tensor) -> float:
    """Mean distance between the strongest and the weakest channel of a pixel, 0 (grey) to 1.

    images: [B 3 H W] in [-1, 1]."""
    return ((images.amax(1) - images.amin(1)) / 2).mean().item()


def variety(pipeline, pairs, seed: int) -> float:
    """Mean standard deviation over 8 samples per caption; pairs: (scene, caption)."""
    captions = [caption for _, caption in pairs for _ in range(8)]
    images = sample_many(pipeline, captions, seed=seed)
    return images.unflatten(0, (len(pairs), 8)).std(1).mean().item()


def bicubic(images: Tensor, size: int) -> Tensor:
    """Images upsampled without a model.  [B 3 h w] -> [B 3 size size]"""
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def psnr(images: Tensor, true: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], from the mean squared error over all of them."""
    return (10 * (4 / (images - true).square().mean()).log10()).item()
