"""What Imagen's two tricks are for, measured: thresholds under strong guidance, and noise on the small picture while it is enlarged.

Imagen (Saharia et al. 2022, 2.3 and 2.4), on captioned scenes with the scene parser as the judge.
"""
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..diffusion.constraints import THRESHOLDS
from ..tensors import generator
from ..viz import beside, lines, strip
from .alignment import alignment
from .captions import colourfulness, fresh_scenes, psnr
from .report import drawn, sample_many
from .robustness import TOGETHER, spoil


def saturation(images: Tensor) -> float:
    """Share of colour values that lie within 2 of 255 of black or full, 0..1.  images: [B 3 H W] in [-1, 1]."""
    return (images.abs() > 1 - 1 / 64).float().mean().item()


def with_threshold(pipeline, threshold: str, guidance_scale: float, percentile: float = 0.995):
    """The pipeline with its first stage's threshold (none, static or dynamic) and guidance scale changed."""
    first = replace(pipeline.stages[0], constrain=THRESHOLDS[threshold](percentile), guidance_scale=guidance_scale)
    return replace(pipeline, stages=(first, *pipeline.stages[1:]))


def threshold_sweep(pipeline, scales: Sequence[float], *, n: int = 32, seed: int = 0) -> dict:
    """What each threshold makes of the same captions of two objects, from the same noise, at each guidance scale.

    Returns {"scales", threshold: {"alignment", "saturation", "colourfulness": one number a scale}} and the scenes' own numbers under "scenes"."""
    scenes = fresh_scenes("two_objects", n)
    captions = [caption for _, caption in scenes]
    truth = drawn([scene for scene, _ in scenes], pipeline.stages[-1].shape[-1])
    result: dict = {"scales": list(scales), "samples": n, "scenes": _looks(truth, captions)}
    for threshold in THRESHOLDS:
        rows = [_looks(sample_many(with_threshold(pipeline, threshold, scale), captions, seed=seed), captions) for scale in scales]
        result[threshold] = {name: [row[name] for row in rows] for name in rows[0]}
    return result


def _looks(images: Tensor, captions: list[str]) -> dict[str, float]:
    return {"alignment": round(alignment(images, captions).score, 4), "saturation": round(saturation(images), 4),
            "colourfulness": round(colourfulness(images), 4)}


def draw_thresholds(pipeline, scales: Sequence[float], seed: int = 0):
    """One caption a row for each threshold, one guidance scale a column."""
    captions = [caption for _, caption in fresh_scenes("two_objects", 2)]
    frames = [torch.cat([with_threshold(pipeline, threshold, scale)(captions, seed).cpu() for threshold in THRESHOLDS]) for scale in scales]
    return strip(frames, [f"guidance {scale:g}" for scale in scales], captions=[f"{threshold}: {caption}" for threshold in THRESHOLDS for caption in captions])


def augmentation_sweep(at: Callable, small: int, levels: Sequence[float], *, n: int = 64, seed: int = 0) -> dict:
    """What noise on the small picture does to an upsampler: on scenes drawn small, and on the same ones slightly spoilt, as a base model spoils them.

    at: level -> the upsampler's pipeline with that augmentation.  Returns {"levels", "clean" and "spoilt": {"psnr" in dB against the scene drawn
    large, "alignment": one number a level}}."""
    scenes = fresh_scenes("two_objects", n)
    captions, size = [caption for _, caption in scenes], at(levels[0]).stages[0].shape[-1]
    true, clean = (drawn([scene for scene, _ in scenes], s) for s in (size, small))
    result: dict = {"levels": list(levels), "samples": n, "spoilt_by": TOGETHER}
    for name, pictures in {"clean": clean, "spoilt": spoilt(clean, seed)}.items():
        images = [sample_many(at(level), captions, seed=seed, picture=pictures) for level in levels]
        result[name] = {"psnr": [round(psnr(one, true), 2) for one in images], "alignment": [round(alignment(one, captions).score, 4) for one in images]}
    return result


def spoilt(images: Tensor, seed: int = 0) -> Tensor:
    """Pictures [B 3 H W], each a little blurred, noisy and off in its colours."""
    return torch.stack([spoil(image, generator(seed, k), **TOGETHER) for k, image in enumerate(images)])


def draw_augmentation(result: dict):
    """The sweep as one picture: PSNR on the left, alignment on the right."""
    x = result["levels"]
    return beside(*(lines({name: (x, result[name][what]) for name in ("clean", "spoilt")}, xlabel="augmentation", ylabel=label, marker="o")
                    for what, label in (("psnr", "PSNR, dB"), ("alignment", "alignment"))))
