"""Trained runs that come with the project: in a clone they lie in results/; after a plain `pip install` they are fetched once and checked.

`checksums.json` holds the SHA-256 of every file of every shipped run; a file that differs by one byte is thrown away.
"""
import hashlib
import http.client
import json
import os
import urllib.request
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
    """Where this user keeps what was fetched or computed once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "t2ilab"


def shipped_run(name: str) -> Path:
    """The folder of a shipped run; fetched into the user's cache where this is no clone.

    KeyError for a run that is not shipped; ValueError if a file of a clone is damaged; FileNotFoundError that says the one command to type, if
    a file cannot be fetched."""
    files = shipped()[name]
    in_clone = (RESULTS / name).is_dir()
    folder = RESULTS / name if in_clone else cache_root() / name
    for file in [file for file, digest in files.items() if not _is_whole(folder / file, digest)]:
        if in_clone:
            raise ValueError(f"{folder / file} is not the file that ships with the project; get it back: git checkout -- results/{name}")
        _fetch(name, file, files[file], folder)
    return folder


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and _digest(path.read_bytes()) == digest


def _fetch(name: str, file: str, digest: str, cache: Path) -> None:
    address = f"{repository()}/raw/HEAD/results/{name}/{file}"
    help_line = f"get it with the project: git clone {repository()} && pip install -e ./{repository().rsplit('/', 1)[-1]}"
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
