"""Find a frozen text encoder: in a folder, among those that ship with the project, or in the local copy of
the Hugging Face hub.  And tell one encoder from another by a fingerprint of its files."""
import hashlib
import shlex
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..hub import shipped, shipped_run

GIB, MIB = 2**30, 2**20


def find_encoder(name: str) -> Path:
    """Folder of an encoder: one of that name, one that ships with the project, or one of the Hugging Face hub
    that was fetched before.

    FileNotFoundError in one line, with the command that fetches it, if there is none."""
    if _holds_encoder(Path(name)):
        return Path(name)
    return shipped_run(name) if name in shipped() else _fetched(name)


def _holds_encoder(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    return any(any(folder.glob(kind)) for kind in ("*.safetensors", "pytorch_model*.bin"))


def _fetched(name: str) -> Path:
    """The newest copy of a hub repository on this machine."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HFValidationError, LocalEntryNotFoundError
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except HFValidationError as error:
        raise FileNotFoundError(f"{name}: no encoder there (config.json and weights)") from error
    except LocalEntryNotFoundError:
        folder = None
    if folder is None or not _holds_encoder(folder):
        command = f"hf download {shlex.quote(name)} --exclude '*.h5' --exclude '*.msgpack' --exclude '*.ot'"
        raise FileNotFoundError(f"{name}: no folder with an encoder, none that ships with the project, "
                                f"and not on this machine yet; fetch it: {command}")
    return folder


def fingerprint(folder: Path) -> str:
    """SHA-256 of an encoder's configuration, weights and tokenizer, which tells it from others.

    Of a file of over 16 MiB only its size and 16 pieces of 1 MiB are read,
    spread evenly from the first to the last."""
    kinds = (".json", ".safetensors", ".bin", ".model", ".txt")
    files = sorted(path for path in folder.iterdir() if path.suffix in kinds)
    return _fingerprint(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=16)
def _fingerprint(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, size, _ in files:
        digest.update(f"{path.name} {size} ".encode())
        if size <= 16 * MIB:
            starts, length = [0], size
        else:
            starts, length = np.linspace(0, size - MIB, 16).astype(int), MIB
        with open(path, "rb") as file:
            for start in starts:
                file.seek(start)
                digest.update(file.read(length))
    return digest.hexdigest()
