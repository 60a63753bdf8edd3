"""Samplers of VQ-Diffusion, compared: the six of it and of Improved VQ-Diffusion, and the original's fast."""
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from ...tensors import generator
from ...viz.tiles import strip
from ..alignment import alignment
from ..caption_metrics import fresh_scenes
from ..scene_metrics import sample_many

PLAIN = dict(guidance_scale=1.0, truncation=0.86, sampler="ancestral", prior_weight=0.0)


def methods(T: int, guidance_scale: float) -> dict[str, dict]:
    """The six ways of the original's inference script as fields of a VQDiffusionConfig, and its own fast one.

    T: noising steps.  guidance_scale: of the guided ways; 1, which is no guidance, becomes 2."""
    few, scale = max(1, T // 10), 2.0 if guidance_scale == 1 else guidance_scale
    guided = {**PLAIN, "guidance_scale": scale, "truncation": 1.0}
    return {
        "plain": {**PLAIN, "sampling_steps": T},
        "guidance": {**guided, "sampling_steps": T},
        "high quality": {**PLAIN, "sampler": "even", "sampling_steps": 2 * T},
        "fast": {**PLAIN, "sampling_steps": few},
        "purity": {**PLAIN, "sampler": "purity", "prior_weight": 1.0, "sampling_steps": T},
        "guidance, fast": {**guided, "sampling_steps": few},
        "the original's fast": {**PLAIN, "sampler": "legacy_fast", "sampling_steps": few},
    }


def method_sweep(at: Callable, ways: dict[str, dict], *, n: int = 32, seed: int = 0) -> dict:
    """What each way of sampling makes of the same captions and seeds.

    at: fields -> the pipeline with them.  Returns {"samples", way: {"one_object", "two_objects": alignment,
    "calls", "seconds" per image, "tokens": how many are decided per call, on average over four images, and
    "most_tokens" in one call}}."""
    result: dict = {"samples": n}
    for name, fields in ways.items():
        pipeline = at(fields)
        start, row = time.perf_counter(), {}
        for kind in ("one_object", "two_objects"):
            captions = [caption for _, caption in fresh_scenes(kind, n)]
            row[kind] = round(alignment(sample_many(pipeline, captions, seed=seed), captions).score, 4)
        row["seconds"] = round((time.perf_counter() - start) / (2 * n), 3)
        tokens = tokens_a_call(pipeline, [caption for _, caption in fresh_scenes("two_objects", 4)], seed)
        result[name] = row | {"calls": len(tokens), "most_tokens": max(tokens), "tokens": tokens}
    return result


def tokens_a_call(pipeline, captions: Sequence[str], seed: int = 0) -> list[float]:
    """How many masks of an image become codes in each network call, on average; each has its own noise."""
    K, N = pipeline.model.diffusion.K, pipeline.stages[0].shape[0]
    sources = [generator(seed, k) for k in range(len(captions))]
    frames = (value for name, value in pipeline.walk(captions, sources=sources) if name == "frame")
    left = [float(N), *(_masks(frame.x, K) for frame in frames)]
    return [round(a - b, 2) for a, b in pairwise(left)]


def _masks(x: Tensor, K: int) -> float:
    return (x == K).sum(1).double().mean().item()


def draw_methods(at: Callable, ways: dict[str, dict], n: int = 4, seed: int = 0):
    """A strip: one column per way of sampling, one row per caption."""
    kinds = ("one_object", "two_objects")
    captions = [caption for kind in kinds for _, caption in fresh_scenes(kind, n // 2)]
    columns = [at(fields)(captions, seed).cpu() for fields in ways.values()]
    return strip(columns, list(ways), captions=captions)
