"""Does a model know what a caption says? Shown a picture and two captions, one of them changed: with which does it denoise the picture better?

A diffusion model as a classifier (Li et al. 2023; Clark & Jaini 2023). Nothing is drawn, so models that cannot draw well yet can be compared too.
Luck gets a half. "binding" exchanges the two colours of a caption and brings no new word: who only knows which words are there gets a half as well.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

import torch
from torch import Tensor

from ..data.shapes import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, SIZES, Scene, describe
from ..diffusion.denoiser import Cond
from ..pipeline import Stage
from ..tensors import generator
from ..viz import bars
from .captions import KINDS, SEED, following
from .report import drawn


def _change(name: str, names) -> Callable[[Scene], Scene]:
    """Scene -> the scene with one attribute of its first object changed."""
    return lambda scene: replace(scene, objects=(replace(first := scene.objects[0], **{name: following(names, getattr(first, name))}), *scene.objects[1:]))


def _exchange(*names: str) -> Callable[[Scene], Scene]:
    """Scene -> the scene whose two objects have exchanged some attributes."""
    def exchanged(scene: Scene) -> Scene:
        a, b = scene.objects
        return replace(scene, objects=tuple(replace(one, **{name: getattr(other, name) for name in names}) for one, other in ((a, b), (b, a))))
    return exchanged


CHANGES = {   # what is wrong in the other caption
    "background": lambda scene: replace(scene, background=following(BACKGROUNDS, scene.background)),
    "colour": _change("colour", COLOURS), "shape": _change("shape", SHAPES), "size": _change("size", SIZES),
    "relation": _exchange("x", "y"), "binding": _exchange("colour"),
}
NEW = "held_out_colour"        # a colour again, of scenes with a combination that training never showed


def pairs(change: str, kind: str = "two_objects") -> Iterator[tuple[Scene, str, str]]:
    """(scene, its caption, the same caption with one of CHANGES) without end, the same every time.  No changed caption speaks of a pair held out."""
    for k in count():
        scene, caption = KINDS[kind].draw(generator(SEED, k))
        changed = CHANGES[change](scene)
        if (other := describe(changed)) != caption and not any((o.colour, o.shape) in HELD_OUT for o in changed.objects):
            yield scene, caption, other


@torch.no_grad()
def denoising_errors(stage: Stage, images: Tensor, conds: Sequence[Cond], *, draws: int = 8, seed: int = 0) -> Tensor:
    """How badly a stage denoises pictures under each of several conditions, by its own training loss: [len(conds) B].

    images: [B 3 H W] in [-1, 1], at the stage's size.  draws: noise levels, evenly over 1..T; every condition sees the same noise."""
    x0 = images if stage.codec is None else stage.codec.encode(images)
    denoiser, conds = stage.denoiser, [stage.denoiser.condition(cond) for cond in conds]
    errors = torch.zeros(len(conds), len(images))
    for k in range(draws):
        t = torch.full((len(images),), round((k + 0.5) / draws * denoiser.diffusion.T))
        x_t = denoiser.diffusion.diffuse(x0, t, generator(seed, k))
        errors += torch.stack([denoiser.loss_at(x0, x_t, t, cond).cpu() for cond in conds]) / draws
    return errors


def choice_metrics(pipeline, *, n: int = 64, draws: int = 8, seed: int = 0) -> dict:
    """The share of n pictures of two objects for which the true caption wins, for each of CHANGES and for NEW, where
    the other caption speaks of a combination that was trained.  Of the first stage.

    ValueError for a model that reads no captions, or that enlarges pictures."""
    stage = pipeline.stages[0] if pipeline.stages else None
    if stage is None or stage.enlarge is not None:
        raise ValueError("choosing between captions is for models that draw from them, not for codecs or stages that enlarge")
    wrong = {change: pairs(change) for change in CHANGES} | {NEW: pairs("colour", "held_out_two")}
    result: dict = {"samples": n, "draws": draws}
    for name, stream in wrong.items():
        scenes, captions, others = zip(*islice(stream, n))
        images = drawn(scenes, stage.size[0]).to(pipeline.device)
        conds = [Cond(*pipeline.encode_text(list(said))).map(lambda v: v.to(pipeline.device)) for said in (captions, others)]
        true, other = denoising_errors(stage, images, conds, draws=draws, seed=seed)
        result[name] = round(((true < other).double() + (true == other) / 2).mean().item(), 4)            # a tie is luck
    return result


def draw_choices(results: dict[str, dict]):
    """One group of bars a model: {name: choice_metrics of it}."""
    return bars({name: {k.replace("_", " "): result[k] for k in (*CHANGES, NEW)} for name, result in results.items()},
                ylabel="share that chooses the true caption")
