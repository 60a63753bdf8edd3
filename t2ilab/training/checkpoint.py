"""Checkpoints: a folder that is either whole or not there, and that knows if a byte of it changed.

safetensors and JSON only, never a pickle. `model.safetensors` holds the averaged weights you sample from,
`train.safetensors` and `state.json` the rest of what resuming needs, `config.json` how to rebuild the model,
`sha256.json` the checksum of every other file.
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
    _save({k: v.contiguous() for k, v in model.state_dict().items()}, path)


def load_weights(model: nn.Module, path: Path, *, new: tuple[str, ...] = (), extend=None) -> None:
    """Fill a model from a safetensors file; every name and shape must match.  ValueError in one line if they
    do not or if it is no such file.

    new: names that the file may lack; they stay as they are.  extend: (tensors, own=the model's) -> tensors
    of the shapes that the model has."""
    tensors, own = read_tensors(path), model.state_dict()
    tensors = {name: own[name] for name in new
               if name in own} | dict(extend(tensors, own=own) if extend else tensors)
    wrong = [f"{k} {list(tensors[k].shape) if k in tensors else 'missing'}, model wants {list(v.shape)}"
             for k, v in own.items()
             if k not in tensors
             or tensors[k].shape != v.shape] + [f"{k} not in the model" for k in tensors if k not in own]
    if wrong:
        raise ValueError(
            f"{path} does not fit this model: {wrong[0]}"
            + (f" (and {len(wrong) - 1} more)" if wrong[1:] else "")
        )
    model.load_state_dict(tensors, strict=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.  A pickle is refused, never opened."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); pickles are "
                         "never loaded") from error


@contextmanager
def writing(path: Path):
    """Names the file or folder if writing to it fails, which a full disk's own error does not."""
    try:
        yield
    except OSError as error:
        raise OSError(f"could not write {path} ({error})") from error


def write_text(path: Path, text: str) -> None:
    """Write a small text file in one atomic step: after a kill it holds the old text or the new one."""
    tmp = path.with_name(f".{path.name}.tmp")
    with writing(path), open(tmp, "w", encoding="utf8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(tmp, path)


def verify(folder: Path) -> None:
    """Check that every file of a checkpoint has the SHA-256 saved with it.  ValueError naming the first file
    that has not."""
    try:
        saved = json.loads((folder / CHECKSUMS).read_text(encoding="utf8"))
        damaged = [name for name, digest in saved.items() if _digest(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder} is not a whole checkpoint ({error})") from error
    if damaged:
        raise ValueError(f"{folder / damaged[0]} is damaged: its checksum is not the one saved with it")


def newest(folder: Path) -> Path | None:
    """The newest undamaged checkpoint in a run's checkpoints folder;
    a damaged one is passed over with a warning."""
    for path in sorted(Path(folder).glob("step-*"), reverse=True):
        try:
            verify(path)
            return path
        except ValueError as error:
            warnings.warn(f"passing over a checkpoint: {error}", stacklevel=2)
    return None


def find_weights(name: str | Path) -> Path:
    """The folder with a config.json and weights of a run folder, a checkpoint folder, an exported folder, or
    a run that ships with the project.

    ValueError naming the file if a checkpoint is damaged; FileNotFoundError if there are none."""
    folder = locate(name)
    if checkpoint := newest(folder / "checkpoints"):
        return checkpoint
    if (folder / "train.safetensors").is_file():            # a checkpoint, whole or not
        verify(folder)
    if (folder / "model.safetensors").is_file():
        return folder
    what = (
        "every checkpoint there is damaged"
        if any(folder.glob("checkpoints/step-*"))
        else "no trained run there"
    )
    raise FileNotFoundError(f"{name}: {what}")


class Checkpoints:
    """Saves a run every so many steps and seconds, keeps the last few, and restores the newest."""

    def __init__(self, folder: Path, config: dict, *, every_steps: int, every_seconds: float, keep: int):
        self.folder, self.config = Path(folder), config
        self.every_steps, self.every_seconds, self.keep = every_steps, every_seconds, keep
        self.last, self.step = time.monotonic(), None        # when it saved, and after which step

    def due(self, state: TrainState) -> bool:
        """Is it time to save?  Always after the last step."""
        by_step = self.every_steps and state.step % self.every_steps == 0
        return (
            bool(by_step)
            or time.monotonic() - self.last >= self.every_seconds
            or state.step == state.config.steps
        )

    def save(self, state: TrainState) -> Path:
        """Write a checkpoint folder in one atomic step, then drop the oldest beyond `keep`.

        OSError in one line if the disk is full, FloatingPointError if a weight is not finite;
        earlier checkpoints are untouched."""
        if broken := _not_finite(state):
            raise FloatingPointError(f"step {state.step}: {broken} is not finite; "
                                     "training stopped, and this step is not saved")
        path, tmp = (
            self.folder / f"step-{state.step:08d}",
            self.folder / f".tmp-{state.step:08d}-{os.getpid()}",
        )
        try:
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir(parents=True)
            _write(state, self.config, tmp)
            # left by an earlier run that was resumed from before this step
            shutil.rmtree(path, ignore_errors=True)
            os.replace(tmp, path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(tmp, ignore_errors=True)
            raise OSError(f"could not save step {state.step} in {self.folder} ({error}); earlier checkpoints "
                          "are untouched") from error
        self.last, self.step = time.monotonic(), state.step
        self._prune(path)
        return path

    def _prune(self, newest: Path) -> None:
        """Drop the oldest beyond `keep`, later ones (they were damaged, or the run would have gone on from
        there), and leftovers of a kill."""
        kept = sorted(path for path in self.folder.glob("step-*") if path <= newest)[-self.keep:]
        for path in (*self.folder.glob("step-*"), *self.folder.glob(".tmp-*")):
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def restore(self, state: TrainState) -> None:
        """Put the newest undamaged checkpoint into the state; leaves it at step 0 where there is none.

        ValueError in one line if it is of another optimizer, or holds weights that are not finite."""
        path = newest(self.folder)
        if path is None:
            return
        load_weights(state.ema, path / "model.safetensors")
        tensors, saved = (
            read_tensors(path / "train.safetensors"),
            json.loads((path / "state.json").read_text(encoding="utf8")),
        )
        state.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items()
                                     if k.startswith("model.")}, strict=True)
        if broken := _not_finite(state):
            raise ValueError(f"{path}: {broken} is not finite, nothing can be learned from there; "
                             "remove it to go on from an earlier one")
        slots = [_slots(tensors, f"optimizer.{k}.") for k in range(len(state.optimizers) + 1)]
        if slots.pop() or not all(map(_fits, state.optimizers, slots)):
            raise ValueError(f"{path} is of a run with another optimizer: "
                             "go on with that one, or begin in another folder")
        for optimizer, of_it in zip(state.optimizers, slots):
            optimizer.load_state_dict({"state": of_it,
                                       "param_groups": optimizer.state_dict()["param_groups"]})
        # none if begun in fp32 or bf16: a fresh one finds its scale
        if state.scaler.is_enabled() and saved["scaler"]:
            state.scaler.load_state_dict(saved["scaler"])
        state.step = saved["step"]


def _write(state: TrainState, config: dict, folder: Path) -> None:
    tensors = {f"model.{k}": v.contiguous() for k, v in state.model.state_dict().items()}
    for k, optimizer in enumerate(state.optimizers):
        for i, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{k}.{i}.{slot}": v.contiguous() for slot, v in slots.items()}
    _save(tensors, folder / "train.safetensors")
    save_weights(state.ema, folder / "model.safetensors")
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(folder / "state.json", json.dumps({"step": state.step, "scaler": state.scaler.state_dict()},
                                                 indent=1) + "\n")
    write_text(folder / CHECKSUMS, json.dumps({p.name: _digest(p) for p in sorted(folder.iterdir())},
                                              indent=1) + "\n")


def _not_finite(state: TrainState) -> str | None:
    """The name of a weight with a NaN or an infinity in it, of the model or its average."""
    named = [(name, p) for model in (state.model, state.ema) for name, p in model.named_parameters()]
    return next((name for name, p in named if not p.isfinite().all()), None)


def _slots(tensors: dict[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    """What an optimiser keeps of each of its weights, by their numbers."""
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            i, slot = name.removeprefix(prefix).split(".")
            slots.setdefault(int(i), {})[slot] = value
    return slots


def _fits(optimizer: torch.optim.Optimizer, slots: dict[int, dict[str, Tensor]]) -> bool:
    """Are these slots of this optimiser's weights?  Numbers beside them, such as a count of steps,
    have no shape."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    return all(i < len(weights) and v.shape in ((), weights[i].shape)
               for i, of_it in slots.items() for v in of_it.values())


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    first = {v.data_ptr(): name for name, v in reversed(tensors.items())}
    # one weight can have two names
    save_file({name: v if first[v.data_ptr()] == name else v.clone() for name, v in tensors.items()}, path)
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)                               # safetensors keeps it to its owner
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
