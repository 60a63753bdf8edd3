"""Metrics of models of the scenes that read labels or nothing, and what all metrics share.

For models of the captioned scenes the scene parser is the judge, so the numbers need no second network.
"""
import time
from collections.abc import Sequence
from itertools import cycle

import torch
from torch import Tensor

from ..data.scene_parser import parse
from ..data.shapes import HELD_OUT, Scene, Scenes, render
from ..tensors import from_uint8, generator
from .alignment import is_valid

NEVER_TRAINED = {f"{colour} {shape}" for colour, shape in HELD_OUT}


def sample_many(pipeline, captions: list[str], *, seed: int = 0, batch: int = 32,
                low_res_image: Tensor | None = None) -> Tensor:
    """Images [B 3 H W] in [-1, 1] for any number of captions, a batch at a time.

    Each has a noise of its own, whatever its caption; the same seed gives the same images.
    low_res_image: [B 3 h w] in [-1, 1], for a model that needs an image."""
    images = []
    for start in range(0, len(captions), batch):
        part = slice(start, start + batch)
        sources = [generator(seed, k) for k in range(len(captions))[part]]
        low = None if low_res_image is None else low_res_image[part]
        images.append(pipeline(captions[part], low_res_image=low, sources=sources).cpu())
    return torch.cat(images)


def scene_metrics(pipeline, *, n: int = 512, seed: int = 0) -> dict[str, float]:
    """How many samples are scenes of the grammar, and how many show their label.  n samples each.

    read: share of unlabelled samples in which the parser finds whole objects of the grammar.
    valid: share that the grammar also has words for (one object, or two that do not stand diagonally).
    label: share of labelled samples that show just that object; held_out_label: the same for labels never
    seen in training (both for models with labels only)."""
    start = time.perf_counter()
    readings = [parse(image) for image in sample_many(pipeline, [""] * n, seed=seed)]
    seconds = (time.perf_counter() - start) / n
    metrics = {"samples": n, "read": _share(r is not None for r in readings),
               "valid": _share(map(is_valid, readings)), "seconds_per_image": round(seconds, 3)}
    if pipeline.encode_text.kind == "label" and pipeline.encode_text.names:
        metrics |= _label_metrics(pipeline, pipeline.encode_text.names, n, seed + 1)
    return metrics


def _label_metrics(pipeline, names: Sequence[str], n: int, seed: int) -> dict[str, float]:
    """The shares of n labelled samples that show their label, trained and never trained ones apart."""
    labels = [names[i % len(names)] for i in range(n)]
    images = sample_many(pipeline, labels, seed=seed)
    right = [shows(parse(image), label) for image, label in zip(images, labels)]
    found = {"label": [r for r, label in zip(right, labels) if label not in NEVER_TRAINED],
             "held_out_label": [r for r, label in zip(right, labels) if label in NEVER_TRAINED]}
    # few samples ask for few labels
    return {name: _share(flags) for name, flags in found.items() if flags}


def shows(reading: Scene | None, label: str) -> bool:
    """Whether an image is read as one object, of this colour and shape ("red circle")."""
    return reading is not None and [f"{o.colour} {o.shape}" for o in reading.objects] == [label]


def drawn(scenes: Sequence[Scene], size: int) -> Tensor:
    """The scenes themselves, drawn at a size: [B 3 size size] in [-1, 1]."""
    return from_uint8(torch.stack([render(scene, size) for scene in scenes]))


def demo_captions(pipeline, n: int = 24) -> tuple[list[str], dict]:
    """n captions that show what a model of the scenes can do, and the options to sample with them.

    Captions of the grammar for a model that reads text, with images for one that needs some; else labels it
    was trained on for the first half, and no label for the rest."""
    encode_text = pipeline.encode_text
    if encode_text is None or encode_text.kind == "text":
        kinds = cycle([Scenes(objects=(1,)), Scenes(objects=(2,))])
        scenes = [kind.draw(generator(1, k)) for k, kind in zip(range(n), kinds)]
        captions, size = [caption for _, caption in scenes], _wanted_size(pipeline)
        if size is None:
            return captions, {}
        return captions, {"low_res_image": drawn([scene for scene, _ in scenes], size)}
    names = [name for name in encode_text.names if name not in NEVER_TRAINED]
    half = n // 2
    return [names[i * len(names) // half] if names and i < half else "" for i in range(n)], {}


def _wanted_size(pipeline) -> int | None:
    """Pixels of the images a pipeline needs: a codec its own size, an upsampler half of it, others None."""
    if not pipeline.stages:
        return pipeline.size
    first = pipeline.stages[0]
    return None if first.enlarge is None else first.shape[-1] // 2


def _share(flags) -> float:
    flags = list(flags)
    return round(sum(flags) / len(flags), 4)
