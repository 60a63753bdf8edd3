"""How far can a picture be spoiled before the scene parser stops reading it, and does it stop or does it misread?

Scenes are drawn, blurred, made noisy or shifted in colour, and read back. A judge may abstain; it must not guess.
`python -m t2ilab.evaluate.robustness` writes the curves to results/scene-parser/.
"""
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from scipy import ndimage
from torch import Tensor

from .. import viz
from ..data.scene_parser import agree, parse
from ..data.shapes import Scene, Scenes, render
from ..tensors import from_uint8, generator

LEVELS = {                                      # what is spoiled -> how much
    "blur": (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0),    # standard deviation of a Gaussian, in pixels
    "noise": (0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3),    # standard deviation, pixels in [-1, 1]
    "drift": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),        # each channel times 1 +- drift and plus +- drift, both uniform
}
TOGETHER = {"blur": 0.5, "noise": 0.05, "drift": 0.1}       # a little of each at once
UNITS = {"blur": "blur sigma (pixels)", "noise": "noise sigma (pixels in [-1, 1])", "drift": "colour drift"}


def spoil(image: Tensor, generator: torch.Generator, *, blur: float = 0.0, noise: float = 0.0, drift: float = 0.0) -> Tensor:
    """A picture blurred, its colours shifted, noise added, and clamped. image: [3 H W] in [-1, 1]; the levels are explained at LEVELS."""
    soft = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, blur, blur), mode="nearest"))
    gain, bias = drift * (2 * torch.rand(2, 3, 1, 1, generator=generator) - 1)
    return (soft * (1 + gain) + bias + noise * torch.randn(image.shape, generator=generator)).clamp(-1, 1)


def whole_grammar(n: int, seed: int = 0) -> list[Scene]:
    """n scenes, half of them from each split: with held-out pairs and without."""
    return [Scenes(split=("train", "held_out")[i % 2]).draw(generator(seed, i))[0] for i in range(n)]


def reading_rates(scenes: Sequence[Scene], size: int, seed: int = 0, **levels: float) -> dict[str, float]:
    """Shares of scenes that are read right (centres within 0.03), misread, and left unread when spoiled by blur=, noise=, drift=."""
    readings = [parse(spoil(from_uint8(render(s, size)), generator(seed, i), **levels)) for i, s in enumerate(scenes)]
    right = sum(agree(s, r, tolerance=0.03) for s, r in zip(scenes, readings))
    unread, n = readings.count(None), len(scenes)
    return {"right": right / n, "misread": (n - right - unread) / n, "unread": unread / n}


def curves(scenes: Sequence[Scene], sizes: Sequence[int] = (32, 64)) -> dict:
    """reading_rates for every level of every kind and size: {size: {kind: {level: rates}}}, and all kinds together under "together"."""
    return {size: {kind: {level: reading_rates(scenes, size, **{kind: level}) for level in levels} for kind, levels in LEVELS.items()}
            | {"together": reading_rates(scenes, size, **TOGETHER)} for size in sizes}


def draw_curves(result: dict):
    """Share read right against each kind of spoiling, one line per picture size. A pillow image."""
    def plot(kind):
        by_size = {f"{size} px": zip(*((float(level), 100 * r["right"]) for level, r in kinds[kind].items())) for size, kinds in result.items()}
        return viz.lines({name: tuple(xy) for name, xy in by_size.items()}, xlabel=UNITS[kind], ylabel="read right, %", marker="o")
    return viz.beside(*map(plot, LEVELS))


def main(folder: str = "results/scene-parser", scenes: int = 1000):
    """Measure and write robustness.json and robustness.png into folder."""
    result, out = curves(whole_grammar(scenes)), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    record = {"command": "python -m t2ilab.evaluate.robustness", "scenes": scenes, "units": UNITS, "together": TOGETHER, "by_size": result}
    (out / "robustness.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")
    draw_curves(result).save(out / "robustness.png")


if __name__ == "__main__":
    main()
