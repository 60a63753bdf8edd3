"""A run is a folder: its config, its log, its checkpoints, its samples. This file starts one, resumes one, and turns one back into a pipeline.

`load` also finds the runs that ship with the project, in results/.
"""
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields, replace
from itertools import chain, count
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import __version__
from .configs import from_dict
from .data.images import open_data
from .data.loaders import Part, stream
from .families import FAMILIES
from .pipeline import TextToImage
from .presets import PRESETS, DataConfig, Preset
from .shipped import shipped
from .tensors import generator
from .train.checkpoint import Checkpoints, find_weights, load_weights, newest, read_tensors, write_text, writing
from .train.fit import Log, TrainState, fit
from .viz import show_grid


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


def load(name: str | Path, *, cascade: bool = True, **sampling) -> TextToImage:
    """The pipeline of a run, ready to sample: `load("ddpm-shapes")`, `load("runs/mine")`, `load("runs/mine", sampling_steps=10)`.

    cascade: with the stages that enlarge its pictures, as far as they are trained.  sampling: sampler, sampling_steps, guidance_scale and other
    fields of its family override the first stage's own; ValueError for one it has not.  Lesson: notebooks/03_ddpm.ipynb"""
    pipeline = _load_stage(find_run(name), sampling)
    for later in later_runs(name) if cascade else ():
        stage = _load_stage(find_run(later), {})
        if stage.encode_text != pipeline.encode_text:
            raise ValueError(f"{later} reads captions with another vocabulary than {name}: train it again, or take it away")
        pipeline = replace(pipeline, stages=(*pipeline.stages, *stage.stages))
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def _load_stage(folder: Path, sampling: dict) -> TextToImage:
    model = read_preset(folder).model
    if unknown := sampling.keys() - {field.name for field in fields(model)}:
        raise ValueError(f"{folder}: a run of this family has no {' and no '.join(sorted(unknown))} to choose")
    if sampling.get("sampler", "purity") != "purity" and getattr(model, "prior_weight", 0):
        sampling = {"prior_weight": 0.0} | sampling                       # the run's own weight is for its own sampler
    pipeline = replace(model, **sampling).build()
    load_weights(pipeline.model, folder / "model.safetensors")
    pipeline.model.eval().requires_grad_(False)
    return pipeline


def later_runs(name: str | Path) -> list[str | Path]:
    """The runs of a cascade after its first, as far as they are there: folders in the run's folder or beside it, or shipped as it is."""
    root = Path(name).parent.parent if Path(name).parent.name == "checkpoints" else Path(name)
    if (root / "config.json").is_file():
        places = [[root / later, root.resolve().parent / later] for later in read_preset(root).then]
        return [found[0] for found in (list(filter(_is_trained, both)) for both in places) if found]
    return [later for later in read_preset(find_run(name)).then if later in shipped()]


def _is_trained(folder: Path) -> bool:
    return (folder / "model.safetensors").is_file() or newest(folder / "checkpoints") is not None


def first_runs() -> list[str]:
    """The shipped runs that draw from nothing but a caption or a label; those that enlarge their pictures come with them."""
    runs = [name for name, files in shipped().items() if "config.json" in files and "tokenizer.json" not in files]     # the others read or look
    drawing = {name: preset for name in runs if (preset := read_preset(find_run(name))).family != "vq_codec"}
    later = {name for preset in drawing.values() for name in preset.then}
    return [name for name in drawing if name not in later]


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
    return replace(later, data=first.data, save=first.save, model=later.model.after(model))


def data_of(config: DataConfig, size: int):
    """(the data set a run trains on, what is held back of it or None)."""
    dataset = open_data(config.data, config.root, size=size, split=config.split, crop=config.crop, flip=config.flip, limit=config.limit,
                        download=config.download)
    if not config.validation:
        return dataset, None
    every = round(1 / config.validation)
    return Part(dataset, every), Part(dataset, every, held=True)


def train(preset: Preset, out: Path) -> Iterator[tuple[Log, torch.nn.Module]]:
    """Train a preset into a run folder, going on from its newest checkpoint if it has one.  Yields (Log, averaged model) every step.

    Writes config.json, log.jsonl, TensorBoard events, checkpoints/ and samples/.  FileExistsError if the folder holds another run."""
    out = Path(out)
    if (out / "model.safetensors").is_file() and newest(out / "checkpoints") is None:
        raise FileExistsError(f"{out} holds weights and nothing to go on from: begin with them in another folder: --start {out} --out ANOTHER")
    dataset, held = data_of(preset.data, preset.model.size)
    preset = replace(preset, model=_as_it_starts(preset, out).for_data(dataset))
    torch.manual_seed(preset.fit.seed)
    pipeline = preset.model.build()
    state = TrainState(pipeline.model, preset.fit)
    checkpoints = Checkpoints(out / "checkpoints", _write_config(preset, out, state), every_steps=preset.save.checkpoint_steps,
                              every_seconds=preset.save.checkpoint_seconds, keep=preset.save.keep)
    checkpoints.restore(state)
    if preset.start and state.step == 0:
        _begin_with(state, preset)
    with _Logger(out, state) as logger:
        for log, ema in fit(state.model, _batches(preset, dataset, state), preset.fit, state=state):
            if state.accelerator.is_main_process:
                logger.write(log, _report(ema) | _validation(preset, held, log.step, ema))
                if checkpoints.due(state):
                    checkpoints.save(state)
                if _sampling_due(preset, log.step):
                    _draw_samples(pipeline.with_model(ema), preset, dataset, out / "samples" / f"step-{log.step:08d}.png")
            yield log, ema


def _as_it_starts(preset: Preset, out: Path):
    """The preset's model, with what only the run that it starts from can say, such as its vocabulary: the weights know no other."""
    if not preset.start or not hasattr(preset.model, "starting_from"):
        return preset.model
    begun = (out / "config.json").is_file()                     # a run that goes on knows it, and the first one may be gone
    first = read_preset(out if begun else find_run(preset.start)).model
    return preset.model.starting_from(first) if type(first) is type(preset.model) else preset.model


def _begin_with(state: TrainState, preset: Preset) -> None:
    """Take the weights of another run, which stays as it is; a "no caption" that it never learned begins here, or a "no label", last in its tables."""
    folder = find_run(preset.start)
    first, model = read_preset(folder).model, preset.model
    longer = model.longer_than(first) if type(first) is type(model) and hasattr(model, "longer_than") else None
    for part in (state.model, state.ema):
        load_weights(part, folder / "model.safetensors", new=("net.no_caption",), longer=longer)


def _report(model: torch.nn.Module) -> dict[str, float]:
    """What a model says of itself after each step, such as how many codes of a codebook are in use."""
    return model.report() if hasattr(model, "report") else {}


@torch.no_grad()
def _validation(preset: Preset, held, step: int, ema: torch.nn.Module) -> dict[str, float]:
    """{"validation": loss} of the averaged model on up to 128 examples that it never saw, with the same noise every time; {} when it is not due."""
    if held is None or step % preset.save.validate_steps and step != preset.fit.steps:
        return {}
    seed = preset.fit.seed
    x0, cond = preset.model.example(next(stream(held, batch_size=min(128, len(held)), seed=seed)), generator(seed, 0, 0, 4))
    device = next(ema.parameters()).device
    return {"validation": ema.loss(x0.to(device), cond.map(lambda v: v.to(device)), generator(seed, 0, 0, 5)).mean().item()}


def _sampling_due(preset: Preset, step: int) -> bool:
    every = preset.save.sample_steps
    return every > 0 and (step % every == 0 or step == preset.fit.steps)


def _draw_samples(pipeline: TextToImage, preset: Preset, dataset, path: Path) -> None:
    """16 samples as they are now, for captions of the data set if the model reads any: the same ones every time."""
    captions, options = preset.model.probe(next(stream(dataset, batch_size=16, seed=preset.fit.seed)))
    show_grid(pipeline(captions, **options), None if isinstance(captions, int) else captions, path=path)


def _batches(preset: Preset, dataset, state: TrainState):
    shards = [stream(dataset, batch_size=preset.fit.batch_size, seed=preset.fit.seed, start=state.step, shard=shard, shards=state.total_shards,
                     workers=preset.data.workers) for shard in state.shards]
    seed = preset.fit.seed
    draws = (generator(seed, step, shard, 2) for step in count(state.step + 1) for shard in state.shards)       # other numbers than the noise's
    return map(preset.model.example, chain.from_iterable(zip(*shards)), draws)


def _write_config(preset: Preset, out: Path, state: TrainState) -> dict:
    """Write config.json, or check that the one there is of the same run."""
    command = shlex.join(["t2ilab", *sys.argv[1:]]) if Path(sys.argv[0]).stem in ("t2ilab", "cli") else ""
    config = asdict(preset) | {"t2ilab": __version__, "torch": torch.__version__, "command": command}
    if (out / "config.json").exists():
        begun = read_preset(out)
        if getattr(begun.model, "codec_weights", None) == "":           # begun before models knew the weights of their codec
            begun = replace(begun, model=replace(begun.model, codec_weights=preset.model.codec_weights))
        old, new = _identity(begun), _identity(preset)
        if changed := [k for k in new if old[k] != new[k]]:
            raise FileExistsError(f"{out} holds a run with another {' and '.join(changed)}: choose another --out, or go on: t2ilab resume {out}")
    if state.accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "config.json", json.dumps(config, indent=1) + "\n")
    return config


def _identity(preset: Preset) -> dict:
    """What may not change when a run goes on; where its data lies may."""
    return {"model": preset.model, "data": replace(preset.data, root=None, download=False, workers=0), "seed": preset.fit.seed, "start": preset.start}


class _Logger:
    """log.jsonl and TensorBoard; a resumed run drops the lines after its checkpoint."""

    def __init__(self, out: Path, state: TrainState):
        self.path, self.step, self.main = out / "log.jsonl", state.step, state.accelerator.is_main_process

    def __enter__(self):
        if self.main:
            from torch.utils.tensorboard import SummaryWriter
            lines = self.path.read_text(encoding="utf8").splitlines() if self.path.exists() else []
            write_text(self.path, "".join(f"{line}\n" for line in lines[:self.step]))
            self.file, self.board = open(self.path, "a", encoding="utf8"), SummaryWriter(self.path.parent / "tensorboard", purge_step=self.step + 1)
        return self

    def write(self, log: Log, more: dict[str, float]) -> None:
        row = log._asdict() | more
        with writing(self.path.parent):
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()
            for name in ("loss", "grad_norm", "lr", *more):
                self.board.add_scalar(name, row[name], log.step)

    def __exit__(self, error, *_):
        if self.main:
            with suppress(OSError) if error else writing(self.path.parent):      # on a full disk the first error says more
                self.file.close()
                self.board.close()


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
            parameters = list(preset.model.build().model.parameters())
        rows.append({"preset": name, "trainable": sum(p.numel() for p in parameters if p.requires_grad),
                     "frozen": sum(p.numel() for p in parameters if not p.requires_grad), "pixels": preset.model.size,
                     "expected": preset.expected, "hardware": preset.hardware})
    return rows
