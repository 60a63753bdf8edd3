"""A preset and the later stages of its cascade: what `t2ilab train` trains, one by one."""
from dataclasses import asdict, replace
from pathlib import Path

from ..presets import PRESETS, Preset
from ..training.fit import FitConfig
from .folder import read_preset


def cascade(preset: Preset, out: Path) -> list[tuple[Preset, Path]]:
    """The preset and the later stages of its cascade, with the folder of each.

    The later ones share its data, its way of saving, its vocabulary and every fit option that differs from
    its own preset's, and upsample its images.  One that has begun stays as it is, but for fit options that
    changed since then.  ValueError if its images are too large for them."""
    begun = (out / "config.json").is_file()
    goes_on = begun and preset.cascade
    since = _changed(preset.fit, read_preset(out).fit) if goes_on else _asked_for(preset)
    parts = [(preset, out)]
    for later in preset.cascade:
        if (out / later / "config.json").is_file():
            saved = read_preset(out / later)
            part = replace(saved, fit=replace(saved.fit, **since))
        else:
            part = _fitted(PRESETS[later], parts[-1][0], _asked_for(preset))
        parts.append((part, out / later))
    return parts


def plan(parts: list[tuple[Preset, Path]]) -> str:
    """What will be trained, in one line: "2 stages: glide 10 steps, then glide-upsampler 10 steps"."""
    stages = [f"{preset.name} {preset.fit.steps:,} steps" for preset, _ in parts]
    return f"{len(parts)} stages: {', then '.join(stages)}"


def _asked_for(preset: Preset) -> dict:
    """The fit options that are not the preset's own."""
    return _changed(preset.fit, PRESETS[preset.name].fit) if preset.name in PRESETS else {}


def _changed(fit: FitConfig, before: FitConfig) -> dict:
    old = asdict(before)
    return {name: value for name, value in asdict(fit).items() if value != old[name]}


def _fitted(later: Preset, first: Preset, asked_for: dict) -> Preset:
    model = first.model
    if model.size >= later.model.size:
        raise ValueError(f"{later.name} draws {later.model.size} px, so it cannot enlarge the "
                         f"{model.size} px of {first.name}: choose a smaller --size")
    fit = replace(later.fit, **asked_for)
    return replace(later, data=first.data, save=first.save, fit=fit, model=later.model.as_upsampler_of(model))
