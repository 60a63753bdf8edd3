"""What every comparison needs: contenders that run in turns, the memory of a step,
and what a reader must know to run it again."""
import argparse
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


def options(doc: str, script: str) -> argparse.ArgumentParser:
    """The command line of a comparison, with what all of them have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", default=Path(script).with_suffix(".json"))
    return parser


def begin(parser: argparse.ArgumentParser, packages: dict[str, str]) -> argparse.Namespace:
    """The options as given, with threads set and published packages importable.  packages: option that names
    a checkout -> package in it; a usage error if it is not there."""
    a = parser.parse_args()
    for option, package in packages.items():
        path = getattr(a, option)
        if not (Path(path) / package).is_dir():
            parser.error(f"{path} holds no {package}: give a checkout of it (--help says where it is)")
        sys.path.insert(0, path)
    torch.set_num_threads(a.threads)
    return a


def in_turns(contenders: dict[str, Callable], rounds: int, *,
             beside: Sequence[str] = ("theirs",)) -> dict[str, dict[str, float]]:
    """Median seconds of each contender, and the median over rounds of others' seconds over its own;
    one round more warms up."""
    seconds = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name] += [time.perf_counter() - start] * (turn > 0)
            print(f"round {turn} {name}: {time.perf_counter() - start:.2f} s", file=sys.stderr)
    return {
        name: {
            "seconds": statistics.median(own),
            **{
                f"times faster than {other}": statistics.median(a / b for a, b in zip(seconds[other], own))
                for other in beside
            },
        }
        for name, own in seconds.items()
    }


def extra_memory(run: Callable) -> float | None:
    """MiB that a call needs at its peak beyond what this process held before;
    None where the system is not Linux with glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what earlier calls gave back would count as held
    Path("/proc/self/clear_refs").write_text("5")                       # the peak starts anew
    before = _status("VmRSS")
    run()
    return round(_status("VmHWM") - before, 1)


def _status(name: str) -> float:
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def about(a, checkouts: dict[str, str]) -> dict:
    """What a reader needs to run it again.  a: the script's options; checkouts:
    the folder of each published code."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return {"command": shlex.join(["python", *sys.argv]), "t2ilab": t2ilab.__version__,
            "torch": torch.__version__, "python": platform.python_version(),
            **{name: _commit(path) for name, path in checkouts.items()},
            "processor": processor or platform.processor(), "threads": torch.get_num_threads(),
            "load before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "options": {k: v for k, v in vars(a).items() if k != "out" and v not in checkouts.values()}}


def _commit(path: str) -> str:
    return (
        subprocess.run(
            ["git", "-C", path, "rev-parse", "HEAD"], capture_output=True, text=True
        ).stdout.strip()
        or "no git checkout"
    )


def write(result: dict, path) -> None:
    """The result as JSON, to a file and to the screen."""
    text = json.dumps(result, indent=1)
    Path(path).write_text(text + "\n", encoding="utf8")
    print(text)
