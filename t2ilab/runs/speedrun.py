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

import torch

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
from ..viz.notebook import show_grid
from ..viz.plots import plot_points
from .train import data_of

MOST = 50_000                   # scenes that are drawn before the clock starts
Watch = Callable[[Iterator], Iterator]          # sees the (Log, model) of every step, and passes them on


@dataclass(frozen=True)
class Drawn:
    """A data set whose scenes were drawn before: drawing them takes no time of a training step."""
    examples: list[Example]

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, index: int, generator=None) -> Example:
        """Example number `index`; nothing is left to chance."""
        return self.examples[index]


def race(preset: Preset, seed: int = 0, *, n: int = 256,
         watch: Watch = iter) -> tuple[dict, torch.Tensor, list[str]]:
    """Train a preset against the clock: what it reached, and 16 of its images with their captions.

    n: fresh captions of each kind that the model's data have.  watch: sees every step, as a bar does.
    ValueError unless it is a model that reads captions of drawn scenes."""
    if not is_drawn(preset.data.data) or preset.model.reads != "text" or preset.model.needs_image:
        raise ValueError(f"{preset.name}: a speed run is for models that draw scenes from captions")
    config = replace(preset.fit, seed=seed)
    scenes, _ = data_of(preset.data, preset.model.size)
    model = preset.model.fit_to_dataset(scenes)
    number = min(MOST, config.steps * config.batch_size)
    drawn = Drawn([scenes.example(k, generator(seed, k)) for k in range(number)])
    batches = stream(drawn, batch_size=config.batch_size, seed=seed)
    draws = (generator(seed, step, 0, 2) for step in count(1))
    torch.manual_seed(seed)
    state, seconds = TrainState(model.build(), config), 0.0
    pairs = map(model.to_training_pair, batches, draws)
    for log, _ in watch(fit(state.model, pairs, config, state=state)):
        seconds += log.seconds
    reached = {"seed": seed, "seconds": round(seconds, 1)}
    pipeline = model.pipeline(state.ema)
    for kind in kinds_of(OBJECTS[preset.data.data]):
        captions = [caption for _, caption in fresh_scenes(kind, n)]
        images = sample_many(pipeline, captions)
        reached[kind] = round(alignment(images, captions).score, 4)
        if kind in ("one_object", "two_objects"):       # never mind those that it was never shown
            seen, said = images[:16], captions[:16]
    return reached, seen, said


def record(preset: Preset, races: list[dict], *, change: str, command: str) -> dict:
    """One row of the log: what was changed, what it is, and what its races reached on average."""
    device = TrainState(torch.nn.Linear(1, 1), preset.fit).accelerator.device
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    keys = [key for key in races[0] if key != "seed"]
    return {"preset": preset.name, "change": change, "command": command, "device": where,
            "torch": torch.__version__, "steps": preset.fit.steps, "batch_size": preset.fit.batch_size,
            **{key: round(mean(race[key] for race in races), 4) for key in keys}, "races": races}


def keep(row: dict, out: Path) -> list[dict]:
    """Add a row to records.json in `out`, draw records.png anew, and return all rows."""
    path = out / "records.json"
    rows = [*(json.loads(path.read_text("utf-8")) if path.exists() else []), row]
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(rows, indent=1) + "\n")
    clouds = {}
    for one in rows:
        kind = "two_objects" if "two_objects" in one else "one_object"
        points = [(race["seconds"], race[kind]) for race in one["races"]]
        clouds.setdefault(f"{one['preset']}, {one['device']}", []).extend(points)
    plot_points({name: tuple(zip(*points)) for name, points in clouds.items()},
                xlabel="seconds of training", ylabel="alignment", title="speed runs",
                path=out / "records.png")
    return rows


def draw(images: torch.Tensor, captions: list[str], path: Path) -> None:
    """What a race drew at its end, as a grid under its captions."""
    show_grid(images, captions, path=path)
