"""Tools of the lessons: show the source of a thing, find the line of an equation, check numbers and answers.

An end-of-line comment such as `# DDPM Eq. 4` tags the line that computes that equation; the index is read
from the package's own files, so a lesson can never quote code that has moved on.
Left out on purpose: syntax colours, scores, anything that is sent anywhere.
"""
import ast
import difflib
import functools
import inspect
import io
import os
import re
import textwrap
import tokenize
from pathlib import Path
from typing import NamedTuple

import torch

from ..viz.notebook import in_notebook
from .exercises import EXERCISES

PACKAGE = Path(__file__).resolve().parent.parent


class Line(NamedTuple):
    """One line of code that carries an equation tag."""
    place: str                  # "t2ilab/diffusion/gaussian.py"
    scope: str                  # "GaussianDiffusion.diffuse", or "" outside functions
    code: str


def profile() -> str:
    """How much a lesson computes: "fast" without a GPU, "full" with one.

    The variable T2ILAB_PROFILE overrides; ValueError where it holds anything else."""
    chosen = os.environ.get("T2ILAB_PROFILE") or ("full" if torch.cuda.is_available() else "fast")
    if chosen not in ("fast", "full"):
        raise ValueError(f"T2ILAB_PROFILE={chosen!r}: choose fast or full")
    return chosen


def show_source(thing) -> None:
    """Print the source of a function, class or module of t2ilab, below the place where it stands.

    ValueError for a thing that is not written in this package.  Lesson: notebooks/02_noising.ipynb"""
    path = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "")
    if PACKAGE not in path.parents:
        raise ValueError(f"{thing!r}: show_source shows code of {PACKAGE.name} only")
    lines, _ = inspect.getsourcelines(thing)
    print(f"{_place(path)}\n\n{textwrap.dedent(''.join(lines)).rstrip()}")


def where(tag: str) -> None:
    """Print every line that computes an equation, and where it stands: where("DDPM Eq. 4").

    ValueError, naming the nearest tags, where no line has this one.  Lesson: notebooks/02_noising.ipynb"""
    index = equations()
    if tag not in index:
        nearest = difflib.get_close_matches(tag, index, n=4, cutoff=0)
        raise ValueError(f"no line is tagged {tag!r}; nearest: {nearest}")
    for line in index[tag]:
        scope = f"  in {line.scope}" if line.scope else ""
        print(f"{line.place}{scope}\n    {line.code}")


@functools.cache
def equations() -> dict[str, list[Line]]:
    """Index of equation tags: every end-of-line comment of the package -> the lines that carry it.

    One comment can hold several tags, between commas."""
    index = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for tag, line in _tags(path):
            index.setdefault(tag, []).append(line)
    return index


def _tags(path):
    """(tag, line) of each end-of-line comment of a file."""
    source = path.read_text(encoding="utf8")
    nodes = ast.walk(ast.parse(source))                         # outer ones come first
    scopes = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        number, column = token.start
        code = token.line[:column].strip()
        if token.type == tokenize.COMMENT and code:
            scope = ".".join(node.name for node in scopes if node.lineno <= number <= node.end_lineno)
            line = Line(_place(path), scope, code)
            yield from ((tag.strip(), line) for tag in re.split("[,;]", token.string.lstrip("# ")))


def _place(path):
    """The file without a line number: a lesson's saved output stays true when a line moves."""
    return path.relative_to(PACKAGE.parent).as_posix()


def check(name: str, value, *, below=None, above=None, near=None, within=None) -> None:
    """Check a number or an answer and print a verdict: check("loss", 0.1, below=0.12), check("03a", answer).

    Bounds make it a measurement: below and above may be given together; near needs within. Without bounds it
    is an exercise, and an answer of None or ... is not judged yet.
    What is right prints one line that names the bounds and not the value: the same on every machine.
    What is wrong prints what was found and, in a script or where T2ILAB_STRICT is set (tests,
    notebooks/build.py), is an AssertionError too: a learner reads on, a test cannot pass.
    ValueError for an exercise that does not exist.  Lesson: every one"""
    if below is None and above is None and near is None:
        verdict, right = _exercise(name, value)
    else:
        verdict, right = _measurement(name, float(value), below, above, near, within)
    if not right and (os.environ.get("T2ILAB_STRICT") or not in_notebook()):
        raise AssertionError(verdict)
    print(verdict)


def _measurement(name, value, below, above, near, within):
    """(verdict, whether it is right) on a number."""
    if (near is None) != (within is None):
        raise ValueError(f"near={near}, within={within}: give both or neither")
    bounds = []                                                 # (in words, whether the value keeps it)
    if above is not None:
        bounds.append((f"> {above}", value > above))
    if below is not None:
        bounds.append((f"< {below}", value < below))
    if near is not None:
        bounds.append((f"= {near} +- {within}", abs(value - near) <= within))
    wanted = " and ".join(bound for bound, _ in bounds)
    right = all(kept for _, kept in bounds)
    verdict = f"ok  {name} {wanted}" if right else f"NOT OK  {name} is {value:.6g}, and should be {wanted}"
    return verdict, right


def _exercise(name, answer):
    """(verdict, whether it is right) on an answer."""
    if name not in EXERCISES:
        raise ValueError(f"check({name!r}): there is no such exercise; there are {sorted(EXERCISES)}. "
                         "For a measurement give below, above or near")
    if answer is None or answer is ...:
        return f"your turn  {name}", True
    hint = EXERCISES[name](answer)
    return (f"ok  {name}", True) if hint is None else (f"NOT YET  {name}: {hint}", False)
