"""Readers of lists of captions and image URLs, as captioned data sets are published: .tsv, .csv, .parquet.

Rows of no use are kept, with the reason.
"""
import csv
import re
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

COLUMNS = (("caption", "text"), ("url", "image_url"))   # names of the two columns, in capitals or not
HTTP = re.compile(r"https?://[^/]", re.IGNORECASE)
LONGEST = 65_536                # characters of a caption or an address; a row with more is damaged
DAMAGED = "damaged row"


@dataclass(slots=True)
class UrlRecord:
    """One address of a list with all its captions."""
    row: int                    # the first it stands in, from 0; also its file name
    url: str
    captions: list[str]
    why: str = ""               # why it is dead before it is tried, if it is


def read_links(path, limit: int | None = None) -> list[UrlRecord]:
    """The addresses of a list, each once; one that stands in several rows has several captions.

    limit: only the first so many rows.
    .tsv, .txt, .csv: caption and address, or address and caption, or columns with names.
    .parquet: columns named caption or text, url or image_url.
    Errors: OSError or ValueError in one line if there is no such list or no such column; a row that is no use
    is a UrlRecord that says why."""
    path = Path(path)
    found, row = {}, -1
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: at least 1 row")
    if (read := READERS.get(path.suffix.lower())) is None:
        raise ValueError(f"{path}: a list ends in one of {' '.join(READERS)}")
    try:
        for row, (caption, url) in enumerate(islice(_pairs(read(path)), limit)):
            why = _fault(caption, url)
            fresh = UrlRecord(row, "" if why == DAMAGED else url, [], why)
            link = found.setdefault(row if why else url, fresh)
            link.captions.append("" if why else " ".join(caption.split()))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path}, row {row + 1}: {' '.join(str(error).split())}") from error
    return list(found.values())


def _fault(caption, url):
    """Why a row is of no use, or ""."""
    if "\0" in caption + url or max(len(caption), len(url)) > LONGEST:
        return DAMAGED
    if not url:
        return "no address"
    if not HTTP.match(url):
        return "not http"
    return "" if caption else "no caption"


def _pairs(rows):
    """(caption, address) of each row; the first row may name the columns."""
    first = next(rows, [])
    names = [name.strip().lower() for name in first]
    columns = [next((names.index(name) for name in known if name in names), None) for known in COLUMNS]
    if None in columns:
        if "://" not in "".join(first):
            raise ValueError("no caption and address, and no columns named caption (or text) "
                             f"and url (or image_url): {str(first):.200}")
        rows, columns = chain([first], rows), [0, 1]
    for row in rows:
        one, two = (str(row[column] or "").strip() if column < len(row) else "" for column in columns)
        yield (two, one) if HTTP.match(one) and not HTTP.match(two) else (one, two)


def _text(path):
    """The cells of each row of a .tsv, .txt or .csv file."""
    tabs = path.suffix.lower() != ".csv"
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n" if tabs else "") as file:
        if tabs:
            yield from (line.rstrip("\r\n").split("\t") for line in file if line.strip())
        else:
            yield from filter(None, csv.reader(file, strict=True))


def _parquet(path):
    """The names of the columns, then the cells of each row."""
    from pyarrow.parquet import ParquetFile  # comes with datasets
    with ParquetFile(path) as file:
        names = file.schema_arrow.names
        known = sum(COLUMNS, ())                        # other columns may hold whole images
        chosen = [name for name in names if name.strip().lower() in known]
        yield chosen or names
        for batch in file.iter_batches(batch_size=1024, columns=chosen):
            yield from zip(*(column.to_pylist() for column in batch.columns))


READERS = {".tsv": _text, ".txt": _text, ".csv": _text, ".parquet": _parquet}   # path -> rows of cells
