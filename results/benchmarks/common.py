"""What every comparison needs: contenders that run in turns, the memory of a step, and what a reader must know to run it again."""
import ctypes
import gc
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import t2ilab


def in_turns(contenders: dict[str, Callable], rounds: int, *, beside: Sequence[str] = ("theirs",)) -> dict[str, dict[str, float]]:
    """Median seconds of each contender, and the median over rounds of others' seconds over its own; one round more warms up."""
    seconds = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name] += [time.perf_counter() - start] * (turn > 0)
            print(f"round {turn} {name}: {time.perf_counter() - start:.2f} s", file=sys.stderr)
    return {name: {"seconds": statistics.median(own),
                   **{f"times faster than {other}": statistics.median(a / b for a, b in zip(seconds[other], own)) for other in beside}}
            for name, own in seconds.items()}


def extra_memory(run: Callable) -> float | None:
    """MiB that a call needs at its peak beyond what this process held before; None where the system is not Linux with glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)                                    # else what earlier calls gave back would count as held
    Path("/proc/self/clear_refs").write_text("5")                       # the peak starts anew
    before = _status("VmRSS")
    run()
    return round(_status("VmHWM") - before, 1)


def _status(name: str) -> float:
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def about(a, checkouts: dict[str, str]) -> dict:
    """What a reader needs to run it again.  a: the script's options; checkouts: the folder of each published code."""
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "") if Path("/proc/cpuinfo").exists() else ""
    return {"command": shlex.join(["python", *sys.argv]), "t2ilab": t2ilab.__version__, "torch": torch.__version__, "python": platform.python_version(),
            **{name: _commit(path) for name, path in checkouts.items()},
            "processor": processor or platform.processor(), "threads": torch.get_num_threads(),
            "load before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "options": {k: v for k, v in vars(a).items() if k != "out" and v not in checkouts.values()}}


def _commit(path: str) -> str:
    return subprocess.run(["git", "-C", path, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip() or "no git checkout"


def write(result: dict, path) -> None:
    """The result as JSON, to a file and to the screen."""
    text = json.dumps(result, indent=1)
    Path(path).write_text(text + "\n", encoding="utf8")
    print(text)
