"""Caption alignment of scenes, exact: each image is read back (data/scene_parser.py), each attribute checked.

The score of an image is right attributes / stated attributes; one that cannot be read, such as noise, gets 0.
Left out on purpose: learned judges such as CLIP score; this one knows only the scenes of data/shapes.py.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from ..data.scene_parser import parse
from ..data.shapes import CaptionFacts, Object, Scene, parse_caption, position, relation

SLACK = 0.03            # image widths a centre may lie outside its caption's zone; zones lie further apart
Verdicts = list[tuple[str, bool]]               # (attribute, right?), one per attribute that a caption states


@dataclass(frozen=True)
class Alignment:
    """How well images show what their captions say."""
    score: float                                # mean of per_image, 0..1
    per_attribute: dict[str, float]             # share right where it is stated; unread images count as wrong
    abstained: float                            # share of images that could not be read
    per_image: Tensor                           # [B] float32, right attributes / stated attributes


def alignment(images: Tensor, captions: Sequence[str]) -> Alignment:
    """How well each image shows its caption.

    images: [B 3 H W] in [-1, 1]; captions: B captions of the grammar of data/shapes.py.
    Attributes: count and background; colour, shape, size of each object; position or relation where stated.
    Raises ValueError for a caption outside the grammar or if the numbers differ.
    Lesson: notebooks/04_faster_sampling.ipynb"""
    return mark([parse(image) for image in images], captions)


def mark(readings: Sequence[Scene | None], captions: Sequence[str]) -> Alignment:
    """alignment() of images that are already read.

    readings[i]: what parse made of image i (None: unread).  ValueError as in alignment."""
    if len(readings) != len(captions) or not captions:
        raise ValueError(f"{len(readings)} pictures and {len(captions)} captions: "
                         "give as many captions as pictures, and at least one")
    marks = [verdicts(reading, parse_caption(caption)) for reading, caption in zip(readings, captions)]
    per_image = torch.tensor([share(m) for m in marks])
    abstained = readings.count(None) / len(readings)
    return Alignment(per_image.mean().item(), _per_attribute(marks), abstained, per_image)


def _per_attribute(marks: Sequence[Verdicts]) -> dict[str, float]:
    """The share of right verdicts on each attribute, in the order in which captions state them."""
    stated: dict[str, list[bool]] = {}
    for name, right in (verdict for one in marks for verdict in one):
        stated.setdefault(name, []).append(right)
    return {name: sum(flags) / len(flags) for name, flags in stated.items()}


def share(marks: Verdicts) -> float:
    """Right attributes / stated attributes of one image, 0..1."""
    return sum(ok for _, ok in marks) / len(marks)


def verdicts(reading: Scene | None, stated: CaptionFacts) -> Verdicts:
    """Every attribute a caption states, and whether the reading has it.

    Objects are paired one to one in the way that scores best.  Nothing is right in an unread image (None)."""
    seen, n = reading or Scene((), "unread"), len(stated.objects)
    objects = list(seen.objects) + [None] * (n - len(seen.objects))
    pairings = (_compare(chosen, seen, stated) for chosen in permutations(objects, n))
    return max(pairings, key=share)


def _compare(chosen: Sequence[Object | None], seen: Scene, stated: CaptionFacts) -> Verdicts:
    """Verdicts when chosen[i] is taken for the i-th object of the caption; None: there is nothing to take."""
    marks = [("count", len(seen.objects) == len(stated.objects)),
             ("background", seen.background == stated.background)]
    for said, found in zip(stated.objects, chosen):
        for name in ("colour", "shape", "size"):
            marks.append((name, found is not None and getattr(found, name) == getattr(said, name)))
    if stated.position:
        marks.append(("position", chosen[0] is not None and position(chosen[0], SLACK) == stated.position))
    if stated.relation:
        marks.append(("relation", None not in chosen and relation(*chosen) == stated.relation))
    return marks


def chance_level(readings: Sequence[Scene | None], captions: Sequence[str]) -> float:
    """The score these readings get on average with shuffled captions, exactly: the mean over all pairs.

    A model that ignores its caption scores this: an alignment means something only as far as it lies above.
    Lesson: notebooks/04_faster_sampling.ipynb"""
    stated = [parse_caption(c) for c in captions]
    return sum(share(verdicts(r, s)) for r in readings for s in stated) / (len(readings) * len(stated))


def valid_share(images: Tensor) -> float:
    """The share of images in which a scene of the grammar is read: one object, or two in a relation.

    images: [B 3 H W] in [-1, 1].  Lesson: notebooks/03_ddpm.ipynb"""
    return sum(is_valid(parse(image)) for image in images) / len(images)


def is_valid(reading: Scene | None) -> bool:
    """Whether a reading is a scene that the grammar has a caption for."""
    return reading is not None and (len(reading.objects) == 1 or relation(*reading.objects) is not None)
