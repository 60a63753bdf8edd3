"""The command line: `main` runs a command.  Nothing slow is imported here: Ctrl-C is answered at once.

A mistake is one line, never a traceback, unless T2ILAB_TRACEBACK=1 asks for it.
"""
import os
import sys
from contextlib import suppress


def main(args: list[str] | None = None) -> int:
    """Run a command; the exit status: 0, 1 after a mistake, 2 for unknown words, 130 after Ctrl-C."""
    args = sys.argv[1:] if args is None else list(args)
    _console()
    try:
        if args == ["--version"]:
            from .. import __version__
            print(f"t2ilab {__version__}")
            return 0
        from .parse import parse
        parse(args)()
    except BrokenPipeError:             # the reader of our output left, as in `t2ilab presets | head -1`
        sys.stderr.close()
    except KeyboardInterrupt as stop:                   # a run that was saved says so
        print(f"t2ilab: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("T2ILAB_TRACEBACK") == "1":
            raise
        print(f"t2ilab: {_in_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _in_one_line(error: Exception) -> str:
    """What a user has to know of an error; of an unforeseen one also its kind, and how to see where."""
    if isinstance(error, ValueError | OSError | ArithmeticError):
        return " ".join(str(error).split("\n"))
    line = next(iter(str(error).splitlines()), "") or "not enough memory" * isinstance(error, MemoryError)
    return f"{type(error).__name__}: {line[:300]} (where: T2ILAB_TRACEBACK=1)"


def _console() -> None:
    """Let stdout take any text, and stderr, where progress bars live, none: neither may end a run."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")            # a console that cannot show a name shows "?"
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = Forgiving(sys.stderr or open(os.devnull, "w"))  # noqa: SIM115
    if os.environ.get("COLUMNS", "").isdigit() and int(os.environ["COLUMNS"]) < 40:
        os.environ["COLUMNS"] = "40"                                    # tyro's help never ends in one column


class Forgiving:
    """A text stream that drops what it cannot write, as when it is closed or its disk is full."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> int:
        """The length of the text, written or not."""
        with suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits, if it can be."""
        with suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name):
        return getattr(self.stream, name)
