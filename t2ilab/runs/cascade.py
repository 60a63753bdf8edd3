"""A preset and those that come after it: what `t2ilab train` trains, one by one."""
from dataclasses import replace
from pathlib import Path

from ..presets import PRESETS, Preset
from .folder import read_preset


def cascade(preset: Preset, out: Path) -> list[tuple[Preset, Path]]:
    """The preset and those that come after it, with the folder of each: what `t2ilab train` trains, one by one.

    The later ones share its data, its way of saving and its vocabulary, and enlarge what it draws, unless they have begun already.  ValueError
    if it draws too large for them."""
    parts = [(preset, out)]
    for later in preset.then:
        begun = (out / later / "config.json").is_file()
        parts.append((read_preset(out / later) if begun else _fitted(PRESETS[later], parts[-1][0]), out / later))
    return parts


def _fitted(later: Preset, first: Preset) -> Preset:
    model = first.model
    if model.size >= later.model.size:
        raise ValueError(f"{later.name} draws {later.model.size} px, so it cannot enlarge the {model.size} px of {first.name}: choose a smaller --size")
    return replace(later, data=first.data, save=first.save, model=later.model.as_upsampler_of(model))
