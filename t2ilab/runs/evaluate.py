"""Measure a run: numbers and images in a folder of their own, by the rows of evaluation/registry.py."""
import json
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import torch

from ..evaluation.registry import ABLATIONS, ALL, METRICS, Subject, applicable
from ..hub import reports
from ..presets import Preset
from ..ranges import check_numbers
from ..training.checkpoint import write_text
from ..viz.notebook import show
from .codebook_usage import pictures_of
from .folder import find
from .load import load
from .train import data_of


def evaluate(run: str | Path, names: str | Sequence[str] = (), *, n: int = 512, scales: Sequence[float] = (),
             cascade: bool = False, root: str | None = None, out: str | Path | None = None) -> dict:
    """Measure a run: {number: value} of metrics, and under its name what each ablation found.

    names: rows of METRICS and ABLATIONS; the first metric that applies if none.
    n: images, of each kind of caption.  scales: what an ablation varies.
    cascade: measure what the stages that upsample make of its images.
    root: where its data set lies, if not as in training.
    Writes metrics.json with samples.png, and NAME.json with NAME.png for an ablation, into `out`: the run's
    folder, or runs/NAME for a run that ships.  Never copies weights.
    ValueError in one line for what does not apply."""
    found = find(run)
    preset = found.preset
    if root is not None:
        preset = replace(preset, data=replace(preset.data, root=root))
    _check(n, scales)
    names = _that_apply(str(run), preset, [names] if isinstance(names, str) else list(names))
    out = Path(out) if out else reports(run)
    subject = Subject(preset, load(found, cascade=cascade), n, tuple(scales),
                      reload=lambda **fields: load(found, cascade=False, **fields),
                      pictures_of=lambda: _read(preset, n))
    words = ["t2ilab", "evaluate", str(run)]
    options = ["--n", str(n), *(["--cascade"] if cascade else [])]
    metrics = [name for name in names if name in METRICS]
    result: dict = {}
    if metrics:
        asked = [] if metrics == applicable(preset)[:1] else metrics
        result |= _measure(subject, metrics, out, shlex.join([*words, *asked, *options]))
    for name in (name for name in names if name in ABLATIONS):
        result[name] = _ablate(subject, name, out, [*words, name, *options])
    return result


def _check(n: int, scales: Sequence[float]) -> None:
    if n < 1:
        raise ValueError(f"n={n}: choose 1 or more")
    for scale in scales:
        if not math.isfinite(scale):
            raise ValueError(f"scales: {scale} is no finite number")
        check_numbers({"guidance_scale": scale})


def _that_apply(run: str, preset: Preset, names: Iterable[str]) -> list[str]:
    """The names, or the first that applies if there are none.  ValueError that says why one does not."""
    there = applicable(preset)
    for name in names:
        if name not in ALL:
            close = get_close_matches(name, ALL, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose of {', '.join(ALL)}"
            raise ValueError(f"{name!r} is nothing to measure: {hint}")
        if reason := ALL[name].refuses(preset):
            can = ", ".join(there) or "nothing yet"
            raise ValueError(f"{name} cannot be measured of {run}: {reason}; of this run: {can}")
    if not names and not any(name in METRICS for name in there):
        raise ValueError(f"{run} was trained on {preset.data.data}: no metric applies yet; "
                         f"look at its pictures: t2ilab sample {shlex.quote(run)}")
    return list(names) or there[:1]


def _measure(subject: Subject, names: list[str], out: Path, command: str) -> dict:
    metrics: dict = {}
    for name in names:
        metrics |= METRICS[name].run(subject)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "metrics.json", json.dumps(metrics | {"command": command}, indent=1) + "\n")
    for name in names:
        _show(METRICS[name].plot(subject, metrics), out)
    return metrics


def _ablate(subject: Subject, name: str, out: Path, command: list[str]) -> dict:
    row = ABLATIONS[name]
    scales = (subject.scales or row.scales) if row.scales else ()
    subject = replace(subject, scales=scales)
    words = ["--scales", *(f"{v:g}" for v in scales)] if scales else []
    found = row.run(subject) | {"command": shlex.join([*command, *words])}
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f"{name}.json", json.dumps(found, indent=1) + "\n")
    _show(row.plot(subject, found), out)
    return found


def _show(pictures: dict, out: Path) -> None:
    for file, picture in pictures.items():
        show(picture, path=out / file)


def _read(preset: Preset, n: int) -> tuple[torch.Tensor, bool]:
    """n images [n 3 H W] of a run's data set, of its validation set if there is one; and whether there is."""
    dataset, held = data_of(preset)
    source = dataset if held is None else held
    pictures = pictures_of(source, min(n, len(source)), preset.data.workers, preset.name)
    return torch.cat(list(pictures)), held is not None
