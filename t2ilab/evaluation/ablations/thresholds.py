"""Ablation of thresholding under strong guidance: none, static, dynamic (Imagen, 2022, 2.3)."""
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...diffusion.constraints import THRESHOLDS
from ...viz.tiles import strip
from ..alignment import alignment
from ..caption_metrics import fresh_scenes
from ..image_metrics import colourfulness
from ..scene_metrics import drawn, sample_many


def saturation(images: Tensor) -> float:
    """Share of colour values within 2 of 255 of black or full, 0..1.  images: [B 3 H W] in [-1, 1]."""
    return (images.abs() > 1 - 1 / 64).float().mean().item()


def with_threshold(pipeline, threshold: str, guidance_scale: float, percentile: float = 0.995):
    """The pipeline with its first stage's threshold (none, static or dynamic) and guidance scale changed."""
    constrain = THRESHOLDS[threshold](percentile)
    first = replace(pipeline.stages[0], constrain=constrain, guidance_scale=guidance_scale)
    return replace(pipeline, stages=(first, *pipeline.stages[1:]))


def threshold_sweep(pipeline, scales: Sequence[float], *, n: int = 32, seed: int = 0) -> dict:
    """What each threshold makes of the same captions of two objects, from the same noise, per guidance scale.

    Returns {"scales", threshold: {"alignment", "saturation", "colourfulness": one number per scale}} and the
    scenes' own numbers under "scenes"."""
    scenes = fresh_scenes("two_objects", n)
    captions = [caption for _, caption in scenes]
    truth = drawn([scene for scene, _ in scenes], pipeline.stages[-1].shape[-1])
    result: dict = {"scales": list(scales), "samples": n, "scenes": _looks(truth, captions)}
    for threshold in THRESHOLDS:
        samples = (sample_many(with_threshold(pipeline, threshold, scale), captions, seed=seed)
                   for scale in scales)
        rows = [_looks(images, captions) for images in samples]
        result[threshold] = {name: [row[name] for row in rows] for name in rows[0]}
    return result


def _looks(images: Tensor, captions: list[str]) -> dict[str, float]:
    return {"alignment": round(alignment(images, captions).score, 4),
            "saturation": round(saturation(images), 4), "colourfulness": round(colourfulness(images), 4)}


def draw_thresholds(pipeline, scales: Sequence[float], seed: int = 0):
    """A strip: one row per threshold and caption, one column per guidance scale."""
    captions = [caption for _, caption in fresh_scenes("two_objects", 2)]
    frames = []
    for scale in scales:
        pipelines = [with_threshold(pipeline, threshold, scale) for threshold in THRESHOLDS]
        frames.append(torch.cat([one(captions, seed).cpu() for one in pipelines]))
    below = [f"{threshold}: {caption}" for threshold in THRESHOLDS for caption in captions]
    return strip(frames, [f"guidance {scale:g}" for scale in scales], captions=below)
