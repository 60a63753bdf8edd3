"""ruff and mypy find nothing in the code; what they look for, and why not more, stands in pyproject.toml."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECKED = ["t2ilab", "tests", "results/tools", "notebooks/build.py", "conftest.py"]
RETURNS = "def f(x):\n    if x:\n        return 1\n    else:\n        return 2"


def tool(name, *arguments, **given):
    """What a tool of this environment prints, and its exit status; a skip where it is not installed."""
    program = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if program is None:
        pytest.skip(f'{name} is not installed: pip install -e ".[test]"')
    return subprocess.run([program, *arguments], capture_output=True, text=True, cwd=ROOT, **given)


def test_ruff_finds_nothing():
    found = tool("ruff", "check", "--no-cache", "--output-format", "concise", *CHECKED)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("rule, line", [("B006", "def f(x=[]): return x"), ("C416", "y = [i for i in (1, 2)]"), ("RET505", RETURNS)])
def test_ruff_reads_the_rules_of_this_project(rule, line):
    found = tool("ruff", "check", "--no-cache", "--output-format", "concise", "--stdin-filename", "t2ilab/new.py", "-", input=f"{line}\n")
    assert found.returncode == 1 and rule in found.stdout, found.stdout + found.stderr


@pytest.mark.slow
def test_the_types_of_the_core_are_right(tmp_path):
    found = tool("mypy", "--cache-dir", str(tmp_path))
    assert found.returncode == 0 and "Success" in found.stdout, found.stdout + found.stderr


def test_no_type_error_of_the_core_is_waved_through():
    files = [path for name in ("diffusion", "pipeline", "families", "training") for path in (ROOT / "t2ilab" / name).rglob("*.py")]
    assert [path.name for path in files if "type: ignore" in (text := path.read_text(encoding="utf8")) or " cast(" in text] == []
