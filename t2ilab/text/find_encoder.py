"""Where a frozen text encoder lies: a folder, one that ships with the project,
or one of the Hugging Face hub that was fetched before."""
import hashlib
import shlex
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..hub import shipped, shipped_run

GIB, MIB = 2**30, 2**20


# ---- finding and loading ----

def find_encoder(name: str) -> Path:
    """The folder of an encoder: a folder of that name, one that ships with the project,
    or one of the hub that was fetched before.

    FileNotFoundError in one line, with the command that fetches it, if there is none."""
    if _holds_encoder(Path(name)):
        return Path(name)
    return shipped_run(name) if name in shipped() else _fetched(name)


def _holds_encoder(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(
        any(folder.glob(kind)) for kind in ("*.safetensors", "pytorch_model*.bin")
    )


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
        raise FileNotFoundError(
            f"{name}: no folder with an encoder, none that ships with the project, and not on this machine "
            "yet; fetch it: "
            f"hf download {shlex.quote(name)} --exclude '*.h5' --exclude '*.msgpack' --exclude '*.ot'"
        )
    return folder


def fingerprint(folder: Path) -> str:
    """What tells one encoder from another: the SHA-256 of its configuration, weights and tokenizer.

    Of a file of over 16 MiB only its size and 16 pieces of 1 MiB are read,
    spread evenly from the first to the last."""
    files = sorted(path for path in folder.iterdir()
                   if path.suffix in (".json", ".safetensors", ".bin", ".model", ".txt"))
    return _fingerprint(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=16)
def _fingerprint(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, size, _ in files:
        digest.update(f"{path.name} {size} ".encode())
        with open(path, "rb") as file:
            for start in [0] if size <= 16 * MIB else np.linspace(0, size - MIB, 16).astype(int):
                file.seek(start)
                digest.update(file.read(size if size <= 16 * MIB else MIB))
    return digest.hexdigest()
