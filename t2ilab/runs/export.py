"""A run as a folder small enough to ship: its config and its averaged weights in half precision."""
import os
import shutil
import torch
from pathlib import Path
from safetensors.torch import save_file

from ..hub import shipped
from ..presets import PRESETS
from ..training.checkpoint import read_tensors
from .folder import find


def export_run(run: str | Path, out: str | Path, *, cascade: bool = True) -> list[Path]:
    """Export a run by its name or path, and with `cascade` the stages after it into folders inside of it: the folders that were written.

    ValueError if `out` is the run's own folder.  The errors of `find`."""
    found, out = find(run), Path(out)
    if out.resolve() in (found.path.resolve(), found.home.resolve()):
        raise ValueError(f"{out} is the run itself: choose another folder")
    parts = {out: found.path} | {out / later.preset.name: later.path for later in (found.later() if cascade else ())}
    for folder, path in parts.items():
        export(path, folder)
    return list(parts)


def export(folder: Path, out: Path) -> None:
    """Copy a run's config and its averaged weights, in half precision, into a folder small enough to ship.  Nothing if it is the same folder."""
    out = Path(out)
    if out.resolve() == Path(folder).resolve():
        return
    weights = {k: v.half() if v.is_floating_point() else v for k, v in read_tensors(folder / "model.safetensors").items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / ".model.safetensors")
    os.replace(out / ".model.safetensors", out / "model.safetensors")
    shutil.copyfile(folder / "config.json", out / "config.json")


def describe_presets() -> list[dict]:
    """One row per preset: parameters of what a run is used with, counted on the `meta` device, resolution, expected metric, hardware.

    Of a codec what turns pictures into codes and back, without the discriminator and the perceptual network that only train it."""
    rows = []
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            model = preset.model.build().model
        parameters = getattr(model, "codec", model).parameters()
        rows.append({"preset": name, "trainable": sum(p.numel() for p in parameters if p.requires_grad), "pixels": preset.model.size,
                     "shipped": name in shipped(), "expected": preset.expected, "hardware": preset.hardware})
    return rows
