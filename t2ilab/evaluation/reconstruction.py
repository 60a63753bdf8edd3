"""What a VQGAN loses: PSNR of reconstructions, whether scenes are still read, and codebook usage."""
from collections.abc import Iterable

import torch
from torch import Tensor

from ..viz.tiles import strip
from .alignment import alignment
from .caption_metrics import fresh_scenes
from .image_metrics import psnr
from .scene_metrics import drawn, sample_many


def codec_metrics(pipeline, *, n: int = 256) -> dict[str, float]:
    """PSNR in dB of reconstructed fresh scenes, what the parser still reads of them, and codebook usage."""
    codec, metrics = pipeline.model.codec, {"samples": n}
    counts = torch.zeros(codec.config.codebook_size, dtype=torch.int64)
    for kind in ("one_object", "two_objects"):
        scenes = fresh_scenes(kind, n)
        true = drawn([scene for scene, _ in scenes], pipeline.size)
        painted = sample_many(pipeline, [""] * n, low_res_image=true)
        read = alignment(painted, [caption for _, caption in scenes]).score
        counts += count_codes(codec, true.split(32))
        metrics |= {f"psnr_{kind}": round(psnr(painted, true), 2), f"read_{kind}": round(read, 4)}
    return metrics | usage(counts)


def picture_metrics(pipeline, true: Tensor) -> dict[str, float]:
    """PSNR in dB of reconstructions of any images [B 3 H W] in [-1, 1], and codebook usage on them."""
    painted = sample_many(pipeline, [""] * len(true), low_res_image=true)
    counts = count_codes(pipeline.model.codec, true.split(32))
    return {"psnr": round(psnr(painted, true), 2)} | usage(counts)


def usage(counts: Tensor) -> dict[str, float]:
    """Codebook usage: the share of codes in use, and the perplexity.  counts: [K].

    Perplexity: how many codes, used evenly, would be as hard to guess."""
    used = (counts > 0).double().mean().item()
    perplexity = torch.special.entr(counts / counts.sum()).sum().exp().item()
    return {"codes_used": round(used, 4), "perplexity": round(perplexity, 2)}


def count_codes(codec, batches: Iterable[Tensor]) -> Tensor:
    """How often a codec uses each of its codes: [K] int64.

    batches: images [B 3 H W] in [-1, 1], at its size."""
    counts = torch.zeros(codec.config.codebook_size, dtype=torch.int64)
    device = next(codec.parameters()).device
    for images in batches:
        codes = codec.encode(images.to(device)).flatten()
        counts += torch.bincount(codes, minlength=len(counts)).cpu()
    return counts


def draw_codec(pipeline, n: int = 8):
    """A strip: scenes, their reconstructions, and four times the difference."""
    scenes = [scene for scene, _ in fresh_scenes("two_objects", n)]
    return draw_painted(pipeline, drawn(scenes, pipeline.size))


def draw_painted(pipeline, true: Tensor):
    """A strip: images [B 3 H W] in [-1, 1], their reconstructions, and four times the difference."""
    painted = pipeline(len(true), low_res_image=true).cpu()
    difference = (4 * (painted - true)).clamp(-1, 1)
    return strip([true, painted, difference], ["a picture", "from its codes", "4 x the difference"])
