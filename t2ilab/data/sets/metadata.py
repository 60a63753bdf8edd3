"""Caption tables of a folder of images: metadata.csv and .jsonl, Flickr's lists, text_c10.

Several rows of one picture add up. Left out on purpose: .parquet, .tsv and .json files; labels and boxes.
"""
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from reprlib import repr as short

from ..captions import cleaned, lines
from .listing import counted
from .places import Names

TEXTS = ("text", "caption", "captions", "prompt", "description")        # a column of captions, in any case
# name.jpg,caption or name.jpg#0 <tab> caption
FLICKR = re.compile(r"\s*([^\t,#]+\.\w+)(?:#\w+)?[\t,]\s*(.+)")
REED = "text_c10"               # text_c10/class_00001/image_06734.txt, one caption per line


def read_tables(files: Sequence[Path], names: Names, read: Callable) -> tuple[dict[Path, tuple], set[Path]]:
    """(image -> captions, files these come from) of all tables among some files; an image may be missing.

    read: path -> text.  ValueError in one line, with file and row, for a table that makes no sense."""
    table: dict[Path, list[str]] = {}
    used = set()
    for file in files:
        if file.name.lower() in ("metadata.csv", "metadata.jsonl"):
            rows = list(_metadata(file, names, read(file)))
        elif file.name.lower().endswith(("captions.txt", "token.txt", ".token")):
            rows = _flickr(file, names, read(file))
        elif REED in file.parts and file.suffix == ".txt" and (path := names.only(_home(file), file.stem)):
            rows = [(path, lines(read(file)))]
        else:
            continue
        for path, texts in rows:
            table.setdefault(path, []).extend(texts)
            used.add(file)
    return {path: cleaned(texts) for path, texts in table.items()}, used


def _metadata(file: Path, names: Names, text: str) -> Iterator[tuple[Path, list]]:
    """(path, captions) of each row; file_name is relative to the file's own folder."""
    rows = list(_csv(file, text) if file.suffix.lower() == ".csv" else _jsonl(file, text))
    has_captions = any(key in row for _, row in rows for key in TEXTS)
    if rows and not has_captions and "file_name" in rows[0][1]:
        columns = ", ".join(rows[0][1])
        raise ValueError(f"{file}: no column {', '.join(TEXTS[:-1])} or {TEXTS[-1]} among {columns}")
    for number, row in rows:
        name = row.get("file_name")
        said = next((row[key] for key in TEXTS if row.get(key)), None)
        if not (isinstance(name, str) and name.strip()):
            raise ValueError(f"{file}, row {number}: no file_name in {short(row)}")
        said = said if isinstance(said, list) else [said]
        if wrong := [one for one in said if not isinstance(one, str | None)]:
            raise ValueError(f"{file}, row {number}: a caption is a text or a list of texts: "
                             f"{short(wrong[0])}")
        try:
            yield names.find(file.parent, name), said
        except ValueError as error:
            raise ValueError(f"{file}, row {number}: {error}") from error


def _csv(file: Path, text: str) -> Iterator[tuple[int, dict]]:
    """(number, {column in lower case: cell}) of each row.

    ValueError for too many or few cells, an open quote."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    number, columns = -1, []
    try:
        for number, cells in enumerate(filter(None, rows)):
            if number == 0:
                columns = [name.strip().lower() for name in cells]
            elif len(cells) != len(columns):
                differ = f"{counted(len(cells), 'cell')} for {counted(len(columns), 'column')}"
                raise ValueError(f"{file}, row {number}: {differ}; "
                                 f"a caption with commas stands in quotes: {short(cells)}")
            else:
                yield number, dict(zip(columns, cells))
    except csv.Error as error:
        raise ValueError(f"{file}, row {number + 1}: {error}; "
                         "is a quote left open, or not doubled?") from error


def _jsonl(file: Path, text: str) -> Iterator[tuple[int, dict]]:
    """(number, row with its keys in lower case) of each line that is not empty."""
    for number, line in enumerate(lines(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}, row {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{file}, row {number}: no file_name in {short(row)}")
        yield number, {key.strip().lower(): value for key, value in row.items()}


def _flickr(file: Path, names: Names, text: str) -> list[tuple[Path, list[str]]]:
    """(path, [caption]) of each line: the image beside the list, else the only one of its name.

    [] for a text file that is no such list."""
    rows = [(k, line, FLICKR.fullmatch(line)) for k, line in enumerate(lines(text), 1) if line.strip()]
    said = [(row[1].strip(), row[2]) for _, _, row in rows if row]
    folder = file.parent
    meant = {name: names.get(folder, name) or names.only(folder, name) for name, _ in said}
    if not any(meant.values()):
        return []
    if odd := [(number, line) for number, line, row in rows[1:] if not row]:    # the first may be a header
        number, line = odd[0]
        raise ValueError(f"{file}, row {number}: neither name.jpg,caption nor name.jpg#0, a tab, "
                         f"the caption: {short(line)}")
    return [(meant[name] or names.find(folder, name), [_unquoted(caption)]) for name, caption in said]


def _home(file: Path) -> Path:
    """The folder that holds text_c10, and the images' folder beside it."""
    return next(above.parent for above in file.parents if above.name == REED)


def _unquoted(caption: str) -> str:
    """The caption without the quotes that CSV puts around one with commas."""
    quoted = re.fullmatch(r'\s*"(.*)"\s*', caption)
    return quoted[1].replace('""', '"') if quoted else caption
