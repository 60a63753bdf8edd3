"""Robustness of the scene parser: how much corruption does it take, and does it then abstain or misread?

Scenes are drawn, blurred, made noisy or shifted in colour, and read back. A judge may abstain; it must not
guess. `python results/tools/parser_robustness.py` writes the curves to results/scene-parser/.
"""
import json
from collections.abc import Sequence
from pathlib import Path

from t2ilab.data.scene_parser import agree, parse
from t2ilab.data.shapes import Scene, Scenes, render
from t2ilab.evaluation.corruptions import LEVELS, TOGETHER, UNITS, corrupt_image
from t2ilab.tensors import from_uint8, generator
from t2ilab.viz import plots, tiles


def whole_grammar(n: int, seed: int = 0) -> list[Scene]:
    """n scenes, half of them from each split: with held-out pairs and without."""
    return [Scenes(split=("train", "held_out")[i % 2]).draw(generator(seed, i))[0] for i in range(n)]


def reading_rates(scenes: Sequence[Scene], size: int, seed: int = 0, **levels: float) -> dict[str, float]:
    """Shares of scenes that are read right, misread, and left unread when corrupted.

    levels: blur=, noise=, drift=.  Right: centres within 0.03."""
    images = (corrupt_image(from_uint8(render(scene, size)), generator(seed, i), **levels)
              for i, scene in enumerate(scenes))
    readings = [parse(image) for image in images]
    right = sum(agree(s, r, tolerance=0.03) for s, r in zip(scenes, readings))
    unread, n = readings.count(None), len(scenes)
    return {"right": right / n, "misread": (n - right - unread) / n, "unread": unread / n}


def curves(scenes: Sequence[Scene], sizes: Sequence[int] = (32, 64)) -> dict:
    """reading_rates per size, kind and level: {size: {kind: {level: rates}}}, and all kinds as "together"."""
    return {size: _curves_at(scenes, size) for size in sizes}


def _curves_at(scenes: Sequence[Scene], size: int) -> dict:
    """{kind: {level: rates}} at one size, and "together"."""
    rates = {kind: {level: reading_rates(scenes, size, **{kind: level}) for level in levels}
             for kind, levels in LEVELS.items()}
    return rates | {"together": reading_rates(scenes, size, **TOGETHER)}


def draw_curves(result: dict):
    """Share read right per level, as a pillow image: a plot per kind of corruption, a line per image size."""
    def plot(kind):
        found = {}
        for size, kinds in result.items():
            levels = kinds[kind]
            found[f"{size} px"] = ([float(level) for level in levels],
                                   [100 * rates["right"] for rates in levels.values()])
        return plots.lines(found, xlabel=UNITS[kind], ylabel="read right, %", marker="o")
    return tiles.beside(*map(plot, LEVELS))


def main(folder: str = "results/scene-parser", scenes: int = 1000):
    """Measure and write robustness.json and robustness.png into folder."""
    result, out = curves(whole_grammar(scenes)), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    record = {"command": "python results/tools/parser_robustness.py", "scenes": scenes, "units": UNITS,
              "together": TOGETHER, "by_size": result}
    (out / "robustness.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")
    draw_curves(result).save(out / "robustness.png")


if __name__ == "__main__":
    main()
