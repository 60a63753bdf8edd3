"""Seconds per training step of every laptop preset, on one core: `python results/tools/seconds_per_step.py`.

Twice: as the processor is, and as one without AVX-512 and bf16 units, which is what most laptops have. Writes
results/seconds_per_step.json. The core's own time is counted, so that other programs on the machine count
little, loading and logging included. Presets of photographs are timed on random pictures: what they show
takes no time.
"""
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
KINDS = {"as it is": {},
         "as without AVX-512 and bf16 units": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}
WARM_UP, STEPS, CLASSES = 1, 3, 102


def processor() -> str:
    """The name that the processor gives itself, where the system tells."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def random_pictures(root: Path) -> None:
    """A folder with a picture of noise for each of 102 classes."""
    import numpy as np
    from PIL import Image
    for k in range(CLASSES):
        (root / f"class {k:03d}").mkdir(parents=True)
        noise = np.random.default_rng(k).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"class {k:03d}" / "0.png")


def seconds(preset, folder: Path) -> float:
    """The median processor time of 3 steps after one that warms up."""
    from t2ilab.data.datasets import DATASETS
    from t2ilab.runs.train import train
    if DATASETS[preset.data.data].read:                     # the others are drawn
        random_pictures(folder / "pictures")
        data = replace(preset.data, data="folder", root=str(folder / "pictures"), split="train")
        preset = replace(preset, data=data)
    preset = replace(preset, save=replace(preset.save, sample_steps=0, checkpoint_seconds=1e9))
    ends = [time.process_time() for _ in islice(train(preset, folder / "run"), WARM_UP + STEPS)]
    return round(statistics.median(b - a for a, b in pairwise(ends[WARM_UP - 1:])), 3)


def measure() -> dict:
    """What one kind of processor takes, in this process."""
    import torch

    from t2ilab.presets import PRESETS
    from t2ilab.training.precision import pick_precision
    torch.set_num_threads(1)
    rows = {}
    for name, preset in PRESETS.items():
        if preset.hardware.startswith("laptop"):
            with tempfile.TemporaryDirectory() as folder:
                rows[name] = seconds(preset, Path(folder))
    dtype = pick_precision("auto", torch.device("cpu"))
    return {"precision auto": str(dtype).removeprefix("torch."), "seconds": rows}


def kind(environment: dict[str, str]) -> dict:
    """measure() in a process of its own: torch looks at these settings when it starts."""
    load = os.getloadavg()[0]
    told = os.environ | environment | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, __file__, "--measure"]
    done = subprocess.run(command, env=told, stdout=subprocess.PIPE, text=True, check=True)
    facts = {"environment": environment, "load average before": round(load, 2)}
    return facts | json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure both kinds and write the file."""
    import torch
    facts = {"command": "python results/tools/seconds_per_step.py", "processor": processor(),
             "torch": torch.__version__, "threads": 1,
             "seconds": f"of processor time per step, median of {STEPS} steps after {WARM_UP}"}
    report = facts | {"kinds": {name: kind(environment) for name, environment in KINDS.items()}}
    (HERE / "seconds_per_step.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    print(json.dumps(measure())) if "--measure" in sys.argv else main()
