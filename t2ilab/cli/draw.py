"""`t2ilab demo` and `t2ilab sample`."""
import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import tyro

from ..data.captions import read_captions
from ..presets import PRESETS
from ..ranges import check_numbers
from ..runs import load as loading
from ..runs.folder import find
from ..runs.sample import (
    EditingOptions,
    SamplingOptions,
    check_words,
    chosen,
    demonstrate,
    draw,
    edits,
    method_settings,
    record,
    save,
    warn_of_unknown_words,
)
from ..training.checkpoint import write_text
from .text_tables import print_table
from .train import Word, train_all


def demo(out: Path = Path("runs/demo"), train: bool = False, steps: int | None = None) -> None:
    """See what this code can do: sample every shipped model, or train a small one on the spot.

    Args:
        out: folder for the pictures and metrics.json
        train: train a small text-to-image model from nothing instead, in a few minutes
        steps: length of that training; the preset's if not given
    """
    if train:
        _train_demo(out / "train", steps)
        return
    rows = [("model", "seconds per image", "alignment", "picture")]
    command = shlex.join(["t2ilab", "demo", "--out", str(out)])
    for name in loading.first_runs():
        rows.append(demonstrate(name, loading.load(name), out))
        found = {"models": [dict(zip(rows[0], row)) for row in rows[1:]], "command": command}
        write_text(out / "metrics.json", json.dumps(found, indent=1) + "\n")
    print_table(rows)
    print("\nThe lessons: jupyter lab notebooks/01_data_analysis.ipynb   "
          "(or open them in Colab: the badges in README.md)")


def _train_demo(out: Path, steps: int | None) -> None:
    preset = PRESETS["quick-one"]
    steps = preset.fit.steps if steps is None else steps
    save = replace(preset.save, sample_steps=max(1, steps // 4))
    preset = replace(preset, fit=replace(preset.fit, steps=steps), save=save)
    train_all(preset, out)
    print(f"Pictures from step to step: {out / 'samples'}")


def sample(run: Annotated[Word, tyro.conf.arg(metavar="RUN")],
           captions: Annotated[tyro.conf.Positional[tuple[str, ...]],
                               tyro.conf.arg(help_behavior_hint="(optional)")] = (), *,
           file: Annotated[Path | None, tyro.conf.arg(name="captions")] = None,
           out: Path = Path("runs/samples"), n: int | None = None, seed: int = 0, method: str | None = None,
           sampling: SamplingOptions = SamplingOptions(), editing: EditingOptions = EditingOptions()) -> None:
    """Sample images from a trained run, given captions (class names or numbers for labels) or none.

    Args:
        run: a run's folder, or the name of a run that ships with the project (see `t2ilab presets`)
        captions: what to sample
        file: a text file with more captions, one per line
        out: folder for the images
        n: images per caption, 1 if not given; or without captions, 8 if not given
        seed: the same seed gives the same images
        method: for VQ-Diffusion, a way that evaluate methods compares, as fast; other options win over it
    """
    if n is not None and n < 1:
        raise ValueError(f"--n {n}: choose 1 or more")
    check_numbers({"seed": seed})
    words = [_printable(caption) for caption in captions]
    all_captions = (*words, *(read_captions(file) if file else ()))
    asked = [caption for caption in all_captions for _ in range(n or 1)]
    found = find(run)
    check_words(found.preset, words)
    settings = method_settings(found, method, chosen(sampling))
    start = edits(editing)
    pipeline = loading.load(found, cascade=sampling.cascade, **settings)
    warn_of_unknown_words(found.preset, asked)
    images = draw(pipeline, asked or [""] * (n or 8), seed=seed, label=run, **start)
    about = record(found, asked, seed, sampling.cascade, settings) | {"n": len(images)}
    save(images, asked, out, about | _given(editing, method))
    plural = "" if len(images) == 1 else "s"
    print(f"{len(images)} picture{plural} in {out}; all together: {out / 'grid.png'}")


def _given(editing: EditingOptions, method: str | None) -> dict:
    """The options that were given of those that a run has no value of its own for."""
    strength = editing.strength if editing.init_image else None
    given = asdict(editing) | {"method": method, "strength": strength}
    return {name: value for name, value in given.items() if value is not None}


def _printable(text: str) -> str:
    """A word of the command line in which bytes that are no UTF-8 are question marks."""
    return text.encode("utf8", "surrogateescape").decode("utf8", "replace")
