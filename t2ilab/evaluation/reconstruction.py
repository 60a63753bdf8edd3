"""What a VQGAN loses: PSNR of reconstructions, whether scenes are still read,
and how many codes are in use."""
from collections.abc import Iterable

import torch
from torch import Tensor

from ..viz.tiles import strip
from .alignment import alignment
from .caption_metrics import fresh_scenes
from .image_metrics import psnr
from .scene_metrics import drawn, sample_many


def codec_metrics(pipeline, *, n: int = 256) -> dict[str, float]:
    """PSNR in dB of fresh scenes painted again from their codes, what the parser still reads of them, and how
    a codec uses its codes on all of them."""
    metrics, counts = {"samples": n}, torch.zeros(pipeline.model.codec.config.codebook_size,
                                                  dtype=torch.int64)
    for kind in ("one_object", "two_objects"):
        scenes = fresh_scenes(kind, n)
        true = drawn([scene for scene, _ in scenes], pipeline.size)
        painted = sample_many(pipeline, [""] * n, low_res_image=true)
        counts += count_codes(pipeline.model.codec, true.split(32))
        metrics |= {f"psnr_{kind}": round(psnr(painted, true), 2),
                    f"read_{kind}": round(alignment(painted, [caption for _, caption in scenes]).score, 4)}
    return metrics | usage(counts)


def picture_metrics(pipeline, true: Tensor) -> dict[str, float]:
    """PSNR in dB of any pictures [B 3 H W] in [-1, 1] painted again from their codes,
    and how a codec uses its codes on them."""
    painted = sample_many(pipeline, [""] * len(true), low_res_image=true)
    return {"psnr": round(psnr(painted, true), 2)} | usage(count_codes(pipeline.model.codec, true.split(32)))


def usage(counts: Tensor) -> dict[str, float]:
    """The share of codes that is taken at all, and the perplexity: how many codes, taken evenly, would be as
    hard to guess.  counts: [K]."""
    return {"codes_used": round((counts > 0).double().mean().item(), 4),
            "perplexity": round(torch.special.entr(counts / counts.sum()).sum().exp().item(), 2)}


def count_codes(codec, batches: Iterable[Tensor]) -> Tensor:
    """How often a codec takes each of its codes: [K] int64.  batches: pictures [B 3 H W] in [-1, 1],
    at its size."""
    counts, device = torch.zeros(codec.config.codebook_size,
                                 dtype=torch.int64), next(codec.parameters()).device
    for images in batches:
        counts += torch.bincount(codec.encode(images.to(device)).flatten(), minlength=len(counts)).cpu()
    return counts


def draw_codec(pipeline, n: int = 8):
    """A strip: scenes, the same painted from their codes, and four times the difference."""
    return draw_painted(pipeline, drawn([scene for scene, _ in fresh_scenes("two_objects", n)],
                                        pipeline.size))


def draw_painted(pipeline, true: Tensor):
    """A strip: pictures [B 3 H W] in [-1, 1], the same painted from their codes,
    and four times the difference."""
    painted = pipeline(len(true), low_res_image=true).cpu()
    return strip([true, painted, (4 * (painted - true)).clamp(-1, 1)],
                 ["a picture", "from its codes", "4 x the difference"])
