"""Speed run: seconds of training from random weights until a model of the scenes draws what captions say.

The clock runs in training steps alone: reading captions, noise, gradients, optimiser, averaging. Outside it
lie start-up, the drawing of the training scenes, and the measuring of what was learned.
"""
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.datasets import OBJECTS, is_drawn
from ..data.example import Example
from ..data.loaders import stream
from ..evaluation.alignment import alignment
from ..evaluation.caption_metrics import fresh_scenes, kinds_of
from ..evaluation.scene_metrics import sample_many
from ..presets import Preset
from ..tensors import generator
from ..training.checkpoint import write_text
from ..training.fit import TrainState, fit
from ..viz.plots import plot_points
from .log import command_line
from .train import data_of

MOST = 50_000                   # scenes that are drawn before the clock starts
Watch = Callable[[Iterator], Iterator]          # sees the (Log, model) of every step, and passes them on


class Race(NamedTuple):
    """What one training against the clock came to."""
    reached: dict[str, float]   # seed, seconds, and the alignment on each kind of caption
    images: Tensor              # [16 3 H W] in [-1, 1]
    captions: list[str]         # what they were to show


@dataclass(frozen=True)
class Drawn:
    """A data set whose scenes were drawn before, so that a step takes no time for that."""
    examples: list[Example]

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, index: int, generator=None) -> Example:
        """Example number `index`; nothing is left to chance."""
        return self.examples[index]


def race(preset: Preset, seed: int = 0, *, n: int = 256, watch: Watch = iter) -> Race:
    """Train a preset once, against the clock.

    n: fresh captions of each kind that its data set has.  watch: sees every step, as a bar does.
    ValueError unless it is a model that draws scenes from captions."""
    model, fit_config = preset.model, replace(preset.fit, seed=seed)
    if not is_drawn(preset.data.data) or model.reads != "text" or model.needs_image:
        raise ValueError(f"{preset.name}: a speed run is for models that draw scenes from captions")
    scenes, _ = data_of(preset)
    model = model.fit_to_dataset(scenes)
    number = min(MOST, fit_config.steps * fit_config.batch_size)
    drawn = Drawn([scenes.example(k, generator(seed, k)) for k in range(number)])
    batches = stream(drawn, batch_size=fit_config.batch_size, seed=seed)
    pairs = map(model.to_training_pair, batches, (generator(seed, step, 0, 2) for step in count(1)))
    torch.manual_seed(seed)
    state, seconds = TrainState(model.build(), fit_config), 0.0
    for log, _ in watch(fit(state.model, pairs, fit_config, state=state)):
        seconds += log.seconds
    reached = {"seed": seed, "seconds": round(seconds, 1)}
    pipeline, shown = model.pipeline(state.ema), {}
    for kind in kinds_of(OBJECTS[preset.data.data]):
        captions = [caption for _, caption in fresh_scenes(kind, n)]
        images = sample_many(pipeline, captions)
        reached[kind] = round(alignment(images, captions).score, 4)
        shown[kind.startswith("held_out")] = images[:16], captions[:16]
    return Race(reached, *shown[False])


def record(preset: Preset, races: list[Race], *, change: str) -> dict:
    """A row of the log: what was changed, how to do it again, and what its races reached on average."""
    reached = [one.reached for one in races]
    return {"preset": preset.name, "change": change, "command": command_line(), "device": _device(),
            "torch": torch.__version__, "steps": preset.fit.steps, "batch_size": preset.fit.batch_size,
            **{key: round(mean(one[key] for one in reached), 4) for key in reached[0] if key != "seed"},
            "races": reached}


def _device() -> str:
    """The GPU's name, or how many threads of the CPU train."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def keep(row: dict, out: Path) -> list[dict]:
    """Add a row to records.json in `out`, draw records.png anew, and return all rows."""
    path = out / "records.json"
    rows = [*(json.loads(path.read_text("utf-8")) if path.exists() else []), row]
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(rows, indent=1) + "\n")
    clouds: dict[str, list] = {}
    for one in rows:
        kind = "two_objects" if "two_objects" in one else "one_object"
        clouds.setdefault(f"{one['preset']}: {one['change']}"[:60], []).extend(
            (race["seconds"], race[kind]) for race in one["races"])
    plot_points({name: tuple(zip(*cloud)) for name, cloud in clouds.items()}, xlabel="seconds of training",
                ylabel="alignment", title="speed runs", path=out / "records.png")
    return rows
