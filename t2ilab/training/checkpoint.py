"""Checkpoints: folders that are either whole or not there, with a checksum of every file.

safetensors and JSON only, never a pickle. `model.safetensors` holds the averaged weights you sample
from, `train.safetensors` and `state.json` the rest of what resuming needs, `config.json` how to
rebuild the model, `sha256.json` the checksum of every other file.
"""
import json
import os
import shutil
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..hub import file_digest as _digest
from ..hub import locate
from .fit import TrainState

CHECKSUMS = "sha256.json"


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights and buffers as one safetensors file."""
    save_tensors({k: v.contiguous() for k, v in model.state_dict().items()}, path)


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file to disk for certain, with the rights that any new file has here."""
    # One weight can have two names; safetensors refuses shared memory, so later names get a copy.
    first = {v.data_ptr(): name for name, v in reversed(tensors.items())}
    own = {name: v if first[v.data_ptr()] == name else v.clone() for name, v in tensors.items()}
    save_file(own, path, metadata)
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)                               # safetensors keeps it to its owner
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def load_weights(model: nn.Module, path: Path, *, new: tuple[str, ...] = (), extend=None) -> None:
    """Fill a model from a safetensors file; every name and shape must match.

    ValueError in one line if they do not or if it is no such file.
    new: names that the file may lack; they stay as they are.
    extend: (tensors, own=the model's) -> tensors of the shapes that the model has."""
    tensors, own = read_tensors(path), model.state_dict()
    if extend:
        tensors = extend(tensors, own=own)
    tensors = {name: own[name] for name in new if name in own} | dict(tensors)
    if wrong := _misfits(tensors, own):
        more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
        raise ValueError(f"{path} does not fit this model: {wrong[0]}{more}")
    model.load_state_dict(tensors, strict=True)


def _misfits(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> list[str]:
    """Names and shapes that are not those of a model's own tensors, in words."""
    wrong = []
    for name, wanted in own.items():
        found = list(tensors[name].shape) if name in tensors else "missing"
        if found != list(wanted.shape):
            wrong.append(f"{name} {found}, model wants {list(wanted.shape)}")
    return wrong + [f"{name} not in the model" for name in tensors if name not in own]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.  A pickle is refused, never opened."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); "
                         "pickles are never loaded") from error


@contextmanager
def writing(path: Path):
    """Names the file or folder if writing to it fails, which a full disk's own error does not."""
    try:
        yield
    except OSError as error:
        raise OSError(f"could not write {path} ({error})") from error


def write_text(path: Path, text: str) -> None:
    """Write a small text file in one atomic step.

    After a kill it holds the old text or the new one."""
    tmp = path.with_name(f".{path.name}.tmp")
    with writing(path), open(tmp, "w", encoding="utf8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(tmp, path)


def verify(folder: Path) -> None:
    """Check that every file of a checkpoint has the SHA-256 saved with it.

    ValueError naming the first file that has not."""
    try:
        saved = json.loads((folder / CHECKSUMS).read_text(encoding="utf8"))
        damaged = [name for name, digest in saved.items() if _digest(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder} is not a whole checkpoint ({error})") from error
    if damaged:
        raise ValueError(f"{folder / damaged[0]} is damaged: "
                         "its checksum is not the one saved with it")


def newest(folder: Path) -> Path | None:
    """The newest undamaged checkpoint in a run's checkpoints folder, or None.

    A damaged one is passed over with a warning."""
    for path in sorted(Path(folder).glob("step-*"), reverse=True):
        try:
            verify(path)
            return path
        except ValueError as error:
            warnings.warn(f"passing over a checkpoint: {error}", stacklevel=2)
    return None


def find_weights(name: str | Path) -> Path:
    """The folder with config.json and weights that a name or path means.

    A run folder, a checkpoint folder, an exported folder, or a run that ships with the project.
    ValueError naming the file if a checkpoint is damaged; FileNotFoundError if there are none."""
    folder = locate(name)
    if checkpoint := newest(folder / "checkpoints"):
        return checkpoint
    if (folder / "train.safetensors").is_file():            # a checkpoint, whole or not
        verify(folder)
    if (folder / "model.safetensors").is_file():
        return folder
    damaged = any(folder.glob("checkpoints/step-*"))
    what = "every checkpoint there is damaged" if damaged else "no trained run there"
    raise FileNotFoundError(f"{name}: {what}")


class Checkpoints:
    """Saves a run every so many steps and seconds, keeps the last few, and restores the newest."""

    def __init__(self, folder: Path, config: dict, *, every_steps: int, every_seconds: float,
                 keep: int):
        self.folder, self.config = Path(folder), config
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.keep = keep
        self.last = time.monotonic()                        # when it saved
        self.step: int | None = None                        # after which step it saved

    def due(self, state: TrainState) -> bool:
        """Is it time to save?  Always after the last step."""
        by_step = bool(self.every_steps) and state.step % self.every_steps == 0
        by_time = time.monotonic() - self.last >= self.every_seconds
        return by_step or by_time or state.step == state.config.steps

    def save(self, state: TrainState) -> Path:
        """Write a checkpoint folder in one atomic step, then drop the oldest beyond `keep`.

        OSError in one line if the disk is full, FloatingPointError if a weight is not finite;
        earlier checkpoints are untouched."""
        if broken := _not_finite(state):
            raise FloatingPointError(f"step {state.step}: {broken} is not finite; "
                                     "training stopped, and this step is not saved")
        path = self.folder / f"step-{state.step:08d}"
        tmp = self.folder / f".tmp-{state.step:08d}-{os.getpid()}"
        try:
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir(parents=True)
            _write(state, self.config, tmp)
            # One can be left by an earlier run that was resumed from before this step.
            shutil.rmtree(path, ignore_errors=True)
            os.replace(tmp, path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(tmp, ignore_errors=True)
            raise OSError(f"could not save step {state.step} in {self.folder} ({error}); "
                          "earlier checkpoints are untouched") from error
        self.last, self.step = time.monotonic(), state.step
        self._prune(path)
        return path

    def _prune(self, newest: Path) -> None:
        """Drop the oldest beyond `keep`, later ones, and leftovers of a kill.

        Later ones were damaged, or the run would have gone on from there."""
        saved = sorted(path for path in self.folder.glob("step-*") if path <= newest)
        kept = saved[-self.keep:]
        for path in (*self.folder.glob("step-*"), *self.folder.glob(".tmp-*")):
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def restore(self, state: TrainState) -> None:
        """Put the newest undamaged checkpoint into the state; without one it stays at step 0.

        ValueError in one line if it is of another optimizer, or holds weights that are not
        finite."""
        path = newest(self.folder)
        if path is None:
            return
        load_weights(state.ema, path / "model.safetensors")
        tensors = read_tensors(path / "train.safetensors")
        saved = json.loads((path / "state.json").read_text(encoding="utf8"))
        weights = {name.removeprefix("model."): v for name, v in tensors.items()
                   if name.startswith("model.")}
        state.model.load_state_dict(weights, strict=True)
        if broken := _not_finite(state):
            raise ValueError(f"{path}: {broken} is not finite, nothing can be learned from there; "
                             "remove it to go on from an earlier one")
        slots = [_slots(tensors, f"optimizer.{k}.") for k in range(len(state.optimizers) + 1)]
        if slots.pop() or not all(map(_fits, state.optimizers, slots)):
            raise ValueError(f"{path} is of a run with another optimizer: "
                             "go on with that one, or begin in another folder")
        for optimizer, of_it in zip(state.optimizers, slots):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": of_it, "param_groups": groups})
        # A run begun in fp32 or bf16 saved no scale; a fresh scaler finds its own.
        if state.scaler.is_enabled() and saved["scaler"]:
            state.scaler.load_state_dict(saved["scaler"])
        state.step = saved["step"]


def _write(state: TrainState, config: dict, folder: Path) -> None:
    tensors = {f"model.{k}": v.contiguous() for k, v in state.model.state_dict().items()}
    for k, optimizer in enumerate(state.optimizers):
        for i, slots in optimizer.state_dict()["state"].items():
            for slot, v in slots.items():
                tensors[f"optimizer.{k}.{i}.{slot}"] = v.contiguous()
    save_tensors(tensors, folder / "train.safetensors")
    save_weights(state.ema, folder / "model.safetensors")
    _write_json(folder / "config.json", config)
    _write_json(folder / "state.json", {"step": state.step, "scaler": state.scaler.state_dict()})
    _write_json(folder / CHECKSUMS, {p.name: _digest(p) for p in sorted(folder.iterdir())})


def _write_json(path: Path, values: dict) -> None:
    write_text(path, json.dumps(values, indent=1) + "\n")


def _not_finite(state: TrainState) -> str | None:
    """The name of a weight with a NaN or an infinity in it, of the model or its average."""
    for model in (state.model, state.ema):
        for name, weight in model.named_parameters():
            if not weight.isfinite().all():
                return name
    return None


def _slots(tensors: dict[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    """What an optimiser keeps of each of its weights, by their numbers."""
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            i, slot = name.removeprefix(prefix).split(".")
            slots.setdefault(int(i), {})[slot] = value
    return slots


def _fits(optimizer: torch.optim.Optimizer, slots: dict[int, dict[str, Tensor]]) -> bool:
    """Are these slots of this optimiser's weights?

    Numbers beside them, such as a count of steps, have no shape."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    return all(i < len(weights) and v.shape in ((), weights[i].shape)
               for i, of_it in slots.items() for v in of_it.values())
