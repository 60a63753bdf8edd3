"""What can be measured of a run: one row per metric and per ablation.  A new one is a file and a row here.

Help texts of `t2ilab evaluate` come from these rows.  Left out: where numbers are written (runs/evaluate.py).
"""
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from ..data.datasets import OBJECTS, is_drawn
from ..viz.tiles import grid
from .ablations.augmentation import augmentation_sweep, draw_augmentation
from .ablations.caption_choice import choice_metrics, draw_choices
from .ablations.guidance import draw_sweep, guidance_sweep
from .ablations.thresholds import draw_thresholds, threshold_sweep
from .ablations.unmasking import draw_methods, method_sweep, methods
from .caption_metrics import (
    caption_metrics,
    draw_enlarging,
    draw_inpainting,
    enlarging_metrics,
)
from .reconstruction import (
    codec_metrics,
    count_codes,
    draw_codec,
    draw_painted,
    picture_metrics,
    usage,
)
from .scene_metrics import demo_captions, sample_many, scene_metrics


@dataclass(frozen=True)
class Subject:
    """A run, as metrics and ablations see it."""
    preset: object                          # of presets.Preset: its model, its data
    pipeline: Callable                      # ready to sample
    n: int                                  # images to measure, of each kind of caption
    scales: tuple[float, ...] = ()          # what an ablation varies
    reload: Callable | None = None          # fields of the run's family -> its pipeline with them
    pictures_of: Callable | None = None     # () -> (n images [n 3 H W] of its data set, held back or not)

    @cached_property
    def pictures(self) -> tuple[Tensor, bool]:
        """Images of the run's data set, and whether training never saw them; read once."""
        return self.pictures_of()


class Row(NamedTuple):
    """A metric or an ablation: whom it is for, how it measures and what it shows."""
    help: str                                           # one line
    refuses: Callable[[object], str]                    # preset -> why it cannot be measured, "" if it can
    run: Callable[[Subject], dict]                      # the numbers
    plot: Callable[[Subject, dict], dict[str, Image.Image]]     # file name -> picture
    scales: tuple[float, ...] = ()                      # what an ablation varies unless told otherwise


def kind(preset) -> str:
    """What a run makes images from: codec, upsampler, captions, labels or nothing."""
    model = preset.model
    if model.needs_image:
        return "upsampler" if hasattr(model, "low_res") else "codec"
    return {"text": "captions", "label": "labels", "none": "nothing"}[model.reads]


def _wants(*kinds: str, scenes: bool = True, field: str = "", without: str = "") -> Callable[[object], str]:
    """preset -> why not: wants some kinds of run, on the scenes, of a family with or without a field."""
    def refuses(preset) -> str:
        if kind(preset) not in kinds:
            wanted = " or ".join(WORDS[one] for one in kinds)
            return f"it is for runs that make pictures from {wanted}"
        if scenes and not is_drawn(preset.data.data):
            return "the scene parser reads pictures of drawn scenes alone, of data set shapes"
        if scenes and preset.model.size < 24:
            return "the scene parser reads pictures of 24 px or more"
        model = preset.model
        if (field and not hasattr(model, field)) or (without and hasattr(model, without)):
            return f"it is for runs of a family {f'with the field {field}' if field else 'that draws pixels'}"
        return ""
    return refuses


WORDS = {"codec": "codes of a picture (codecs)", "upsampler": "a smaller one (upsamplers)",
         "captions": "captions", "labels": "labels", "nothing": "nothing but noise"}


def _samples(subject: Subject) -> dict[str, Image.Image]:
    captions, options = demo_captions(subject.pipeline)
    images = sample_many(subject.pipeline, captions, seed=0, **options)
    return {"samples.png": grid(images, captions if any(captions) else None)}


def _reconstruct(subject: Subject) -> dict:
    if is_drawn(subject.preset.data.data):
        return codec_metrics(subject.pipeline, n=subject.n)
    true, held_back = subject.pictures
    return {"samples": len(true), "held_back": held_back} | picture_metrics(subject.pipeline, true)


def _codebook(subject: Subject) -> dict:
    true, _ = subject.pictures
    return {"samples": len(true)} | usage(count_codes(subject.pipeline.model.codec, true.split(32)))


def _reconstructions(subject: Subject) -> dict[str, Image.Image]:
    if not is_drawn(subject.preset.data.data):
        return {"painted.png": draw_painted(subject.pipeline, subject.pictures[0][:8])}
    return _samples(subject) | {"painted.png": draw_codec(subject.pipeline)}


def _with_inpainting(subject: Subject) -> dict[str, Image.Image]:
    pictures = _samples(subject)
    if getattr(subject.preset.model, "known", 0):
        pictures["inpainting.png"] = draw_inpainting(subject.pipeline)
    return pictures


def _enlarged(subject: Subject) -> dict[str, Image.Image]:
    return {"enlarged.png": draw_enlarging(subject.pipeline, subject.preset.model.low_res)}


def _augment(subject: Subject) -> dict:
    def at(level: float):
        return subject.reload(augmentation=level)
    return augmentation_sweep(at, subject.preset.model.low_res, subject.scales, n=subject.n)


def _ways(subject: Subject) -> dict[str, dict]:
    return methods(subject.preset.model.T, subject.preset.model.guidance_scale)


METRICS = {     # `t2ilab evaluate RUN` measures the first that applies
    "alignment": Row("whether each picture shows what its caption says", _wants("captions"),
                     lambda s: caption_metrics(s.pipeline, n=s.n, objects=OBJECTS[s.preset.data.data]),
                     lambda s, _: _with_inpainting(s)),
    "scenes": Row("whether pictures are scenes of the grammar, and show their label",
                  _wants("labels", "nothing"),
                  lambda s: scene_metrics(s.pipeline, n=s.n), lambda s, _: _samples(s)),
    "upsampling": Row("PSNR of an upsampler beside bicubic's", _wants("upsampler"),
                      lambda s: enlarging_metrics(s.pipeline, s.preset.model.low_res, n=s.n),
                      lambda s, _: _samples(s) | _enlarged(s)),
    "reconstruction": Row("PSNR of a codec, and how it uses its codes", _wants("codec", scenes=False),
                          _reconstruct, lambda s, _: _reconstructions(s)),
    "codebook": Row("how many of a codec's codes are used, and their perplexity",
                    _wants("codec", scenes=False), _codebook, lambda s, _: {}),
}
ABLATIONS = {
    "guidance": Row("guidance scales", _wants("captions"),
                    lambda s: guidance_sweep(s.pipeline, s.scales, n=s.n),
                    lambda s, found: {"guidance.png": draw_sweep(found)}, (0, 1, 2, 3, 6, 12)),
    "thresholds": Row("no, static and dynamic thresholding at guidance scales",
                      _wants("captions", without="codec"),
                      lambda s: threshold_sweep(s.pipeline, s.scales, n=s.n),
                      lambda s, _: {"thresholds.png": draw_thresholds(s.pipeline, s.scales)}, (1, 3, 6, 12)),
    "augmentation": Row("amounts of noise, 0 to 1, on the picture to enlarge",
                        _wants("upsampler", field="augmentation"), _augment,
                        lambda s, found: {"augmentation.png": draw_augmentation(found)},
                        (0, 0.05, 0.1, 0.2, 0.4, 0.8)),
    "methods": Row("the six ways to sample codes", _wants("captions", field="prior_weight"),
                   lambda s: method_sweep(lambda fields: s.reload(**fields), _ways(s), n=s.n),
                   lambda s, _: {"methods.png": draw_methods(lambda fields: s.reload(**fields), _ways(s))}),
    "choices": Row("how often the true one of two captions fits a picture better", _wants("captions"),
                   lambda s: choice_metrics(s.pipeline, n=s.n),
                   lambda s, found: {"choices.png": draw_choices(found)}),
}
ALL = METRICS | ABLATIONS


def applicable(preset) -> list[str]:
    """The names of what can be measured of a run, the one that `t2ilab evaluate` takes by itself first."""
    return [name for name, row in ALL.items() if not row.refuses(preset)]
