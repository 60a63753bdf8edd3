"""What `t2ilab evaluate` measures of a run, by its kind, and the comparisons it makes instead where asked: numbers and a picture in the run's folder.

And what `t2ilab codes` counts of a codec."""
import json
import torch
from pathlib import Path

from ..evaluation.ablations.augmentation import augmentation_sweep, draw_augmentation
from ..evaluation.ablations.caption_choice import choice_metrics, draw_choices
from ..evaluation.ablations.guidance import draw_sweep, guidance_sweep
from ..evaluation.ablations.thresholds import draw_thresholds, threshold_sweep
from ..evaluation.ablations.unmasking import draw_methods, method_sweep, methods
from ..evaluation.caption_metrics import caption_metrics, draw_enlarging, draw_inpainting, enlarging_metrics
from ..evaluation.reconstruction import codec_metrics, draw_codec, draw_painted, picture_metrics
from ..evaluation.scene_metrics import scene_metrics, write_report
from ..training.checkpoint import write_text
from ..viz.notebook import show
from .codebook_usage import _pictures
from .folder import find_run, read_preset
from .load import load
from .train import data_of


def report(preset, pipeline, out: Path, n: int, command: str) -> dict:
    """What there is to say of a run, in files of its folder: metrics.json, which it returns, samples.png, and what else fits its kind.

    A codec that was trained on other pictures than the scenes is marked on those, and shows them."""
    if preset.data.data == "shapes":
        metrics = marks(preset.model, pipeline, n)
        write_report(pipeline, out, metrics, command=command)
        draw_more(preset.model, pipeline, out)
        return metrics
    dataset, held = data_of(preset.data, preset.model.size)
    true = torch.cat(list(_pictures(held or dataset, min(n, len(held or dataset)), preset.data.workers, preset.name)))
    metrics = {"samples": len(true), "held_back": held is not None} | picture_metrics(pipeline, true)
    write_text(out / "metrics.json", json.dumps(metrics | {"command": command}, indent=1) + "\n")
    show(draw_painted(pipeline, true[:8]), path=out / "painted.png")
    return metrics


def marks(model, pipeline, n: int) -> dict:
    """The numbers that fit a run: of a codec, of a stage that enlarges, of a model that reads captions, or labels, or nothing."""
    if not pipeline.stages:
        return codec_metrics(pipeline, n=n)
    if getattr(model, "low_res", 0):
        return enlarging_metrics(pipeline, model.low_res, n=n)
    return caption_metrics(pipeline, n=n) if model.net.text_width else scene_metrics(pipeline, n=n)


def draw_more(model, pipeline, out: Path) -> None:
    """The picture that a run of this kind has beside its samples."""
    if not pipeline.stages:
        show(draw_codec(pipeline), path=out / "painted.png")
    elif getattr(model, "low_res", 0):
        show(draw_enlarging(pipeline, model.low_res), path=out / "enlarged.png")
    elif getattr(model, "known", 0):
        show(draw_inpainting(pipeline), path=out / "inpainting.png")


def compare_guidance(pipeline, scales: tuple[float, ...], out: Path, n: int, command: str) -> Path:
    """What guidance does: guidance.json, whose path it returns, and guidance.png."""
    result = guidance_sweep(pipeline, scales, n=n)
    return _write_comparison("guidance", result, draw_sweep(result), out, command, scales)


def compare_thresholds(pipeline, scales: tuple[float, ...], out: Path, n: int, command: str) -> Path:
    """What thresholds do under guidance: thresholds.json, whose path it returns, and thresholds.png."""
    return _write_comparison("thresholds", threshold_sweep(pipeline, scales, n=n), draw_thresholds(pipeline, scales), out, command, scales)


def compare_augmentation(run: str, levels: tuple[float, ...], out: Path, n: int, command: str) -> Path:
    """What noise on the picture to enlarge does: augmentation.json, whose path it returns, and augmentation.png."""
    result = augmentation_sweep(lambda level: load(run, cascade=False, augmentation=level), read_preset(find_run(run)).model.low_res, levels, n=n)
    return _write_comparison("augmentation", result, draw_augmentation(result), out, command, levels)


def compare_methods(model, out: Path, n: int, command: str) -> Path:
    """The ways to sample codes: methods.json, whose path it returns, and methods.png.  ValueError for a run that draws pixels."""
    if not hasattr(model, "prior_weight") or not model.net.text_width:
        raise ValueError(f"{out}: ways to sample codes are compared on captions, by runs that draw codes from them, such as vq-shapes")
    ways = methods(model.T, model.guidance_scale)
    return _write_comparison("methods", method_sweep(lambda f: load(out, **f), ways, n=n), draw_methods(lambda f: load(out, **f), ways), out, command)


def compare_choices(pipeline, out: Path, n: int, command: str) -> Path:
    """Which of two captions the model takes for a picture: choices.json, whose path it returns, and choices.png."""
    result = choice_metrics(pipeline, n=n)
    return _write_comparison("choices", result, draw_choices(result), out, command)


def _write_comparison(name: str, result: dict, picture, out: Path, command: str, values: tuple[float, ...] = ()) -> Path:
    result = result | {"command": " ".join([command, f"--{name}", *(f"{v:g}" for v in values)])}
    path = out / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
    show(picture, path=path.with_suffix(".png"))
    return path
