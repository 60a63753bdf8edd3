"""Does the picture show what the caption says? Each picture is read back (data/scene_parser.py) and every
attribute the caption states is checked.

The score of a picture is right attributes / stated attributes, and 0 if it cannot be read: noise or a blank
page earns nothing. Left out on purpose: learned judges such as CLIP score; this one is exact, but knows only
the scenes of data/shapes.py.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from ..data.scene_parser import parse
from ..data.shapes import CaptionFacts, Object, Scene, parse_caption, position, relation

# picture widths a centre may lie outside the zone its caption names: zones are further than this from each
# other
SLACK = 0.03
Verdicts = list[tuple[str, bool]]               # (attribute, right?), one per attribute that a caption states


@dataclass(frozen=True)
class Alignment:
    """How well pictures show what their captions say."""
    score: float                                # mean of per_image, 0..1
    # share right among the captions that state it; an unread picture counts as wrong
    per_attribute: dict[str, float]
    abstained: float                            # share of pictures that could not be read
    per_image: Tensor                           # [B] float32, right attributes / stated attributes


def alignment(images: Tensor, captions: Sequence[str]) -> Alignment:
    """How well each picture shows its caption.  images: [B 3 H W] in [-1, 1]; captions: B captions of the
    grammar of data/shapes.py.

    Attributes: count and background; colour, shape, size of each object; position or relation where stated.
    Raises ValueError for a caption outside the grammar or if the numbers differ.
    Lesson: notebooks/04_faster_sampling.ipynb"""
    return mark([parse(image) for image in images], captions)


def mark(readings: Sequence[Scene | None], captions: Sequence[str]) -> Alignment:
    """alignment() of pictures that are already read: readings[i] is what parse made of picture i (None:
    unread)."""
    if len(readings) != len(captions) or not captions:
        raise ValueError(
            f"{len(readings)} pictures and {len(captions)} captions: give as many captions as pictures, and "
            "at least one"
        )
    marks = [verdicts(reading, parse_caption(caption)) for reading, caption in zip(readings, captions)]
    per_image = torch.tensor([share(m) for m in marks])
    stated = {name: [ok for m in marks for n, ok in m if n == name]
              for name in dict.fromkeys(n for m in marks for n, _ in m)}
    return Alignment(per_image.mean().item(), {name: sum(v) / len(v) for name, v in stated.items()},
                     readings.count(None) / len(readings), per_image)


def share(marks: Verdicts) -> float:
    """Right attributes / stated attributes of one picture, 0..1."""
    return sum(ok for _, ok in marks) / len(marks)


def verdicts(reading: Scene | None, stated: CaptionFacts) -> Verdicts:
    """Every attribute a caption states, and whether the reading has it, objects paired one to one in the way
    that scores best. Nothing is right in an unread picture (None)."""
    seen = reading or Scene((), "unread")
    places = list(seen.objects) + [None] * (len(stated.objects) - len(seen.objects))
    return max((_compare(chosen, seen, stated) for chosen in permutations(places, len(stated.objects))),
               key=share)


def _compare(chosen: Sequence[Object | None], seen: Scene, stated: CaptionFacts) -> Verdicts:
    """Verdicts when chosen[i] is taken for the i-th object of the caption; None: there is nothing to take."""
    marks = [("count", len(seen.objects) == len(stated.objects)),
             ("background", seen.background == stated.background)]
    for said, found in zip(stated.objects, chosen):
        marks += [(name, found is not None and getattr(found, name) == getattr(said, name))
                  for name in ("colour", "shape", "size")]
    if stated.position:
        marks.append(("position", chosen[0] is not None and position(chosen[0], SLACK) == stated.position))
    if stated.relation:
        marks.append(("relation", None not in chosen and relation(*chosen) == stated.relation))
    return marks


def chance_level(readings: Sequence[Scene | None], captions: Sequence[str]) -> float:
    """The score these readings get on average when the captions are shuffled, exactly: the mean over every
    reading with every caption. A model that ignores its caption scores this, so an alignment means something
    only as far as it lies above.
    Lesson: notebooks/04_faster_sampling.ipynb"""
    stated = [parse_caption(c) for c in captions]
    return sum(share(verdicts(r, s)) for r in readings for s in stated) / (len(readings) * len(stated))


def valid_share(images: Tensor) -> float:
    """The share of pictures in which a scene of the grammar is read: one object,
    or two whose relation has a word.
    images: [B 3 H W] in [-1, 1].  Lesson: notebooks/03_ddpm.ipynb"""
    return sum(is_valid(parse(image)) for image in images) / len(images)


def is_valid(reading: Scene | None) -> bool:
    """Whether a reading is a scene that the grammar has a caption for."""
    return reading is not None and (len(reading.objects) == 1 or relation(*reading.objects) is not None)
