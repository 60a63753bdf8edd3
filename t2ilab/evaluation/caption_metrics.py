"""How well a text-to-image model of the captioned scenes does what its captions say,
and what guidance and enlarging add to that.

Captions are drawn fresh for every measurement: of one object, of two, and of combinations that training never
showed. The scene parser is the judge (alignment.py), so nothing here is a matter of taste.
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
SEED = 20_000      # of the fresh captions; training draws its own from (seed, step)


def fresh_scenes(kind: str, n: int, seed: int = SEED) -> list[tuple[Scene, str]]:
    """n scenes with their captions, of one of KINDS; the same every time."""
    return [KINDS[kind].draw(generator(seed, k)) for k in range(n)]


def following(names, name: str) -> str:
    """The name after this one, the first after the last: another colour, another shape."""
    names = list(names)
    return names[(names.index(name) + 1) % len(names)]


def caption_metrics(pipeline, *, n: int = 256, seed: int = 0) -> dict[str, float]:
    """For each of KINDS the alignment, and `_all`: the share of pictures in which every stated attribute is
    right.  n captions each.

    Also the share of pictures with a right relation (two objects), those that could not be read,
    and seconds per image."""
    start, metrics = time.perf_counter(), {"samples": n}
    for kind in KINDS:
        captions = [caption for _, caption in fresh_scenes(kind, n)]
        result = alignment(sample_many(pipeline, captions, seed=seed), captions)
        metrics |= {kind: round(result.score, 4),
                    f"{kind}_all": round((result.per_image > 0.999).double().mean().item(), 4)}
        metrics |= {f"{kind}_{name}": round(share, 4) for name, share in result.per_attribute.items()}
        metrics[f"{kind}_unread"] = round(result.abstained, 4)
    return metrics | {"seconds_per_image": round((time.perf_counter() - start) / (n * len(KINDS)), 3)}


def enlarging_metrics(pipeline, small: int, *, n: int = 128, seed: int = 0) -> dict[str, float]:
    """PSNR in dB of an upsampler from `small` pixels against the scenes drawn at its own size, beside bicubic
    enlarging of the same pictures."""
    size = pipeline.stages[0].shape[-1]
    scenes = fresh_scenes("two_objects", n)
    true, low = (drawn([scene for scene, _ in scenes], s) for s in (size, small))
    ours = sample_many(pipeline, [caption for _, caption in scenes], seed=seed, low_res_image=low)
    return {"samples": n, "psnr_upsampler": round(psnr(ours, true), 2),
            "psnr_bicubic": round(psnr(bicubic(low, size), true), 2)}


def draw_inpainting(pipeline, n: int = 6, seed: int = 0):
    """A strip: scenes of two objects, what is kept of them (all but the first object), and that place painted
    anew for another caption."""
    size = pipeline.stages[0].shape[-1]
    scenes = [scene for scene, _ in fresh_scenes("two_objects", n)]
    images = drawn(scenes, size)
    firsts = [scene.objects[0] for scene in scenes]
    keep = torch.stack([_all_but(o, size) for o in firsts])
    others = [replace(o, colour=following(COLOURS, o.colour), shape=following(SHAPES, o.shape))
              for o in firsts]
    wishes = [describe(replace(scene, objects=(other, scene.objects[1])))
              for scene, other in zip(scenes, others)]
    painted = pipeline(wishes, seed, edit=Edit(images, keep)).cpu()
    return strip([images, images * keep, painted], ["a scene", "what is kept", "painted anew"],
                 captions=wishes)


def _all_but(o: Object, size: int) -> Tensor:
    """[1 H W] bool: every pixel but a square around an object."""
    near = [((torch.arange(size) + 0.5) / size - centre).abs() < SIZES[o.size] + 0.05
            for centre in (o.y, o.x)]
    return ~(near[0][:, None] & near[1])[None]


def draw_enlarging(pipeline, small: int, n: int = 6, seed: int = 0):
    """A strip: small pictures, enlarged without a model, enlarged by the upsampler,
    and the scenes drawn at its size."""
    size = pipeline.stages[0].shape[-1]
    scenes = fresh_scenes("two_objects", n)
    true, low = (drawn([scene for scene, _ in scenes], s) for s in (size, small))
    ours = pipeline([caption for _, caption in scenes], seed, low_res_image=low).cpu()
    nearest = F.interpolate(low, (size, size), mode="nearest")
    return strip([nearest, bicubic(low, size), ours, true],
                 [f"{small} px", "bicubic", "upsampler", f"drawn at {size} px"])
