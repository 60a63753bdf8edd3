"""Check of image files before the first step: which are broken or missing.

What was found is cached per file (path, time of change, bytes).
"""
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..hub import cache_root
from .decode import measure

MISSING = "no such file"


class BrokenFile(NamedTuple):
    """A file that is no usable image, and why."""
    name: str
    reason: str

    @property
    def missing(self) -> bool:
        return self.reason == MISSING


def check(paths: Sequence[Path], root: Path) -> list:
    """For each file below root its true (width, height), or a string that says why it is no image.

    Decodes whatever is new, changed, or was broken the last time."""
    names = [path.relative_to(root).as_posix() for path in paths]
    stamps = [_stamp(path) for path in paths]
    memory = _memory(root)
    known = _recall(memory)                     # name -> [time of change, bytes, width, height]
    fresh = [k for k, (name, stamp) in enumerate(zip(names, stamps)) if known.get(name, [])[:2] != stamp]
    found = dict(zip(fresh, _looks([paths[k] for k in fresh])))
    seen = [found[k] if k in found else tuple(known[name][2:]) for k, name in enumerate(names)]
    if fresh:
        good = {names[k]: [*stamps[k], *size] for k, size in found.items() if not isinstance(size, str)}
        _remember(memory, known | good)
    return seen


def _looks(paths):
    """What _look says of each path, with a progress bar."""
    from tqdm import tqdm
    with ThreadPoolExecutor(os.cpu_count()) as pool:            # Pillow decodes outside Python's lock
        looks = pool.map(_look, paths)
        return list(tqdm(looks, total=len(paths), desc="checking pictures", delay=10, mininterval=0.5,
                         leave=False))


def _look(path):
    """The size of an image file, or why it is none."""
    try:
        return measure(path)
    except FileNotFoundError:
        return MISSING
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")


def _stamp(path):
    """[time of change, bytes], which changes whenever the file does; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):               # the latter: half a character in a name
        return None
    return [status.st_mtime_ns, status.st_size]


def _memory(root):
    """Cache file of the last check of a folder."""
    digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()
    return cache_root() / "checked" / f"{digest[:16]}.json"


def _recall(memory):
    with suppress(OSError, ValueError):         # no memory, or a damaged one: look at everything again
        return json.loads(memory.read_text("utf-8"))
    return {}


def _remember(memory, known):
    with suppress(OSError):             # a read-only home costs time at the next start, nothing else
        memory.parent.mkdir(parents=True, exist_ok=True)
        part = memory.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known), "utf-8")
        os.replace(part, memory)
