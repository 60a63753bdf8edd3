"""Ablation of noise conditioning augmentation, the noise on the picture to enlarge (Imagen,
Saharia et al. 2022, 2.4)."""
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
    """What noise on the small picture does to an upsampler: on scenes drawn small, and on the same ones
    slightly spoilt, as a base model spoils them.

    at: level -> the upsampler's pipeline with that augmentation.  Returns {"levels", "clean" and "spoilt":
    {"psnr" in dB against the scene drawn large, "alignment": one number a level}}."""
    scenes = fresh_scenes("two_objects", n)
    captions, size = [caption for _, caption in scenes], at(levels[0]).stages[0].shape[-1]
    true, clean = (drawn([scene for scene, _ in scenes], s) for s in (size, small))
    result: dict = {"levels": list(levels), "samples": n, "spoilt_by": TOGETHER}
    for name, pictures in {"clean": clean, "spoilt": corrupted_image(clean, seed)}.items():
        images = [sample_many(at(level), captions, seed=seed, low_res_image=pictures) for level in levels]
        result[name] = {"psnr": [round(psnr(one, true), 2) for one in images],
                        "alignment": [round(alignment(one, captions).score, 4) for one in images]}
    return result


def corrupted_image(images: Tensor, seed: int = 0) -> Tensor:
    """Pictures [B 3 H W], each a little blurred, noisy and off in its colours."""
    return torch.stack([corrupt_image(image, generator(seed, k), **TOGETHER)
                        for k, image in enumerate(images)])


def draw_augmentation(result: dict):
    """The sweep as one picture: PSNR on the left, alignment on the right."""
    x = result["levels"]
    return beside(*(lines({name: (x, result[name][what]) for name in ("clean", "spoilt")},
                          xlabel="augmentation", ylabel=label, marker="o")
                    for what, label in (("psnr", "PSNR, dB"), ("alignment", "alignment"))))
