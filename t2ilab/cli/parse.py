"""From words to a call: tyro reads them; what it does not know is one line,
with the word that was probably meant."""
import io
import re
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import get_close_matches
from functools import partial, wraps
from traceback import extract_tb

import tyro

from ..presets import PRESETS
from .commands import COMMANDS
from .measure import RACES
from .old_names import with_new_names

TAKES_PRESET = {"train": PRESETS, "speedrun": RACES}
CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.CascadeSubcommandArgs)


def parse(args: list[str]):
    """The command that was asked for, ready to be called.  ValueError where an option's value makes no sense.

    SystemExit after help, which prints itself, and after a word that it does not know: status 2."""
    box = io.StringIO()
    try:
        args = with_new_names(args, lambda: _options(_command(args)))
        with redirect_stderr(box):
            return _read(args)
    except SystemExit as stop:
        if not stop.code:
            raise
        error = getattr(stop.__context__, "__context__", None)
        if isinstance(error, ValueError) and any(frame.name == "__post_init__"
                                                 for frame in extract_tb(error.__traceback__)):
            raise error from None
        print(f"t2ilab: {explained(args, box.getvalue())}", file=sys.stderr)
        raise SystemExit(2) from None


def _read(args: list[str]):
    commands = {name: _later(command) for name, command in COMMANDS.items()}
    return tyro.extras.subcommand_cli_from_dict(commands, prog="t2ilab", args=args, config=CONFIG)


def _command(args: list[str]) -> list[str]:
    """The words that name the command: it alone, or train or speedrun and its preset."""
    return args[:2] if args[1:2] and args[1] in TAKES_PRESET.get(args[0], ()) else args[:1]


def _later(command):
    return wraps(command)(lambda *given, **named: partial(command, *given, **named))


def explained(args: list[str], box: str) -> str:
    """What is wrong with a command line, in one line.  box: what tyro says of it."""
    if not args or args[0] not in COMMANDS:
        return _meant("no command", args[0] if args else "", COMMANDS, "t2ilab --help")
    words, there = [args[0]], args[1:]
    if presets := TAKES_PRESET.get(args[0]):
        everything = "t2ilab presets" if presets is PRESETS else ", ".join(presets)
        if not there or there[0].startswith("-"):
            return f"say which preset: t2ilab {args[0]} PRESET; all of them: {everything}"
        if there[0] not in presets:
            return _meant("no preset", there[0], presets, everything)
        words.append(there.pop(0))
    options = _options(words)
    given = [word.split("=")[0] for word in there if word.startswith("--")]
    unknown = [word for word in given if word.replace("_", "-") not in options]
    more = f"t2ilab {' '.join(words)} --help"
    return (
        _meant(f"{words[-1]} has no option", unknown[0], options, more)
        if unknown
        else f"{_said(box)}; more: {more}"
    )


def _meant(what: str, word: str, known, everything: str) -> str:
    if not word:
        return f"say what to do; all of it: {everything}"
    close = get_close_matches(word[:100], known, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]}? " if close else ""
    return f"{what} {shlex.quote(word[:100])}: {guess}All of them: {everything}"


def _options(words: list[str]) -> set[str]:
    """Every option of a command, as its help lists them."""
    page = io.StringIO()
    with redirect_stdout(page), suppress(SystemExit):
        _read([*words, "--help"])
    return set(re.findall(r"--[A-Za-z][A-Za-z0-9-]*", page.getvalue()))


def _said(box: str) -> str:
    """The first paragraph of tyro's box, without its title, its frame and its rules."""
    inside = re.sub(r"(?m)[│╭╮╰╯]|^[|+]|[|+]$", " ", box.partition("\n")[2])
    paragraphs = re.split(r"(?m)^ *[─-]{3,}.*$", inside)  # "---" where a terminal has no "───"
    return next(filter(None, (" ".join(part.split()) for part in paragraphs)), box)[:300]
