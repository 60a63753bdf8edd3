"""Ablation of guidance: alignment, diversity and colour over guidance scales (Ho & Salimans 2022)."""
from collections.abc import Sequence

from ...viz.plots import lines
from ...viz.tiles import beside
from ..alignment import alignment
from ..caption_metrics import fresh_scenes
from ..image_metrics import colourfulness, variety
from ..scene_metrics import drawn, sample_many

KINDS = ("one_object", "two_objects", "held_out_one")


def guidance_sweep(pipeline, scales: Sequence[float], *, n: int = 128, seed: int = 0) -> dict:
    """What each guidance scale of the first stage does to the same captions from the same noise.

    Returns {"scales", kind: [alignment per scale], "colourfulness": [...], "variety": [...]} and
    "true_colourfulness" of the scenes themselves.
    variety: mean standard deviation over 8 images per caption."""
    scenes = {kind: fresh_scenes(kind, n) for kind in KINDS}
    captions = {kind: [caption for _, caption in pairs] for kind, pairs in scenes.items()}
    result: dict = {"scales": list(scales), **{kind: [] for kind in KINDS}}
    result |= {"colourfulness": [], "variety": []}
    for scale in scales:
        at = pipeline.with_(guidance_scale=scale)
        samples = {kind: sample_many(at, captions[kind], seed=seed) for kind in KINDS}
        for kind, images in samples.items():
            result[kind].append(round(alignment(images, captions[kind]).score, 4))
        result["colourfulness"].append(round(colourfulness(samples["one_object"]), 4))
        result["variety"].append(round(variety(at, scenes["one_object"][:8], seed), 4))
    truth = drawn([scene for scene, _ in scenes["one_object"]], pipeline.stages[-1].shape[-1])
    return result | {"true_colourfulness": round(colourfulness(truth), 4), "samples": n}


def draw_sweep(result: dict):
    """The sweep as one image: alignment on the left, colour and variety on the right."""
    x, truth = result["scales"], result["true_colourfulness"]
    left = {kind: (x, result[kind]) for kind in KINDS}
    right = {name: (x, result[name]) for name in ("colourfulness", "variety")}
    right["true colourfulness"] = (x, [truth] * len(x))
    return beside(lines(left, xlabel="guidance scale", ylabel="alignment", marker="o"),
                  lines(right, xlabel="guidance scale", marker="o"))
