"""Samplers, lists of times and numbers of steps on ddpm-shapes: `python results/tools/sampler_sweep.py`.

256 images of each from the same 256 noises, read by the scene parser. Writes results/samplers/sweep.json,
which lesson 04 plots. About 15 minutes on one core.
"""
import json
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from t2ilab.data.scene_parser import parse
from t2ilab.diffusion.constraints import clip
from t2ilab.diffusion.guidance import constrained
from t2ilab.diffusion.sampling import SAMPLERS, trajectory
from t2ilab.diffusion.spacing import log_snr_timesteps
from t2ilab.evaluation.alignment import is_valid
from t2ilab.runs.load import load
from t2ilab.tensors import generator

FILE = Path(__file__).resolve().parent.parent / "samplers" / "sweep.json"
SAMPLES, CHUNK, STEPS, REFERENCE = 256, 64, (2, 3, 5, 10, 20, 50, 100), 200


def summary(scene):
    """What must stay the same: background, and the objects' colours and shapes; None if unread."""
    if scene is None:
        return None
    return scene.background, sorted((thing.colour, thing.shape) for thing in scene.objects)


def main(samples: int):
    denoiser = load("ddpm-shapes").stages[0].denoiser
    denoise, diffusion = constrained(denoiser, clip), denoiser.diffusion
    spacings = {"even in t": diffusion.times, "even in log-SNR": lambda n: log_snr_timesteps(diffusion, n)}

    def draw(sampler, times):
        chunks = []
        for k in range(0, samples, CHUNK):
            x = diffusion.prior((min(CHUNK, samples - k), 3, 32, 32), generator=generator(4, k))
            *_, last = trajectory(denoise, diffusion, x, times, sampler=SAMPLERS[sampler],
                                  generator=generator(5, k))
            chunks.append(last.x)
        return torch.cat(chunks)

    true = draw("dpm_solver_pp_2m", log_snr_timesteps(diffusion, REFERENCE))
    told = [summary(parse(image)) for image in true]
    rows = []
    for spacing, times_of in spacings.items():
        for sampler in SAMPLERS:
            for steps in STEPS:
                times = times_of(steps)
                images = draw(sampler, times)
                read = [parse(image) for image in images]
                row = {"sampler": sampler, "times": spacing, "steps": steps, "calls": len(times) - 1,
                       "valid": sum(map(is_valid, read)) / samples,
                       "read": 1 - read.count(None) / samples,
                       "backgrounds": dict(Counter(scene.background for scene in read if scene))}
                if sampler != "ancestral":
                    pairs = list(zip(map(summary, read), told))
                    row["distance"] = round((images - true).square().mean().item(), 5)
                    row["same"] = sum(a == b is not None for a, b in pairs) / samples
                rows.append(row)
                print(row, flush=True)
    reference = {"sampler": "dpm_solver_pp_2m", "times": "even in log-SNR", "steps": REFERENCE,
                 "read": 1 - told.count(None) / samples,
                 "backgrounds": dict(Counter(scene[0] for scene in told if scene))}
    result = {"run": "ddpm-shapes", "samples": samples, "reference": reference, "rows": rows,
              "core_seconds": round(time.process_time()),
              "command": "python results/tools/sampler_sweep.py"}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES)
