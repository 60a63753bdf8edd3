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
BLANKS = re.compile("[\\s\u200b\u2060\ufeff]+")    # \s knows NBSP and its kin, but none without a width
ENDS = re.compile("\r\n|\r|\n")    # splitlines() would cut at form feeds and others too
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def clean(caption: str | None) -> str:
    """The caption in one line: single blanks, NFC, "?" for half a character.  None is "".

    >>> clean(" a red\\u00a0\\tcafe\\u0301\\n")
    'a red café'"""
    text = (caption or "").encode("utf-8", "replace").decode("utf-8")
    return unicodedata.normalize("NFC", BLANKS.sub(" ", text).strip())


def cleaned(texts: Iterable[str | None]) -> tuple[str, ...]:
    """The texts cleaned, without the empty ones."""
    return tuple(filter(None, map(clean, texts)))


def lines(text: str) -> list[str]:
    """The lines of a text; they end at \\n, \\r\\n or \\r, and nowhere else."""
    return ENDS.split(text)


def read_text(path, guessed: list | None = None) -> str:
    """The text of a file: UTF-8 with or without its mark, UTF-16 with it; lines that are neither are cp1252.

    guessed: gets the path if it came to cp1252, for one warning about many files; without it, one comes here.
    OSError if it cannot be read; ValueError in one line for what is no text."""
    content = Path(path).read_bytes()
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise ValueError(f"{path}: begins like UTF-16 and is none ({error.reason})") from error
        if b"\0" in content:
            raise ValueError(f"{path} is no text file") from error
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
