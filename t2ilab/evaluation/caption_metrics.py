"""Metrics of text-to-image models and upsamplers of the captioned scenes: alignment, PSNR, inpainting.

Scenes are the same in every measurement, drawn by a seed that training refuses: of one object, of two, and
of combinations that training never showed.
The scene parser is the judge (alignment.py), so nothing here is a matter of taste.
"""
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.shapes import COLOURS, SHAPES, SIZES, Object, Scene, Scenes, describe
from ..pipeline.edit import Edit
from ..tensors import generator
from ..viz.tiles import strip
from .alignment import alignment
from .image_metrics import bicubic, psnr
from .scene_metrics import drawn, sample_many

KINDS = {   # captions to draw, by what they ask for
    "one_object": Scenes(objects=(1,)),
    "two_objects": Scenes(objects=(2,)),
    "held_out_one": Scenes(objects=(1,), split="held_out"),
    "held_out_two": Scenes(objects=(2,), split="held_out"),
}
SEED = 20_000      # of these scenes; training draws its own from (seed, step)


def kinds_of(objects: tuple[int, ...]) -> list[str]:
    """Those of KINDS that a model knows which was trained on so many objects in a scene."""
    return [kind for kind, scenes in KINDS.items() if set(scenes.objects) <= set(objects)]


def fresh_scenes(kind: str, n: int, seed: int = SEED) -> list[tuple[Scene, str]]:
    """n scenes with their captions, of one of KINDS; the same every time."""
    return [KINDS[kind].draw(generator(seed, k)) for k in range(n)]


def following(names, name: str) -> str:
    """The name after this one, the first after the last: another colour, another shape."""
    names = list(names)
    return names[(names.index(name) + 1) % len(names)]


def caption_metrics(pipeline, *, n: int = 256, seed: int = 0,
                    objects: tuple[int, ...] = (1, 2)) -> dict[str, float]:
    """For each of KINDS the alignment, and `_all`: the share of images with every stated attribute right.

    Also the share of each attribute, of images that could not be read (`_unread`), and seconds per image.
    n: captions of each kind.  objects: kinds for a model that was trained on so many in a scene."""
    start, metrics = time.perf_counter(), {"samples": n}
    kinds = kinds_of(objects)
    for kind in kinds:
        captions = [caption for _, caption in fresh_scenes(kind, n)]
        result = alignment(sample_many(pipeline, captions, seed=seed), captions)
        all_right = (result.per_image > 0.999).double().mean().item()
        metrics |= {kind: round(result.score, 4), f"{kind}_all": round(all_right, 4)}
        metrics |= {f"{kind}_{name}": round(share, 4) for name, share in result.per_attribute.items()}
        metrics[f"{kind}_unread"] = round(result.abstained, 4)
    seconds = (time.perf_counter() - start) / (n * len(kinds))
    return metrics | {"seconds_per_image": round(seconds, 3)}


def enlarging_metrics(pipeline, small: int, *, n: int = 128, seed: int = 0) -> dict[str, float]:
    """PSNR in dB of an upsampler from `small` pixels, beside bicubic upsampling of the same images.

    The truth are the scenes drawn at the upsampler's own size."""
    size = pipeline.stages[0].shape[-1]
    scenes = fresh_scenes("two_objects", n)
    true, low = (drawn([scene for scene, _ in scenes], s) for s in (size, small))
    captions = [caption for _, caption in scenes]
    ours = sample_many(pipeline, captions, seed=seed, low_res_image=low)
    return {"samples": n, "psnr_upsampler": round(psnr(ours, true), 2),
            "psnr_bicubic": round(psnr(bicubic(low, size), true), 2)}


def draw_inpainting(pipeline, n: int = 6, seed: int = 0):
    """A strip: scenes of two objects, what is kept of them, and the rest inpainted for another caption.

    Kept is all but the first object."""
    size = pipeline.stages[0].shape[-1]
    scenes = [scene for scene, _ in fresh_scenes("two_objects", n)]
    images = drawn(scenes, size)
    firsts = [scene.objects[0] for scene in scenes]
    keep = torch.stack([_all_but(o, size) for o in firsts])
    others = [replace(o, colour=following(COLOURS, o.colour), shape=following(SHAPES, o.shape))
              for o in firsts]
    changed = [replace(scene, objects=(other, scene.objects[1])) for scene, other in zip(scenes, others)]
    wishes = [describe(scene) for scene in changed]
    painted = pipeline(wishes, seed, edit=Edit(images, keep)).cpu()
    heads = ["a scene", "what is kept", "painted anew"]
    return strip([images, images * keep, painted], heads, captions=wishes)


def _all_but(o: Object, size: int) -> Tensor:
    """[1 H W] bool: every pixel but a square around an object."""
    centres, half = (torch.arange(size) + 0.5) / size, SIZES[o.size] + 0.05
    rows, columns = ((centres - centre).abs() < half for centre in (o.y, o.x))
    return ~(rows[:, None] & columns)[None]


def draw_enlarging(pipeline, small: int, n: int = 6, seed: int = 0):
    """A strip: small images, the same upsampled by bicubic and by the model, and the scenes at its size."""
    size = pipeline.stages[0].shape[-1]
    scenes = fresh_scenes("two_objects", n)
    true, low = (drawn([scene for scene, _ in scenes], s) for s in (size, small))
    ours = pipeline([caption for _, caption in scenes], seed, low_res_image=low).cpu()
    nearest = F.interpolate(low, (size, size), mode="nearest")
    heads = [f"{small} px", "bicubic", "upsampler", f"drawn at {size} px"]
    return strip([nearest, bicubic(low, size), ours, true], heads)
