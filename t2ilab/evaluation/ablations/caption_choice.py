"""A diffusion model as a classifier of captions (Li et al. 2023; Clark & Jaini 2023).

Shown an image and two captions, one of them changed: with which does a model denoise the image better?
Nothing is sampled, so models that cannot sample well yet can be compared too.
Chance is a half.  "binding" exchanges the two colours of a caption and brings no new word: a model that only
knows which words are there gets a half as well.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

import torch
from torch import Tensor

from ...data.shapes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    SHAPES,
    SIZES,
    Scene,
    describe,
)
from ...diffusion.cond import Cond
from ...pipeline.stage import Stage
from ...tensors import generator
from ...viz.plots import bars
from ..caption_metrics import KINDS, SEED, following
from ..scene_metrics import drawn


def _change(name: str, names) -> Callable[[Scene], Scene]:
    """Scene -> the scene with one attribute of its first object changed."""
    def changed(scene: Scene) -> Scene:
        first, *others = scene.objects
        other = replace(first, **{name: following(names, getattr(first, name))})
        return replace(scene, objects=(other, *others))
    return changed


def _exchange(names: tuple[str, ...]) -> Callable[[Scene], Scene]:
    """Scene -> the scene whose two objects have exchanged some attributes."""
    def exchanged(scene: Scene) -> Scene:
        a, b = scene.objects
        objects = (replace(one, **{name: getattr(other, name) for name in names})
                   for one, other in ((a, b), (b, a)))
        return replace(scene, objects=tuple(objects))
    return exchanged


CHANGES = {   # what is wrong in the other caption
    "background": lambda scene: replace(scene, background=following(BACKGROUNDS, scene.background)),
    "colour": _change("colour", COLOURS),
    "shape": _change("shape", SHAPES),
    "size": _change("size", SIZES),
    "relation": _exchange(("x", "y")),
    "binding": _exchange(("colour",)),
}
NEW = "held_out_colour"        # a colour again, of scenes with a combination that training never showed


def pairs(name: str) -> Iterator[tuple[Scene, str, str]]:
    """(scene, its caption, the changed caption) without end, always the same.  name: one of CHANGES, or NEW.

    The changed captions could be ones of training: two different objects, and no held-out combination."""
    draw = KINDS["held_out_two" if name == NEW else "two_objects"].draw
    change = CHANGES["colour" if name == NEW else name]
    for k in count():
        scene, caption = draw(generator(SEED, k))
        changed = change(scene)
        shown = {(o.colour, o.shape) for o in changed.objects}
        trained = len(shown) == 2 and not shown & set(HELD_OUT)
        if changed != scene and describe(changed) != caption and trained:
            yield scene, caption, describe(changed)


@torch.no_grad()
def denoising_errors(stage: Stage, images: Tensor, conds: Sequence[Cond], *, draws: int = 8,
                     seed: int = 0) -> Tensor:
    """A stage's training loss on images under each of several conditions: [len(conds) B].

    images: [B 3 H W] in [-1, 1], at the stage's size.
    draws: noise levels, evenly over 1..T; every condition sees the same noise.
    ValueError if an error is not finite, as of damaged weights."""
    x0 = images if stage.codec is None else stage.codec.encode(images)
    denoiser = stage.denoiser
    conds = [denoiser.condition(cond) for cond in conds]
    errors = torch.zeros(len(conds), len(images))
    for k in range(draws):
        t = torch.full((len(images),), 1 + int((k + 0.5) / draws * denoiser.diffusion.T))
        x_t = denoiser.diffusion.diffuse(x0, t, generator(seed, k))
        errors += torch.stack([denoiser.loss_at(x0, x_t, t, cond).cpu() for cond in conds]) / draws
    if not errors.isfinite().all():
        raise ValueError("the denoising error is not finite: are the model's weights damaged?")
    return errors


def choice_metrics(pipeline, *, n: int = 64, draws: int = 8, seed: int = 0, batch: int = 32) -> dict:
    """Caption-matching accuracy of the first stage: how often the true caption wins, of n images.

    For each of CHANGES and for NEW, on images of two objects.
    ValueError for n or draws below 1, and for a model that samples nothing from captions: codecs, stages that
    upsample, models of labels."""
    stage = pipeline.stages[0] if pipeline.stages else None
    if stage is None or stage.enlarge is not None or _reads_labels(pipeline):
        raise ValueError("choosing between captions is for models that draw from them, "
                         "not for codecs, stages that enlarge, or labels")
    if n < 1 or draws < 1:
        raise ValueError(f"n={n}, draws={draws}: choose 1 or more")
    result: dict = {"samples": n, "draws": draws}
    for name in (*CHANGES, NEW):
        found, wins = list(islice(pairs(name), n)), 0.0
        for start in range(0, n, batch):
            scenes, captions, others = zip(*found[start:start + batch])
            images = drawn(scenes, stage.size[0]).to(pipeline.device)
            conds = [_cond(pipeline, said) for said in (captions, others)]
            true, other = denoising_errors(stage, images, conds, draws=draws, seed=seed + start)
            wins += ((true < other).double() + (true == other) / 2).sum().item()        # a tie is chance
        result[name] = round(wins / n, 4)
    return result


def _reads_labels(pipeline) -> bool:
    """Whether captions are labels, or nothing, to a pipeline; a plain function reads text."""
    return getattr(pipeline.encode_text, "kind", "text") != "text"


def _cond(pipeline, captions: Sequence[str]) -> Cond:
    """What a pipeline makes of captions, on its device."""
    return Cond(*pipeline.encode_text(list(captions))).map(lambda v: v.to(pipeline.device))


def draw_choices(result: dict):
    """The shares as bars."""
    shares = {name.replace("_", " "): result[name] for name in (*CHANGES, NEW)}
    return bars({"share": shares}, ylabel="share that chooses the true caption")
