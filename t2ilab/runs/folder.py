"""A run is a folder: its config, its log, its checkpoints, its samples. This file finds one and reads its config."""
import json
from dataclasses import fields
from pathlib import Path

from ..families import FAMILIES
from ..presets import PRESETS, Preset
from ..training.checkpoint import find_weights, newest
from ..config_json import from_dict


def preset_from_dict(saved: dict) -> Preset:
    """The preset that a config.json was written from.  ValueError for a family or field this version does not know."""
    if saved.get("family") not in FAMILIES:
        raise ValueError(f"family={saved.get('family')!r}: choose one of {', '.join(FAMILIES)}")
    known = {f.name for f in fields(Preset)}
    return from_dict(Preset, {k: v for k, v in saved.items() if k in known}, model=FAMILIES[saved["family"]])


def find_run(name: str | Path) -> Path:
    """The folder that holds the weights of a run folder, a checkpoint folder, an exported folder, or a run that ships with the project.

    ValueError naming the file if a checkpoint is damaged; FileNotFoundError in one line that says what to do."""
    try:
        return find_weights(name)
    except FileNotFoundError as error:
        hint = f"; train it: t2ilab train {name}" if str(name) in PRESETS else ""
        raise FileNotFoundError(f"{error}{hint}") from error


def read_preset(folder: Path) -> Preset:
    """The preset of a run or checkpoint folder, from its config.json."""
    try:
        return preset_from_dict(json.loads((folder / "config.json").read_text(encoding="utf8")))
    except (OSError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder / 'config.json'} is not the config of a run ({error})") from error


def _is_trained(folder: Path) -> bool:
    return (folder / "model.safetensors").is_file() or newest(folder / "checkpoints") is not None
