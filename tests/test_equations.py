"""Ledger, code, lessons and tests speak of the same equations."""
import ast
import functools
import json
import re
from pathlib import Path

import pytest
from equations import LEDGER

from t2ilab.teach import source as teach

ROOT = Path(__file__).resolve().parents[1]
TAGGED = {tag: lines for tag, lines in teach.equations().items() if tag in LEDGER}
NAMES = {id.lower().replace(" ", "") for id in LEDGER}


def looks_like_a_tag(comment):
    """True for what is meant as an id, rightly spelled or not."""
    comment = re.sub(r"\(.*", "", comment)                          # a paper named in brackets is a source, not a tag
    return bool(re.search(r"\b(?:Eqs?|Equation|Alg|Algorithm)\b\.?", comment)) or comment.lower().replace(" ", "") in NAMES


def id_of(tag):
    r"""The id that a \tag in a lesson means: "DDPM 4" is "DDPM Eq. 4", anything else stands for itself."""
    return re.sub(r"^(\S+) (\d+)$", r"\1 Eq. \2", tag)


def names(id, text):
    """Whether a text names an id itself, and not a longer one: "DDPM Eq. 1" is in neither "DDPM Eq. 14" nor "iDDPM Eq. 1"."""
    return bool(re.search(rf"(?<!\w){re.escape(id)}(?!\w)", text))


@functools.cache
def proofs():
    """The source of every test function of the project."""
    sources = []
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        lines = path.read_text(encoding="utf8").splitlines()
        functions = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
        sources += ["\n".join(lines[f.lineno - 1:f.end_lineno]) for f in functions if path.name != Path(__file__).name]
    return sources


def test_every_tag_in_code_is_a_known_id():
    unknown = [f"{line.place}: {tag}" for tag, lines in teach.equations().items() for line in lines
               if tag not in LEDGER and looks_like_a_tag(tag)]
    assert unknown == []


@pytest.mark.parametrize("comment, found", [
    ("DDPM Eq. 44", True), ("Eq. 4 of DDPM", True), ("min-snr", True), ("[B C H W]", False), ("P2P", False),
    ("in [0, 1] (iDDPM Eq. 15)", False)])
def test_a_misspelled_tag_is_seen(comment, found):
    assert looks_like_a_tag(comment) == found


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.name)
def test_every_equation_of_a_lesson_stands_in_code(path):
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf8"))["cells"] if cell["cell_type"] == "markdown"]
    tags = {id_of(tag) for cell in cells for tag in re.findall(r"\\tag\{([^}]*)\}", cell)}
    assert tags <= TAGGED.keys()


@pytest.mark.parametrize("id", sorted(TAGGED))
def test_every_equation_in_code_has_a_test_that_names_it(id):
    assert any(names(id, source) for source in proofs()), f"name {id!r} in the docstring of the test that proves {TAGGED[id][0].place}"


def test_ids_are_read_as_meant():
    assert (id_of("DDPM 4"), id_of("DPM-Solver++ Algorithm 2"), id_of("v-prediction")) == ("DDPM Eq. 4", "DPM-Solver++ Algorithm 2", "v-prediction")
    assert names("DDPM Eq. 1", "see DDPM Eq. 1.") and not names("DDPM Eq. 1", "DDPM Eq. 14") and not names("DDPM Eq. 1", "iDDPM Eq. 1")
