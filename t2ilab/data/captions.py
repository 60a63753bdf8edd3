"""Cleaning and reading captions, wherever they come from: a file, a table, the command line, a class name.

A model sees two blanks, or an é of two characters, as other tokens than those it learned. So training and
sampling clean captions by the same function. Left out on purpose: spelling, and case (the tokenizers decide).
"""
import codecs
import logging
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)
BLANKS = re.compile("[\\s\u200b\u2060\ufeff]")     # \s knows NBSP and its kin, but none without a width
JOINERS = "\u200c\u200d"          # they shape Persian, Devanagari and emoji, and nothing beside ASCII
SHAPED = f"[^\0-\x7f{JOINERS}]"
LOOSE = re.compile(f"(?<!{SHAPED})[{JOINERS}]|[{JOINERS}](?!{SHAPED})")
ENDS = re.compile("\r\n|\r|\n")    # splitlines() would cut at form feeds and others too
MARKS = {codecs.BOM_UTF8: "utf-8-sig",           # UTF-32 first: its mark begins with UTF-16's
         codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def clean(caption: str | None) -> str:
    """The caption in one line: single blanks, NFC, nothing that does not show, "?" for half a character.

    None is "".

    >>> clean(" a red\\u00a0\\tca\\u00adfe\\u0301\\n")
    'a red café'"""
    text = BLANKS.sub(" ", (caption or "").encode("utf-8", "replace").decode("utf-8"))
    if not text.isprintable():
        text = LOOSE.sub("", "".join(filter(_shows, text)))
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _shows(character: str) -> bool:
    """Whether it is seen or shapes what is seen: soft hyphens, marks of direction and NUL are not."""
    return character in JOINERS or unicodedata.category(character) not in ("Cc", "Cf")


def cleaned(texts: Iterable[str | None]) -> tuple[str, ...]:
    """The texts cleaned, without the empty ones."""
    return tuple(filter(None, map(clean, texts)))


def lines(text: str) -> list[str]:
    """The lines of a text; they end at \\n, \\r\\n or \\r, and nowhere else."""
    return ENDS.split(text)


def read_text(path, guessed: list | None = None) -> str:
    """The text of a file: UTF-8 with or without its mark, UTF-16 or 32 with it; lines that are none of
    these are cp1252.

    guessed: gets the path if it came to cp1252, for one warning about many files; without it, one comes here.
    OSError if it cannot be read; ValueError in one line for what is no text."""
    content = Path(path).read_bytes()
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    if b"\0" in content and encoding not in ("utf-16", "utf-32"):
        raise ValueError(f"{path} is no text file, or UTF-16 without its mark: save it as UTF-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding in ("utf-16", "utf-32"):
            name = encoding.upper()
            raise ValueError(f"{path}: begins like {name} and is none ({error.reason})") from error
    if guessed is None:
        warn_guessed([path], Path(path).parent)
    else:
        guessed.append(path)
    return "".join(map(_either, content.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)))


def read_captions(path: Path) -> list[str]:
    """The captions of a text file, one per line; empty lines do not count.  ValueError if there are none."""
    if not (found := cleaned(lines(read_text(path)))):
        raise ValueError(f"{path}: no captions there")
    return list(found)


def _either(line: bytes) -> str:
    """A line in UTF-8 or cp1252: files that grew in several programs hold both."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def warn_guessed(paths: list, root: Path) -> None:
    """One warning for all the files that read_text could only guess."""
    if paths:
        names = "; ".join(Path(path).relative_to(root).as_posix() for path in paths[:3])
        log.warning("%s: not UTF-8, so read as cp1252 (%d): %s", root, len(paths), names)
