"""The one training driver of all families: start a run, or go on with it, checkpoint by checkpoint."""
import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path

import torch

from .. import __version__
from ..data.caption_check import check_captions
from ..data.datasets import is_drawn
from ..data.loaders import HoldoutSplit
from ..evaluation.caption_metrics import SEED
from ..pipeline.walk import Pipeline
from ..presets import Preset, named
from ..tensors import generator
from ..training.checkpoint import Checkpoints, load_weights, newest, write_text
from ..training.fit import Log, TrainState, fit
from ..training.stop import Uninterrupted
from ..viz.notebook import show_grid
from .folder import find_run, read_preset
from .lock import alone
from .log import Logger, command_line


def data_of(preset: Preset):
    """(training set, validation set or None)."""
    dataset = preset.model.open_data(preset.data)
    if not preset.data.validation:
        return dataset, None
    every = round(1 / preset.data.validation)
    return HoldoutSplit(dataset, every), HoldoutSplit(dataset, every, held=True)


def train(preset: Preset | str, out: Path | None = None) -> Iterator[tuple[Log, torch.nn.Module]]:
    """Train a preset into a run folder, going on from its newest checkpoint if it has one.

    Yields (Log, averaged model) every step.  preset: or its name.  out: runs/PRESET if not given.
    Writes config.json, log.jsonl, TensorBoard events, checkpoints/ and samples/.
    FileExistsError if the folder holds another run, BlockingIOError if another process is at work in it.
    A signal to stop waits for the end of the step, saves it, and is a KeyboardInterrupt; closing the
    generator saves its last step, too."""
    preset = named(preset) if isinstance(preset, str) else preset
    out = Path(out or Path("runs") / preset.name)
    _check_start(preset, out)
    dataset, held = data_of(preset)
    if preset.model.reads == "text":
        check_captions(dataset)
    preset = replace(preset, model=_as_it_starts(preset, out).fit_to_dataset(dataset))
    preset.model.check_parts()                               # before billions are built for nothing
    torch.manual_seed(preset.fit.seed)
    state = TrainState(preset.model.build(), preset.fit)
    save = preset.save
    pipeline = preset.model.pipeline(state.ema) if save.sample_steps else None
    with alone(out) if state.accelerator.is_main_process else nullcontext():
        config = _write_config(preset, out, state)
        checkpoints = Checkpoints(out / "checkpoints", config, every_steps=save.checkpoint_steps,
                                  every_seconds=save.checkpoint_seconds, keep=save.keep)
        checkpoints.restore(state)
        if preset.init_from and state.step == 0:
            _begin_with(state, preset)
        steps = fit(state.model, _batches(preset, dataset, state), preset.fit, state=state)
        with Logger(out, state) as logger:
            while state.step < preset.fit.steps:
                with Uninterrupted() as stop:
                    log, ema = next(steps)
                    if state.accelerator.is_main_process:
                        logger.write(log, _report(ema) | _validation(preset, held, log.step, ema))
                        if checkpoints.due(state):
                            checkpoints.save(state)
                        if _due(save.sample_steps, log.step, preset) and not stop.asked:
                            path = out / "samples" / f"step-{log.step:08d}.png"
                            _draw_samples(pipeline, preset, dataset, path)
                if stop.asked:
                    _save_last(checkpoints, state)
                    raise KeyboardInterrupt(f"stopped after step {state.step}, which is saved; "
                                            "the same command goes on from there")
                try:
                    yield log, ema
                except GeneratorExit:
                    _save_last(checkpoints, state)
                    raise


def _check_start(preset: Preset, out: Path) -> None:
    """FileExistsError for exported weights without a checkpoint; ValueError for the seed of evaluation."""
    if (out / "model.safetensors").is_file() and newest(out / "checkpoints") is None:
        raise FileExistsError(f"{out} holds weights and nothing to go on from: "
                              f"begin with them in another folder: --init-from {out} --out ANOTHER")
    if is_drawn(preset.data.data) and preset.fit.seed == SEED:
        raise ValueError(f"seed={SEED} would train on the very scenes that evaluation draws: choose another")


def _save_last(checkpoints: Checkpoints, state: TrainState) -> None:
    """Save the step that was just finished, unless it is."""
    if state.accelerator.is_main_process and checkpoints.step != state.step:
        checkpoints.save(state)


def _as_it_starts(preset: Preset, out: Path):
    """The preset's model, with what only the run that it starts from can say, such as its vocabulary."""
    model = preset.model
    if not preset.init_from:
        return model
    # a run that goes on knows it, and the first one may be gone
    begun = (out / "config.json").is_file()
    first = read_preset(out if begun else find_run(preset.init_from)).model
    return model.adapt_to_checkpoint(first) if type(first) is type(model) else model


def _begin_with(state: TrainState, preset: Preset) -> None:
    """Take the weights of another run, which stays as it is.

    Parameters of the null condition that the checkpoint lacks keep their fresh initialisation."""
    folder = find_run(preset.init_from)
    first, model = read_preset(folder).model, preset.model
    extend = partial(model.extend, first=first) if type(first) is type(model) else None
    for part in (state.model, state.ema):
        load_weights(part, folder / "model.safetensors", new=model.new_parameters, extend=extend)


def _report(model: torch.nn.Module) -> dict[str, float]:
    """What a model reports of itself after each step, such as how many codes of a codebook are in use."""
    return model.report() if hasattr(model, "report") else {}


@torch.no_grad()
def _validation(preset: Preset, held, step: int, ema: torch.nn.Module) -> dict[str, float]:
    """{"validation": loss} of the averaged model on up to 128 held-out examples; {} when it is not due.

    The noise is the same every time."""
    if held is None or not _due(preset.save.validate_steps, step, preset):
        return {}
    seed = preset.fit.seed
    batch = next(preset.model.stream(held, batch_size=min(128, len(held)), seed=seed))
    x0, cond = preset.model.to_training_pair(batch, generator(seed, 0, 0, 4))
    device = next(ema.parameters()).device
    x0, cond = x0.to(device), cond.map(lambda v: v.to(device))
    return {"validation": ema.loss(x0, cond, generator(seed, 0, 0, 5)).mean().item()}


def _due(every: int, step: int, preset: Preset) -> bool:
    """Is this step one of every so many, or the last?  Never if every is 0."""
    return every > 0 and (step % every == 0 or step == preset.fit.steps)


def _draw_samples(pipeline: Pipeline, preset: Preset, dataset, path: Path) -> None:
    """16 samples as they are now, for captions of the data set if the model reads any: always the same."""
    batch = next(preset.model.stream(dataset, batch_size=16, seed=preset.fit.seed))
    captions, options = preset.model.preview_inputs(batch)
    below = None if isinstance(captions, int) else captions
    show_grid(pipeline(captions, **options), below, path=path)


def _batches(preset: Preset, dataset, state: TrainState):
    fit, seed, stream = preset.fit, preset.fit.seed, preset.model.stream
    shards = [stream(dataset, batch_size=fit.batch_size, seed=seed, start=state.step, shard=shard,
                     shards=state.total_shards, workers=preset.data.workers) for shard in state.shards]
    # other numbers than the noise's
    draws = (generator(seed, step, shard, 2) for step in count(state.step + 1) for shard in state.shards)
    return map(preset.model.to_training_pair, chain.from_iterable(zip(*shards)), draws)


def _write_config(preset: Preset, out: Path, state: TrainState) -> dict:
    """Write config.json, or check that the one there is of the same run."""
    versions = {"t2ilab": __version__, "torch": torch.__version__}
    config = preset.to_dict() | versions | {"command": command_line()}
    if (out / "config.json").exists():
        begun = read_preset(out)
        # a config of models that did not know the weights of their codec
        if getattr(begun.model, "codec_weights", None) == "":
            known = replace(begun.model, codec_weights=preset.model.codec_weights)
            begun = replace(begun, model=known)
        old, new = _identity(begun), _identity(preset)
        changed = [name for name in new if old[name] != new[name]]
        if changed:
            said = (f"{name} ({old[name]}, not {new[name]})" if name in ("seed", "optimizer") else name
                    for name in changed)
            raise FileExistsError(f"{out} holds a run with another {' and '.join(said)}: "
                                  f"choose another --out, or go on: t2ilab resume {out}")
        _check_steps(preset, begun, out)
    if state.accelerator.is_main_process:
        write_text(out / "config.json", json.dumps(config, indent=1) + "\n")
    return config


def _check_steps(preset: Preset, begun: Preset, out: Path) -> None:
    """ValueError if more steps are done than the preset asks for."""
    last = newest(out / "checkpoints") if preset.fit.steps < begun.fit.steps else None
    done = int(last.name.removeprefix("step-")) if last else 0
    if preset.fit.steps < done:
        raise ValueError(f"{out}: {done} steps are done, more than the {preset.fit.steps} asked for: "
                         f"choose --steps {done} or more")


def _identity(preset: Preset) -> dict:
    """What may not change when a run goes on; where its data lies may."""
    data = replace(preset.data, root=None, download=False, workers=0)
    return {"model": preset.model, "data": data, "seed": preset.fit.seed, "optimizer": preset.fit.optimizer,
            "start": preset.init_from}
