"""FeatureCache: bytes by key in one SQLite file, which keeps features of captions (text/frozen_encoder.py)
and codes of images (families/frozen_codec.py) between runs."""
import os
import sqlite3
import warnings
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FeatureCache:
    """Bytes by key in one SQLite file, which several processes may share and a kill leaves whole.

    Trouble with it is a warning, never an error."""
    path: Path

    def read(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """Values of those keys that have one."""
        select = "SELECT checksum, value FROM kept WHERE key = ?"

        def found(db):
            rows = ((key, db.execute(select, [key]).fetchone()) for key in keys)
            return {key: _whole(*row) for key, row in rows if row}

        return self._run(found) or {}

    def write(self, values: dict[bytes, bytes]) -> None:
        """Keep values by their keys: all of them or, after a kill, none."""
        insert = "INSERT OR IGNORE INTO kept VALUES (?, ?, ?)"
        rows = [(key, zlib.crc32(value), value) for key, value in values.items()]
        self._run(lambda db: db.executemany(insert, rows))

    def _run(self, work: Callable):
        """Result of work(database); None if the file cannot be used."""
        table = "CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, checksum INTEGER, value BLOB)"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as db, db:
                db.execute(table)
                return work(db)
        # a full disk, a folder that may not be written, a lock held for a minute
        except (OSError, sqlite3.OperationalError) as error:
            warnings.warn(f"going on without the features kept in {self.path} ({error})", stacklevel=5)
        except sqlite3.DatabaseError as error:
            aside = self.path.with_suffix(".damaged")
            with suppress(OSError):                                 # another process was faster
                # a journal left behind would be played back into the new file
                self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                os.replace(self.path, aside)
            warnings.warn(f"{self.path} is damaged ({error}): moved to {aside.name}; "
                          "features are computed anew", stacklevel=5)


def _whole(checksum: int, value: bytes) -> bytes:
    if zlib.crc32(value) != checksum:
        raise sqlite3.DatabaseError("an entry is not as it was written")
    return value
