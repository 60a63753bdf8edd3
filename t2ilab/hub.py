"""Trained runs that ship with the project: found, or fetched once and checked.

In a clone they lie in results/; after a plain `pip install` they are fetched. `checksums.json` holds the
SHA-256 of every file of every shipped run; a file that differs by one byte is thrown away.
Also which folder a run's name means, for every command and every other run that names one: `locate`.
"""
import hashlib
import http.client
import json
import os
import sys
import tempfile
import time
import urllib.request
from functools import lru_cache
from importlib.metadata import metadata
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results"
CHECKSUMS = Path(__file__).parent / "checksums.json"


def shipped() -> dict[str, dict[str, str]]:
    """{run: {file: SHA-256}} of every run that comes with the project."""
    return json.loads(CHECKSUMS.read_text(encoding="utf8"))


def repository() -> str:
    """The project's address, from pyproject.toml."""
    urls = dict(line.split(", ", 1) for line in metadata("t2ilab").get_all("Project-URL"))
    return urls["Repository"]


def cache_root() -> Path:
    """The user's cache folder, for what was fetched or computed once; a temporary one without a home."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "t2ilab"
    try:
        return Path.home() / ".cache" / "t2ilab"
    except RuntimeError:                                        # as in a container whose user id has no name
        return Path(tempfile.gettempdir()) / f"t2ilab-{os.getuid()}"


def is_shipped(name: str | Path) -> bool:
    """Whether this is the name of a run that ships with the project: a text, no path."""
    return isinstance(name, str) and name in shipped()


def locate(name: str | Path) -> Path:
    """The folder that a run's name means; it need not be there.  A name and a path are never confused:

    1. a path, which is a text with a separator (./x, runs/x) or a Path, is that folder;
    2. the name of a run that ships is that run, whatever lies here (with one line on stderr if a run of
       that name does, here or in runs/);
    3. any other name is the folder of that name here if it holds a run, else runs/NAME if that does."""
    if is_shipped(name):
        if mine := [path for path in (f"./{name}", f"runs/{name}") if _holds_run(Path(path))]:
            _say_once(f"{name}: the run that ships with the project; to take yours, say {' or '.join(mine)}")
        return shipped_run(name)
    here = Path(name)
    in_runs = "runs" / here
    is_path = isinstance(name, Path) or len(here.parts) != 1 or str(name) != here.name
    return here if is_path or _holds_run(here) or not _holds_run(in_runs) else in_runs


def reports(name: str | Path) -> Path:
    """The folder for what is written about a run: its own, or runs/NAME for one that ships.

    It is runs/NAME-shipped where runs/NAME is a run of yours."""
    if not is_shipped(name):
        return locate(name)
    mine = Path("runs") / name
    return mine.with_name(f"{name}-shipped") if _holds_run(mine) else mine


def _holds_run(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() or (folder / "checkpoints").is_dir()
    except (OSError, ValueError):                               # a name too long, or one no file can have
        return False


@lru_cache
def _say_once(line: str) -> None:
    print(f"t2ilab: {line}", file=sys.stderr)


def shipped_run(name: str) -> Path:
    """The folder of a shipped run; fetched into the user's cache where this is no clone.

    KeyError for a run that is not shipped; ValueError if a file of a clone is damaged; FileNotFoundError
    that says the one command to type, if a file cannot be fetched."""
    files = shipped()[name]
    in_clone = (RESULTS / name).is_dir()
    folder = RESULTS / name if in_clone else cache_root() / name
    broken = [file for file, digest in files.items() if not _is_whole(folder / file, digest)]
    for file in broken:
        if in_clone:
            raise ValueError(f"{folder / file} is not the file that ships with the project; "
                             f"get it back: git checkout -- results/{name}")
        _fetch(name, file, files[file], folder)
    return folder


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def file_digest(path: Path) -> str:
    """SHA-256 of a file, computed once per process as long as the file stays as it is."""
    stat = path.stat()
    # What was just written may change within a tick of the clock.
    settled = time.time_ns() - stat.st_mtime_ns > 10**9
    known = _hashed if settled else _hashed.__wrapped__
    return known(path.absolute(), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _hashed(path: Path, *stamp: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(name: str, file: str, digest: str, cache: Path) -> None:
    project = repository()
    address = f"{project}/raw/HEAD/results/{name}/{file}"
    help_line = (f"trained runs come with a clone, installed with -e: git clone {project} "
                 f"&& pip install -e ./{project.rsplit('/', 1)[-1]}")
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise FileNotFoundError(f"{name}: {file} could not be fetched ({error}); {help_line}") from error
    if _digest(content) != digest:
        raise FileNotFoundError(f"{name}: {file} arrived damaged or is of another version; {help_line}")
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f".{file}.{os.getpid()}"
    partial.write_bytes(content)
    os.replace(partial, cache / file)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
