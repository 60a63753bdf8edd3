"""CONTRIBUTING and CHANGELOG name what is there: files, rows, and where modules went."""
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf8")
CHANGES = (ROOT / ".github" / "CHANGELOG.md").read_text(encoding="utf8")
QUOTED = re.findall(r"`([^`\s]+)`", PAGE)


@pytest.mark.parametrize("path", sorted({name for name in QUOTED if "/" in name}))
def test_every_file_that_contributing_names_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted({name for name in QUOTED if name.startswith("t2ilab.")}))
def test_every_row_that_contributing_names_can_be_imported(name):
    module, _, row = name.rpartition(".")
    assert getattr(import_module(module), row)


def test_contributing_is_one_page_with_twelve_rules_and_four_lists():
    assert len(PAGE.splitlines()) <= 66 and len(re.findall(r"^\d+\. ", PAGE, re.M)) == 12
    assert len(re.findall(r"^\*\*", PAGE, re.M)) == 4


def test_every_new_place_in_the_changelog_exists():
    rows = [line.split("|") for line in CHANGES.splitlines() if line.startswith("| `t2ilab.")]
    for _, before, now, _ in rows:
        home = ""
        for name in re.findall(r"`([.\w*]+)`", now):
            name = home + name if name.startswith(".") else name
            home = name.removesuffix(".*").rpartition(".")[0] if name.startswith("t2ilab.") else home
            assert "." not in name or find_spec(name.removesuffix(".*")), f"{before.strip()} is not at {name}"
