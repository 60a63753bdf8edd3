"""Constraints: functions x0 -> x0 that keep a prediction in range while sampling.

DDPM clips; Imagen (Saharia et al. 2022) thresholds by the image's own brightest pixels.
"""
import torch
from torch import Tensor

from ..tensors import one_hot


def clip(x0: Tensor) -> Tensor:
    """x0 cut to [-1, 1], the range of pixels.  Lesson: notebooks/03_ddpm.ipynb"""
    return x0.clamp(-1, 1)


def dynamic_threshold(percentile: float = 0.995):
    """Dynamic thresholding: scale an image until `percentile` of its values fit, cut the rest.

    They fit into [-1, 1]; an image that fits already is returned as it is.
    percentile: in (0, 1]; ValueError outside."""
    if not 0 < percentile <= 1:
        raise ValueError(f"percentile={percentile}: choose a number above 0, at most 1")

    def constraint(x0: Tensor) -> Tensor:
        magnitude = x0.float().flatten(1).abs()                         # [B C*H*W]
        kappa = magnitude.quantile(percentile, dim=1).clamp(min=1)  # Imagen dynamic thresholding
        kappa = kappa.to(x0.dtype).view(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-kappa, kappa) / kappa
    return constraint


def keep_known(image: Tensor, known: Tensor):
    """Inpainting: a constraint that puts the known pixels back.

    image: [B C H W] in [-1, 1].  known: [B 1 H W] bool, True = keep this pixel.
    Lesson: notebooks/05_glide.ipynb"""
    return lambda x0: torch.where(known, image, x0)


# What Imagen compares: percentile -> constraints.
THRESHOLDS = {
    "none": lambda percentile: (),
    "static": lambda percentile: (clip,),
    "dynamic": lambda percentile: (dynamic_threshold(percentile),),
}


def top_r(r: float):
    """Truncation sampling (top-p): keep each position's likeliest codes until their sum reaches r.

    A constraint on log-probabilities [B K N] of tokens.
    r: above 0; from 1 on, nothing is left out.  ValueError below.
    Lesson: notebooks/08_vq_diffusion.ipynb"""
    if r <= 0:
        raise ValueError(f"truncation={r}: choose a share above 0; 1 leaves nothing out")

    def constraint(logits: Tensor) -> Tensor:
        p, order = logits.softmax(1).sort(1, descending=True)
        out = p.cumsum(1) - p >= r                                      # VQ-Diffusion truncation
        return logits.masked_fill(out.gather(1, order.argsort(1)), -torch.inf)
    return constraint if r < 1 else lambda logits: logits


def top_k(k: int):
    """Top-k sampling: keep the k likeliest codes of each position.

    A constraint on log-probabilities [B K N] of tokens.  ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"top_k={k}: choose 1 or more")

    def constraint(logits: Tensor) -> Tensor:
        least = logits.topk(min(k, logits.shape[1]), 1).values[:, -1:]  # [B 1 N]
        return logits.masked_fill(logits < least, -torch.inf)
    return constraint


def keep_codes(codes: Tensor, known: Tensor):
    """Inpainting of tokens: a constraint on log-probabilities [B K N] that fixes the known codes.

    codes: [B N] int64.  known: [B N] bool, True = keep this code."""
    def constraint(logits: Tensor) -> Tensor:
        here = one_hot(codes, logits.shape[1])                          # [B K N]
        logits = logits.masked_fill(known[:, None] & ~here, -torch.inf)
        return logits.where(~(known[:, None] & here), 0.0)
    return constraint
