"""Functions x0 -> x0 that keep a predicted picture sensible while sampling.

DDPM clips; Imagen (Saharia et al. 2022) thresholds by the picture's own brightest pixels.
"""
import torch
from torch import Tensor


def clip(x0: Tensor) -> Tensor:
    """x0 cut to [-1, 1], where pictures live.  Lesson: notebooks/03_ddpm.ipynb"""
    return x0.clamp(-1, 1)


def dynamic_threshold(percentile: float = 0.995):
    """A constraint that shrinks a picture until all but the brightest 1 - percentile of its values fit [-1, 1], and cuts those.

    percentile: in (0, 1]; ValueError outside.  A picture that fits already is returned as it is."""
    if not 0 < percentile <= 1:
        raise ValueError(f"percentile={percentile}: choose a number above 0, at most 1")

    def constraint(x0: Tensor) -> Tensor:
        s = x0.float().flatten(1).abs().quantile(percentile, dim=1).clamp(min=1).to(x0.dtype)    # Imagen dynamic thresholding
        s = s.view(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-s, s) / s
    return constraint


def keep_known(image: Tensor, known: Tensor):
    """A constraint that puts the given pixels back: inpainting.

    image: [B C H W] in [-1, 1].  known: [B 1 H W] bool, True = keep this pixel.  Lesson: notebooks/05_glide.ipynb"""
    return lambda x0: torch.where(known, image, x0)


# What Imagen compares: percentile -> constraints.
THRESHOLDS = {"none": lambda percentile: (), "static": lambda percentile: (clip,), "dynamic": lambda percentile: (dynamic_threshold(percentile),)}
