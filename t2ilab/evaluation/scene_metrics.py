"""What a trained model can do, as numbers and a picture: the files that stand beside its weights in results/.

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
    """Images [B 3 H W] in [-1, 1] for any number of captions, a batch at a time; each from a noise of its
    own, whatever its caption.

    The same seed gives the same images.  low_res_image: [B 3 h w] in [-1, 1],
    what a model enlarges that draws none itself."""
    images = []
    for start in range(0, len(captions), batch):
        part = slice(start, start + batch)
        sources = [generator(seed, k) for k in range(len(captions))[part]]
        images.append(pipeline(captions[part], low_res_image=None if low_res_image is None
                               else low_res_image[part], sources=sources).cpu())
    return torch.cat(images)


def scene_metrics(pipeline, *, n: int = 512, seed: int = 0) -> dict[str, float]:
    """read: share of unlabelled samples in which the parser finds whole objects of the grammar; valid: share
    that the grammar also has words for (one object, or two that do not stand diagonally); label: share of
    labelled samples that show just that object; held_out_label: the same for labels never seen in training
    (models with labels only).  n samples each."""
    start = time.perf_counter()
    readings = [parse(image) for image in sample_many(pipeline, [""] * n, seed=seed)]
    seconds = (time.perf_counter() - start) / n
    metrics = {"samples": n, "read": _share(r is not None for r in readings),
               "valid": _share(map(is_valid, readings)),
               "seconds_per_image": round(seconds, 3)}
    names = getattr(pipeline.encode_text, "names", ())
    if names:
        labels = [names[i % len(names)] for i in range(n)]
        right = [shows(parse(image), label)
                 for image, label in zip(sample_many(pipeline, labels, seed=seed + 1), labels)]
        found = {"label": [r for r, label in zip(right, labels) if label not in NEVER_TRAINED],
                 "held_out_label": [r for r, label in zip(right, labels) if label in NEVER_TRAINED]}
        # few samples ask for few labels
        metrics |= {name: _share(flags) for name, flags in found.items() if flags}
    return metrics


def shows(reading: Scene | None, label: str) -> bool:
    """Is the picture read as one object, of this colour and shape ("red circle")?"""
    return reading is not None and [f"{o.colour} {o.shape}" for o in reading.objects] == [label]


def drawn(scenes: Sequence[Scene], size: int) -> Tensor:
    """The scenes themselves, drawn at a size: [B 3 size size] in [-1, 1]."""
    return from_uint8(torch.stack([render(scene, size) for scene in scenes]))


def demo_captions(pipeline, n: int = 24) -> tuple[list[str], dict]:
    """n captions that show a model of the scenes off, and the options to draw them with: captions of the
    grammar for a model that reads text, with pictures if it starts from some; else labels it was trained on
    for the first half and no label for the rest."""
    names = getattr(pipeline.encode_text, "names", None)
    if names is None:
        scenes = [scenes.draw(generator(1, k))
                  for k, scenes in zip(range(n), cycle([Scenes(objects=(1,)), Scenes(objects=(2,))]))]
        # a codec has no stages: it paints any picture again
        first = pipeline.stages[0] if pipeline.stages else None
        if first and first.enlarge is None:
            return [caption for _, caption in scenes], {}
        return [caption for _, caption in scenes], {
            "low_res_image": drawn(
                [scene for scene, _ in scenes], first.shape[-1] // 2 if first else pipeline.size
            )
        }
    names = [name for name in names if name not in NEVER_TRAINED]
    return [names[i * len(names) // (n // 2)] if names and i < n // 2 else "" for i in range(n)], {}


def _share(flags) -> float:
    flags = list(flags)
    return round(sum(flags) / len(flags), 4)
