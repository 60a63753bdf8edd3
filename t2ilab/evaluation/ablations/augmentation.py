"""Ablation of noise conditioning augmentation of the low-resolution image (Imagen, 2022, 2.4)."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...tensors import generator
from ...viz.plots import lines
from ...viz.tiles import beside
from ..alignment import alignment
from ..caption_metrics import fresh_scenes
from ..corruptions import TOGETHER, corrupt_image
from ..image_metrics import psnr
from ..scene_metrics import drawn, sample_many


def augmentation_sweep(at: Callable, small: int, levels: Sequence[float], *, n: int = 64,
                       seed: int = 0) -> dict:
    """What noise on the low-resolution image does to an upsampler: on clean scenes, and on corrupted ones.

    Scenes are corrupted slightly, as a base model does it.  at: level -> the upsampler's pipeline with that
    level. Returns {"levels", "clean" and "spoilt": {"psnr" in dB against the scene drawn large, "alignment":
    one number per level}}."""
    scenes = fresh_scenes("two_objects", n)
    captions = [caption for _, caption in scenes]
    size = at(levels[0]).stages[0].shape[-1]
    true, clean = (drawn([scene for scene, _ in scenes], s) for s in (size, small))
    result: dict = {"levels": list(levels), "samples": n, "spoilt_by": TOGETHER}
    for name, pictures in {"clean": clean, "spoilt": corrupted_image(clean, seed)}.items():
        images = [sample_many(at(level), captions, seed=seed, low_res_image=pictures) for level in levels]
        result[name] = {"psnr": [round(psnr(one, true), 2) for one in images],
                        "alignment": [round(alignment(one, captions).score, 4) for one in images]}
    return result


def corrupted_image(images: Tensor, seed: int = 0) -> Tensor:
    """Images [B 3 H W], each a little blurred, noisy and off in its colours."""
    return torch.stack([corrupt_image(image, generator(seed, k), **TOGETHER)
                        for k, image in enumerate(images)])


def draw_augmentation(result: dict):
    """The sweep as one image: PSNR on the left, alignment on the right."""
    x, plots = result["levels"], []
    for what, label in (("psnr", "PSNR, dB"), ("alignment", "alignment")):
        curves = {shown: (x, result[name][what])
                  for shown, name in (("clean", "clean"), ("degraded", "spoilt"))}
        plots.append(lines(curves, xlabel="augmentation", ylabel=label, marker="o"))
    return beside(*plots)
