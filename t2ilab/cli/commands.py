"""The command line: `t2ilab demo`, `train`, `pretrain`, `resume`, `sample`, `evaluate`, `codes`, `convert`, `data inspect`, `data fetch`, `presets`.

Every option comes from a dataclass field or a function argument, its help from the comment beside it. A mistake is one line, never a traceback.
"""
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import asdict, replace
from functools import partial, wraps
from itertools import chain, zip_longest
from pathlib import Path
from traceback import extract_tb
from typing import Annotated, Union

import tyro

from ..data.datasets import names_of_datasets
from ..data.web.download import Fetching, fetch_list
from ..runs.sample import EditingOptions, SamplingOptions, chosen, demonstrate, draw, edits, method_settings, read_captions, save
from ..presets import PRESETS, Preset
from .text_tables import print_comparison, print_table
from ..text.pretraining import PRETRAINING, PretrainConfig
from ..training.fit import FitConfig

AnyPreset = Union[tuple(Annotated[Preset[type(preset.model)], tyro.conf.subcommand(name, default=preset, prefix_name=False)]
                        for name, preset in PRESETS.items())]
Word = tyro.conf.Positional[str]


def demo(out: Path = Path("runs/demo"), train: bool = False, steps: int = 1200) -> None:
    """See what this code can do: sample every shipped model, or train a small one on the spot.

    Args:
        out: folder for the pictures
        train: train a small model from nothing instead (about 5 minutes on 2 cores)
        steps: length of that training
    """
    from ..runs.load import first_runs, load
    if train:
        _train_demo(out / "train", steps)
        return
    rows = [("model", "seconds per image", "alignment", "picture")]
    rows += [demonstrate(name, load(name), out) for name in first_runs()]
    print_table(rows)
    print("\nThe lessons: jupyter lab notebooks/01_data_analysis.ipynb   (or open them in Colab: the badges in README.md)")


def _train_demo(out: Path, steps: int) -> None:
    preset = PRESETS["ddpm-shapes"]
    preset = replace(preset, fit=replace(preset.fit, steps=steps), save=replace(preset.save, sample_steps=max(1, steps // 4)))
    _train_all(preset, out)
    print(f"Pictures from step to step: {out / 'samples'}")


def train(preset: AnyPreset, out: Path | None = None, cascade: bool = True, together: bool = False) -> None:
    """Train a preset; run it again to go on where it stopped.

    Args:
        out: the run's folder; runs/PRESET if not given
        cascade: train the stages that enlarge its pictures too
        together: train all stages side by side, a step each in turn, in place of one after the other; their weights are the same
    """
    _train_all(preset, out or Path("runs") / preset.name, cascade, together)


def pretrain(out: Path = Path("runs/t5-shapes"), texts: Path | None = None, text: PretrainConfig = PretrainConfig(),
             fit: FitConfig = PRETRAINING) -> None:
    """Train a small language model on text alone, by filling gaps; its encoder then reads captions for Imagen: --encoder OUT --encoder-width WIDTH.

    Killed, the same command goes on from the last minute.

    Args:
        out: folder for the encoder and its tokenizer, as transformers reads them
        texts: a file with one text a line; endless descriptions of the scenes if not given
    """
    from ..text import pretraining
    lines = read_captions(texts) if texts else pretraining.SceneTexts()
    tokenizer = pretraining.learn_tokenizer(lines, text)
    for _ in _with_bar(pretraining.pretrain(lines, tokenizer, text, fit, out=out), fit.steps, out):
        pass
    print(f"{out}: an encoder of {text.width} numbers a token.  Use it: t2ilab train imagen-shapes --encoder {out} --encoder-width {text.width}")


def resume(run: Annotated[Word, tyro.conf.arg(metavar="RUN")], steps: int | None = None, cascade: bool = True) -> None:
    """Go on with a run where its newest checkpoint stopped.

    Args:
        run: the run's folder
        steps: a new number of steps to reach
        cascade: train the stages that enlarge its pictures too
    """
    from ..runs.folder import read_preset
    if not (Path(run) / "config.json").is_file():
        raise FileNotFoundError(f"{run}: no run there (no config.json)")
    preset = read_preset(Path(run))
    _train_all(preset if steps is None else replace(preset, fit=replace(preset.fit, steps=steps)), Path(run), cascade)


def _train_all(preset, out: Path, whole: bool = True, together: bool = False) -> None:
    from ..runs.cascade import cascade
    stages = [_steps(part, folder) for part, folder in cascade(preset, out)[:None if whole else 1]]
    for _ in zip_longest(*stages) if together else chain(*stages):
        pass


def _steps(preset, out: Path) -> Iterator:
    from ..runs.train import train as train_run
    yield from _with_bar(train_run(preset, out), preset.fit.steps, out)
    print(f"{out}: {preset.fit.steps} steps done.  {_try(preset, out)}")


def _try(preset: Preset, out: Path) -> str:
    return f"Sample from it: t2ilab sample {out}{' --picture photo.png' if preset.model.needs_image else ''}"


def _with_bar(steps: Iterator, total: int, out: Path) -> Iterator:
    """The (Log, model) of every step of a training run, under a progress bar."""
    from tqdm import tqdm
    with tqdm(total=total, desc=str(out), unit="step", mininterval=0.5, disable=os.environ.get("RANK", "0") != "0") as bar:
        for log, model in steps:
            bar.update(log.step - bar.n)
            bar.set_postfix(loss=f"{log.loss:.4f}", refresh=False)
            yield log, model


def sample(run: Annotated[Word, tyro.conf.arg(metavar="RUN")], captions: tyro.conf.Positional[tuple[str, ...]] = (), *,
           file: Annotated[Path | None, tyro.conf.arg(name="captions")] = None, out: Path = Path("runs/samples"), n: int | None = None, seed: int = 0,
           method: str | None = None, sampling: SamplingOptions = SamplingOptions(), editing: EditingOptions = EditingOptions()) -> None:
    """Draw pictures with a trained run from captions (class names or numbers for models with labels), or without.

    Args:
        run: a run's folder, or the name of a run that ships with the project (see `t2ilab presets`)
        captions: what to draw
        file: a text file with more captions, one a line
        out: folder for the pictures
        n: how many of each caption, 1 if not given; or without captions, 8 if not given
        seed: the same seed draws the same pictures
        method: of a run that draws codes, one of the ways that evaluate --methods compares, such as fast; the other options win over it
    """
    from ..runs.load import load
    if n is not None and n < 1:
        raise ValueError(f"--n {n}: choose 1 or more")
    captions = [caption for caption in (*captions, *(read_captions(file) if file else ())) for _ in range(n or 1)]
    pipeline = load(run, **method_settings(run, method, chosen(sampling)))
    images = draw(pipeline, captions or [""] * (n or 8), seed=seed, label=str(run), **edits(editing))
    save(images, captions, out, {"run": str(run), "captions": captions, "n": len(images), "seed": seed, "method": method} | asdict(sampling) | asdict(editing))
    print(f"{len(images)} pictures in {out}; all together: {out / 'grid.png'}")


def evaluate(run: Annotated[Word, tyro.conf.arg(metavar="RUN")], out: Path | None = None, n: int = 512, cascade: bool = False,
             guidance: tuple[float, ...] = (), thresholds: tuple[float, ...] = (), augmentation: tuple[float, ...] = (), methods: bool = False,
             choices: bool = False) -> None:
    """Mark a run of the captioned scenes with the scene parser, or a codec by what it loses; writes metrics.json and a picture. Or compare instead.

    Args:
        run: a run's folder, or the name of a run that ships with the project
        out: folder for the report; also gets the weights, in half precision. The run's own if not given
        n: pictures to mark, of each kind of caption
        cascade: mark what the stages that enlarge make of its pictures
        guidance: compare guidance scales, as in 0 1 2 3 6 12; writes guidance.json and guidance.png
        thresholds: compare no, static and dynamic thresholding at these guidance scales; writes thresholds.json and thresholds.png
        augmentation: compare amounts of noise on the small picture, 0 to 1, of a run that enlarges; writes augmentation.json and augmentation.png
        methods: compare the ways to sample, of a run that draws codes; writes methods.json and methods.png
        choices: how often a model that reads captions takes the true one of two, the other changed a little; writes choices.json and choices.png
    """
    from ..runs import evaluate as marking
    from ..runs.export import export
    from ..runs.folder import find_run, read_preset
    from ..runs.load import load
    folder = find_run(run)
    preset = read_preset(folder)
    if preset.data.data != "shapes" and preset.family != "vq_codec":
        raise ValueError(f"{run} was not trained on shapes: the scene parser cannot mark it")
    if n < 1:
        raise ValueError(f"--n {n}: choose 1 or more")
    if preset.family == "vq_codec" and (guidance or thresholds or augmentation or choices):
        raise ValueError(f"{run} is a codec: there is nothing to guide, to threshold or to choose")
    if augmentation and not getattr(preset.model, "low_res", 0):
        raise ValueError(f"{run} enlarges nothing: --augmentation is for runs that do, such as imagen-shapes-upsampler")
    out = out or Path(run)
    export(folder, out)
    pipeline, command = load(run if cascade else out, cascade=cascade), f"t2ilab evaluate {run} --n {n}{' --cascade' * cascade}"
    comparisons = [(guidance, lambda: marking.compare_guidance(pipeline, guidance, out, n, command)),
                   (thresholds, lambda: marking.compare_thresholds(pipeline, thresholds, out, n, command)),
                   (augmentation, lambda: marking.compare_augmentation(run, augmentation, out, n, command)),
                   (methods, lambda: marking.compare_methods(preset.model, out, n, command)),
                   (choices, lambda: marking.compare_choices(pipeline, out, n, command))]
    asked = [compare for given, compare in comparisons if given]
    for compare in asked:
        print(path := compare())
        print_comparison(json.loads(path.read_text(encoding="utf8")))
    if not asked:
        metrics = marking.report(preset, pipeline, out, n, command)
        print_table([("metric", "value"), *((k, str(v)) for k, v in metrics.items())])


def convert(preset: Annotated[Word, tyro.conf.arg(metavar="PRESET")], file: tyro.conf.Positional[Path], out: Path | None = None,
            table: Path | None = None, vocabulary: Path | None = None) -> None:
    """Make a run of a published checkpoint of GLIDE or VQ-Diffusion, to sample from or to train on.

    Args:
        preset: its configuration, such as glide-base or vq-coco
        file: the checkpoint, .pt or .pth
        out: the run's folder; runs/PRESET if not given
        table: of VQ-Diffusion, the published list of used codes, such as taming_vqvae_2887.pt
        vocabulary: of GLIDE, the published file of merges, such as vocab.bpe.gz
    """
    from ..pretrained.convert import convert as convert_published
    out = out or Path("runs") / preset
    convert_published(preset, file, out, table=table, vocabulary=vocabulary)
    print(f"{out}: a run with the weights of {file}.  {_try(PRESETS[preset], out)}  Train on from it: --start {out}, into another folder")


def codes(run: Annotated[Word, tyro.conf.arg(metavar="RUN")], data: str | None = None, root: str | None = None, n: int = 10_000) -> None:
    """Count which of its codes a codec really takes, so that a model can draw the most used alone; writes used_codes.json.

    Args:
        run: a codec's run folder, or the name of one that ships with the project
        data: data set to count on; the one it was trained on if not given
        root: folder it lies in
        n: pictures to count on, at most
    """
    from ..runs.codebook_usage import count_used
    path, counts = count_used(run, n, data=data, root=root)
    shares, taken = counts.sort(descending=True).values.double().cumsum(0) / counts.sum(), int(counts.count_nonzero())
    print_table([("share of all cells", "codes"), *((f"{share:.1%}", f"{int((shares < share).sum()) + 1:,}") for share in (0.9, 0.99, 0.999, 1.0))])
    print(f"{path}: {taken:,} of {len(counts):,} codes taken.  Draw these or fewer: t2ilab train PRESET --codec {run} --codes {taken}")


DATA_NAMES = f"{names_of_datasets()}; after fetch, a .tsv, .csv or .parquet with captions and addresses"


def data(action: Annotated[Word, tyro.conf.arg(metavar="inspect|fetch")],
         name: Annotated[Word, tyro.conf.arg(metavar="NAME|LIST", help=DATA_NAMES)],
         root: tyro.conf.Positional[Path | None] = None, *, out: Path | None = None, note: str = "", download: bool = False,
         limit: int | None = None, retry_dead: bool = False, fetching: Fetching = Fetching()) -> None:
    """Look at a data set before training on it, or fetch the pictures that a list of captions and addresses names.

    Args:
        action: inspect for counts, sizes, colours, bad files, a contact sheet; fetch for a folder of captioned pictures
        root: folder it lies in
        out: folder for the report, runs/data/NAME if not given; after fetch, folder for the pictures, data/LIST if not given
        note: a paragraph to add to the report
        download: fetch the data set if it is not there
        limit: fetch only the first so many rows
        retry_dead: fetch what was dead the last time, too
    """
    from ..evaluation.data_report import facts, inspect
    if action == "fetch":
        out = out or Path("data") / Path(name).stem
        print(fetch_list(name, out, fetching, limit=limit, retry_dead=retry_dead), f"Look at it: t2ilab data inspect sbu {out}", sep="\n")
        return
    if action != "inspect":
        raise ValueError(f"data {action}: choose inspect or fetch, as in `t2ilab data inspect {name}`")
    out = out or Path("runs/data") / name
    stats = inspect(name, root, out, note=note, download=download)
    print_table([("fact", "value"), *facts(stats).items()])
    print(f"\nReport with figures: {out / 'README.md'}")


def presets(as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """List every named run: parameters, resolution, the number it should reach, and the hardware it wants.

    Args:
        as_json: print JSON instead of a table
    """
    from ..runs.export import describe_presets
    rows = describe_presets()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print_table([tuple(rows[0]), *(tuple(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()) for row in rows)])


COMMANDS = {"demo": demo, "train": train, "pretrain": pretrain, "resume": resume, "sample": sample, "evaluate": evaluate, "codes": codes, "data": data,
            "convert": convert, "presets": presets}


def _parse(args: list[str] | None):
    """The command that was asked for, ready to be called.  ValueError where an option's value makes no sense; tyro would put a box around it."""
    box = io.StringIO()
    try:
        with redirect_stderr(box):
            return tyro.extras.subcommand_cli_from_dict({name: _later(command) for name, command in COMMANDS.items()}, prog="t2ilab", args=args,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.CascadeSubcommandArgs))
    except SystemExit as stop:
        error = getattr(stop.__context__, "__context__", None)
        if isinstance(error, ValueError) and any(frame.name == "__post_init__" for frame in extract_tb(error.__traceback__)):
            raise error from None
        sys.stderr.write(box.getvalue())
        raise


def _later(command):
    return wraps(command)(lambda *given, **named: partial(command, *given, **named))


def main(args: list[str] | None = None) -> int:
    """Run a command; the exit status: 0, or 1 after a mistake in one line."""
    try:
        _parse(args)()
    except BrokenPipeError:      # the reader of our output left, as in `t2ilab presets | head -1`
        sys.stderr.close()
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"t2ilab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:                   # a run that was saved says so
        print(f"t2ilab: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    return 0

