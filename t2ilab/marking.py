"""What `t2ilab evaluate` measures of a run, by its kind, and the comparisons it can add: each as numbers and a picture in the run's folder."""
import json
from pathlib import Path

from .evaluate.captions import caption_metrics, draw_enlarging, draw_inpainting, draw_sweep, enlarging_metrics, guidance_sweep
from .evaluate.cascades import augmentation_sweep, draw_augmentation, draw_thresholds, threshold_sweep
from .evaluate.codecs import codec_metrics, draw_codec, draw_methods, method_sweep, methods
from .evaluate.report import scene_metrics
from .runs import find_run, load, read_preset
from .viz import show


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


def compare_guidance(pipeline, scales: tuple[float, ...], out: Path, n: int, command: str) -> None:
    """What guidance does: guidance.json and guidance.png."""
    result = guidance_sweep(pipeline, scales, n=n)
    _write_comparison("guidance", result, draw_sweep(result), out, command, scales)


def compare_thresholds(pipeline, scales: tuple[float, ...], out: Path, n: int, command: str) -> None:
    """What thresholds do under guidance: thresholds.json and thresholds.png."""
    _write_comparison("thresholds", threshold_sweep(pipeline, scales, n=n), draw_thresholds(pipeline, scales), out, command, scales)


def compare_augmentation(run: str, levels: tuple[float, ...], out: Path, n: int, command: str) -> None:
    """What noise on the picture to enlarge does: augmentation.json and augmentation.png."""
    result = augmentation_sweep(lambda level: load(run, cascade=False, augmentation=level), read_preset(find_run(run)).model.low_res, levels, n=n)
    _write_comparison("augmentation", result, draw_augmentation(result), out, command, levels)


def compare_methods(model, out: Path, n: int, command: str) -> None:
    """The ways to sample codes: methods.json and methods.png.  ValueError for a run that draws pixels."""
    if not hasattr(model, "prior_weight"):
        raise ValueError(f"{out}: ways to sample codes are for runs that draw codes, such as vq-shapes")
    ways = methods(model.T, model.guidance_scale)
    _write_comparison("methods", method_sweep(lambda f: load(out, **f), ways, n=n), draw_methods(lambda f: load(out, **f), ways), out, command, ())


def _write_comparison(name: str, result: dict, picture, out: Path, command: str, values: tuple[float, ...]) -> None:
    result = result | {"command": " ".join([command, f"--{name}", *(f"{v:g}" for v in values)])}
    (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
    show(picture, path=out / f"{name}.png")
