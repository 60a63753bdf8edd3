"""`t2ilab evaluate`, `t2ilab speedrun` and `t2ilab codebook`."""
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from ..evaluation.registry import ABLATIONS, METRICS
from ..hub import reports
from ..presets import PRESETS
from ..ranges import check_numbers
from ..viz.notebook import show_grid
from .text_tables import print_comparison, print_table
from .train import Word, one_of, with_bar

RUN = Annotated[Word, tyro.conf.arg(metavar="RUN")]
METRIC = Annotated[tyro.conf.Positional[tuple[str, ...]],
                   tyro.conf.arg(metavar="METRIC", help_behavior_hint="(optional)")]
Scales = Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint="(default: its own)")]
OldScales = Annotated[tuple[float, ...], tyro.conf.arg(help="the old way to say its name and --scales",
                                                       help_behavior_hint="(optional)")]
RACES = {name: PRESETS[name] for name in ("quick-one", "quick")}
OldFlag = Annotated[bool, tyro.conf.arg(help="the old way to say its name")]


def evaluate(run: RUN, metrics: METRIC = (), *, out: Path | None = None, n: int = 512,
             scales: Scales = (), cascade: bool = False, root: str | None = None,
             guidance: OldScales = (), thresholds: OldScales = (), augmentation: OldScales = (),
             methods: OldFlag = False, choices: OldFlag = False) -> None:
    """Measure a run: writes metrics.json and samples.png, or NAME.json and NAME.png of an ablation."""
    old = {"guidance": guidance or None, "thresholds": thresholds or None,
           "augmentation": augmentation or None,
           "methods": () if methods else None, "choices": () if choices else None}
    renamed = [_reworded(run, name, varied) for name, varied in old.items() if varied is not None]
    named = [(list(metrics), scales)] if metrics or not renamed else []
    for names, varied in named + renamed:
        _evaluate(run, names, out, n=n, scales=varied, cascade=cascade, root=root)


def speedrun(preset: one_of(RACES), seeds: int = 3, n: int = 256, change: str = "",
             out: Path = Path("runs/speedrun")) -> None:
    """Seconds of training until a model of the scenes draws what captions say; adds a row to records.json.

    Args:
        seeds: trainings, from seeds 0, 1, ...; the row has the mean
        n: fresh captions of each kind to measure on
        change: what is new in this recipe, for the row
        out: folder for records.json, its plot, and images of the last training
    """
    from ..runs import speedrun as clock
    check_numbers({"seeds": seeds, "n": n})
    races = []
    for seed in range(seeds):
        watch = partial(with_bar, total=preset.fit.steps, out=Path(f"seed {seed}"))
        races.append(clock.race(preset, seed, n=n, watch=watch))
        print("  ".join(f"{key} {value}" for key, value in races[-1].reached.items()), flush=True)
    rows = clock.keep(clock.record(preset, races, change=change), out)
    show_grid(races[-1].images, races[-1].captions, path=out / f"{preset.name}.png")
    print_table([("change", "preset", "device", "seconds", "one object", "two objects"),
                 *((row["change"], row["preset"], row["device"], f"{row['seconds']:.0f}",
                    str(row["one_object"]), str(row.get("two_objects", ""))) for row in rows)])
    print(out / "records.json")


def _reworded(run: str, name: str, scales: tuple[float, ...]) -> tuple[list[str], tuple[float, ...]]:
    """An old option as the new words, which are said in one line."""
    words = [name, *(["--scales", *(f"{v:g}" for v in scales)] if scales else [])]
    print(f"t2ilab: --{name} is now: t2ilab evaluate {shlex.quote(run)} {' '.join(words)}", file=sys.stderr)
    return [name], scales


def _evaluate(run: str, names: list[str], out: Path | None, **options) -> None:
    from ..runs.evaluate import evaluate as measure
    found = measure(run, names, out=out, **options)
    folder = out or reports(run)
    numbers = {name: value for name, value in found.items() if name not in ABLATIONS}
    if numbers:
        print_table([("metric", "value"), *((name, str(value)) for name, value in numbers.items())])
        print(f"{folder / 'metrics.json'}")
    for name in found.keys() - numbers.keys():
        print(folder / f"{name}.json")
        print_comparison(found[name])


def _rows(rows: dict) -> str:
    return ", ".join(f"{name} ({row.help})" for name, row in rows.items())


evaluate.__doc__ += f"""

    Args:
        run: a run's folder, or the name of a run that ships with the project
        metrics: what to measure, the first that applies if not given. \
Metrics: {_rows(METRICS)}. Ablations: {_rows(ABLATIONS)}
        out: folder for the report; the run's own if not given, or runs/NAME for a run that ships
        n: images to measure, of each kind of caption
        scales: what an ablation varies, as in guidance --scales 0 1 2 3 6 12
        cascade: measure what the stages that upsample make of its images
        root: folder that its data set lies in, if it is needed and lies elsewhere than in training
    """


SHARES = (0.9, 0.99, 0.999, 1.0)


def codebook(run: RUN, data: str | None = None, root: str | None = None, n: int = 10_000) -> None:
    """Count which codebook entries a VQGAN really uses, so that a model can use these alone: used_codes.json.

    Args:
        run: a codec's run folder, or the name of one that ships with the project
        data: data set to count on; the one it was trained on if not given
        root: folder it lies in
        n: pictures to count on, at most
    """
    from ..runs.codebook_usage import count_used
    path, counts = count_used(run, n, data=data, root=root)
    shares = counts.sort(descending=True).values.double().cumsum(0) / counts.sum()
    taken = int(counts.count_nonzero())
    needed = [(f"{share:.1%}", f"{int((shares < share).sum()) + 1:,}") for share in SHARES]
    print_table([("share of all cells", "codes"), *needed])
    print(f"{path}: {taken:,} of {len(counts):,} codes taken.  "
          f"Draw these or fewer: t2ilab train PRESET --codec {shlex.quote(run)} --codebook-size {taken}")


def codes(run: RUN, data: str | None = None, root: str | None = None, n: int = 10_000) -> None:
    """The old name of `t2ilab codebook`.

    Args:
        run: a codec's run folder, or the name of one that ships with the project
        data: data set to count on; the one it was trained on if not given
        root: folder it lies in
        n: pictures to count on, at most
    """
    print(f"t2ilab: codes is now: t2ilab codebook {shlex.quote(run)}", file=sys.stderr)
    codebook(run, data, root, n)
