"""`t2ilab train`, `resume` and `pretrain`."""
import io
import logging
import os
import shlex
import shutil
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Annotated, Union

import tyro

from ..families.span_corruption import SpanCorruptionConfig, check_encoder, save_encoder
from ..hub import is_shipped, locate
from ..presets import PRESETS, DataConfig, Preset
from ..presets.span_corruption import T5_SHAPES
from ..training.checkpoint import load_weights
from ..training.fit import FitConfig


def _subcommand(name: str, preset: Preset):
    purpose = f"{preset.expected} ({preset.hardware})"
    about = tyro.conf.subcommand(name, default=preset, prefix_name=False, description=purpose)
    return Annotated[Preset[type(preset.model)], about]


def one_of(presets: dict[str, Preset]):
    """The type of an argument that is one of these presets, with every field an option."""
    return Union[tuple(_subcommand(name, preset) for name, preset in presets.items())]  # noqa: UP007


AnyPreset = one_of(PRESETS)
Word = tyro.conf.Positional[str]


def train(preset: AnyPreset, out: Path | None = None, cascade: bool = True, interleave: bool = False) -> None:
    """Train a preset; run it again to go on where it stopped.

    Args:
        out: the run's folder; runs/PRESET if not given
        cascade: train the stages that upsample its images too; --steps and the like are theirs too
        interleave: train all stages side by side, a step of each in turn; their weights are the same
    """
    train_all(preset, out or Path("runs") / preset.name, cascade, interleave)


def resume(run: Annotated[Word, tyro.conf.arg(metavar="RUN")], steps: int | None = None,
           cascade: bool = True) -> None:
    """Go on with a run where its newest checkpoint stopped.

    Args:
        run: the run's folder
        steps: a new number of steps to reach, for each stage
        cascade: train the stages that upsample its images too
    """
    from ..runs.folder import read_preset
    here = [Path(run), Path("runs") / run] if is_shipped(run) else [locate(run)]
    folder = next((folder for folder in here if (folder / "config.json").is_file()), None)
    if folder is None:
        hint = f"; train one: t2ilab train {run}" if run in PRESETS else ""
        raise FileNotFoundError(f"{run}: no run there (no config.json){hint}")
    preset = read_preset(folder)
    fit = preset.fit if steps is None else replace(preset.fit, steps=steps)
    train_all(replace(preset, fit=fit), folder, cascade)


def pretrain(out: Path = Path("runs/t5-shapes"), texts: Path | None = None,
             text: SpanCorruptionConfig = T5_SHAPES.model, fit: FitConfig = T5_SHAPES.fit) -> None:
    """Train a small language model on text alone, by filling gaps: a text encoder for Imagen.

    Use it: --encoder OUT --encoder-width WIDTH.  Killed, the same command goes on from the last minute.

    Args:
        out: folder for the encoder and its tokenizer, as transformers reads them
        texts: a file with one text per line; endless descriptions of the scenes if not given
    """
    from ..runs.folder import find
    from ..runs.train import train as train_run
    check_encoder(out)
    data = DataConfig("texts", root=str(texts)) if texts else T5_SHAPES.data
    preset = replace(T5_SHAPES, model=text, data=data, fit=fit)
    unfinished = out.with_name(f".{out.name}.unfinished")
    for _ in with_bar(train_run(preset, unfinished), fit.steps, out):
        pass
    if not is_first_process():
        return
    run = find(unfinished)
    model = run.preset.model.build()
    load_weights(model, run.path / "model.safetensors")
    save_encoder(model, run.preset.model.tokenizer, out)
    shutil.rmtree(unfinished)
    use = f"--encoder {shlex.quote(str(out))} --encoder-width {text.width}"
    print(f"{out}: an encoder of {text.width} numbers a token.  Use it: t2ilab train imagen-shapes {use}")


def train_all(preset: Preset, out: Path, whole: bool = True, interleave: bool = False) -> None:
    """Train a preset, and with `whole` the stages after it, under progress bars; the plan is said first."""
    from ..runs.cascade import cascade, plan
    with nullcontext() if is_first_process() else _silence(), ExitStack() as begun:
        parts = cascade(preset, out)[:None if whole else 1]
        if len(parts) > 1:
            print(plan(parts), flush=True)
        # stopped in one stage, the others save their last step, too
        stages = [begun.enter_context(closing(_steps(part, folder))) for part, folder in parts]
        in_order = zip_longest(*stages) if interleave else chain(*stages)
        for _ in in_order:
            pass


def is_first_process() -> bool:
    """Whether this is the first of the processes that train together, the one that speaks."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _silence() -> Iterator[None]:
    """Print and warn of nothing: the first process does."""
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _steps(preset, out: Path) -> Generator:
    from ..runs.train import train as train_run
    yield from with_bar(train_run(preset, out), preset.fit.steps, out)
    print(f"{out}: {preset.fit.steps} steps done.  {try_it(preset, out)}")


def try_it(preset: Preset, out: Path) -> str:
    """The command that samples from a run, as a shell takes it."""
    image = " --low-res-image photo.png" if preset.model.needs_image else ""
    return f"Sample from it: t2ilab sample {shlex.quote(str(out))}{image}"


def with_bar(steps: Iterator, total: int, out: Path) -> Iterator:
    """The (Log, model) of every step of a training run, under a progress bar."""
    from tqdm import tqdm
    quiet = not is_first_process()
    with tqdm(total=total, desc=str(out), unit="step", mininterval=0.5, disable=quiet) as bar:
        for log, model in steps:
            bar.update(log.step - bar.n)
            bar.set_postfix(loss=f"{log.loss:.4f}", refresh=False)
            yield log, model
