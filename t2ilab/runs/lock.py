"""One process at a time in a run's folder: a kernel lock, which ends with its process, however that ends."""
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:                                         # Windows: nobody is kept out
    fcntl = None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder's lock.  BlockingIOError in one line, with its number, if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with open(path, "ab+", buffering=0) as file:
        _lock(file, folder)
        file.truncate(0)
        with suppress(OSError):                             # a full disk: the lock holds without the number
            file.write(str(os.getpid()).encode())
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _lock(file, folder: Path) -> None:
    try:
        if fcntl:
            # of the process, not of its children: loaders may outlive it for seconds
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        other = file.read().decode() or "unknown"
        raise BlockingIOError(f"another process ({other}) is at work in {folder}: "
                              "wait for it, or choose another --out") from error
    except OSError:                                         # a file system without locks
        pass
