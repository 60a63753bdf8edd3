"""A run as a folder small enough to ship: its config and its averaged weights in half precision."""
import os
import shutil
import torch
from pathlib import Path
from safetensors.torch import save_file

from ..presets import PRESETS
from ..training.checkpoint import read_tensors


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
    """One row a preset: parameters counted on the `meta` device, resolution, expected metric, hardware."""
    rows = []
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            parameters = list(preset.model.build().parameters())
        rows.append({"preset": name, "trainable": sum(p.numel() for p in parameters if p.requires_grad),
                     "frozen": sum(p.numel() for p in parameters if not p.requires_grad), "pixels": preset.model.size,
                     "expected": preset.expected, "hardware": preset.hardware})
    return rows
