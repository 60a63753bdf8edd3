"""Bytes by key in one SQLite file: where features of captions are kept between runs
(text/frozen_encoder.py)."""
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
    """Bytes by key in one SQLite file, which several processes may share and a kill leaves whole. Trouble
    with it is a warning, never an error."""
    path: Path

    def read(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """What is kept under some keys."""
        select = "SELECT checksum, value FROM kept WHERE key = ?"
        return (
            self._run(
                lambda db: {
                    key: _whole(*row) for key in keys if (row := db.execute(select, [key]).fetchone())
                }
            )
            or {}
        )

    def write(self, values: dict[bytes, bytes]) -> None:
        """Keep values: all of them or, after a kill, none."""
        self._run(lambda db: db.executemany("INSERT OR IGNORE INTO kept VALUES (?, ?, ?)",
                                            [(key, zlib.crc32(value), value)
                                             for key, value in values.items()]))

    def _run(self, work: Callable):
        """What work(database) returns; None if the file cannot be used."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as db, db:
                db.execute("CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, checksum INTEGER, "
                           "value BLOB)")
                return work(db)
        # a full disk, a folder that may not be written, a lock held for a minute
        except (OSError, sqlite3.OperationalError) as error:
            warnings.warn(f"going on without the features kept in {self.path} ({error})", stacklevel=5)
        except sqlite3.DatabaseError as error:
            aside = self.path.with_suffix(".damaged")
            with suppress(OSError):                                 # another process was faster
                # it would be played back into the new file
                self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                os.replace(self.path, aside)
            warnings.warn(f"{self.path} is damaged ({error}): moved to {aside.name}; features are "
                          "computed anew", stacklevel=5)


def _whole(checksum: int, value: bytes) -> bytes:
    if zlib.crc32(value) != checksum:
        raise sqlite3.DatabaseError("an entry is not as it was written")
    return value
