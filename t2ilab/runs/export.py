"""A run as a folder small enough to ship: its config and its averaged weights in half precision."""
import os
import shutil
from functools import cache
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

from ..hub import shipped
from ..presets import PRESETS
from ..training.checkpoint import read_tensors, save_tensors
from .folder import find


def export_run(run: str | Path, out: str | Path, *, cascade: bool = True) -> list[Path]:
    """Export a run by its name or path: the folders that were written.

    cascade: the stages after it too, each into a folder inside of it.
    ValueError if `out` is the run's own folder.  The errors of `find`."""
    found, out = find(run), Path(out)
    if out.resolve() in (found.path.resolve(), found.home.resolve()):
        raise ValueError(f"{out} is the run itself: choose another folder")
    later = found.later() if cascade else []
    parts = {out: found.path} | {out / run.preset.name: run.path for run in later}
    for folder, path in parts.items():
        export(path, folder)
    return list(parts)


def export(folder: Path, out: Path) -> None:
    """Copy a run's config and its averaged weights, in half precision, into a folder small enough to ship.

    Nothing if it is the same folder."""
    out = Path(out)
    if out.resolve() == Path(folder).resolve():
        return
    weights = {name: v.half() if v.is_floating_point() else v
               for name, v in read_tensors(folder / "model.safetensors").items()}
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(weights, out / ".model.safetensors")
    os.replace(out / ".model.safetensors", out / "model.safetensors")
    shutil.copyfile(folder / "config.json", out / "config.json")


def describe_presets() -> list[dict]:
    """One row per preset: parameters of what a run is used with, resolution, expected metric, hardware."""
    return [{"preset": name, "trainable": _parameters(preset.model), "pixels": preset.model.size,
             "shipped": name in shipped(), "expected": preset.expected, "hardware": preset.hardware}
            for name, preset in PRESETS.items()]


@cache
def _parameters(config) -> int:
    """The number of parameters of a model, counted on the `meta` device.

    Of a codec those that encode and decode, without what only trains it."""
    with torch.device("meta"), _Unfilled():
        model = config.build()
    return sum(p.numel() for p in getattr(model, "codec", model).parameters())


class _Unfilled(TorchFunctionMode):
    """Leaves new weights as they are: on `meta` there is nothing to fill, and that takes most of the time."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        fills = getattr(function, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_", "zeros_")
        return (args or tuple(kwargs.values()))[0] if fills else function(*args, **kwargs or {})
