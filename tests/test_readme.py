"""README says only what is so: its table comes from results/, its badges from pyproject.toml, its commands and its Python run."""
import re
import runpy
import shlex
from pathlib import Path

import pytest

from t2ilab.cli import commands as cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf8")
LESSONS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "notebooks").glob("0*.ipynb"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_results_table_is_what_the_script_writes():
    script = runpy.run_path(str(ROOT / "results/tools/results_table.py"))
    for page, table in script["PAGES"].items():
        text = page.read_text(encoding="utf8")
        assert script["with_table"](text, table()) == text
    assert all(run in script["tables"]() for run in ("ddpm-shapes", "glide-shapes", "glide-shapes-upsampler"))


def test_every_lesson_stands_in_the_table_with_its_own_badge():
    badge = runpy.run_path(str(ROOT / "notebooks/build.py"))["badge"]
    for lesson in LESSONS:
        row = next(line for line in README.splitlines() if f"]({lesson})" in line)
        assert badge(ROOT / lesson) in row


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("line", [line for block in blocks("bash") for line in block.splitlines() if line.startswith("t2ilab ")])
def test_every_command_line_is_understood(line, monkeypatch):
    """The real parser reads it; the work itself is replaced by a note that it was called."""
    called = []
    for name, command in cli.COMMANDS.items():
        monkeypatch.setitem(cli.COMMANDS, name, _recorder(command, called))
    assert cli.main(shlex.split(line, comments=True)[1:]) == 0
    assert called == [shlex.split(line, comments=True)[1]]


def _recorder(command, called):
    import functools

    @functools.wraps(command)
    def record(*args, **options):
        called.append(command.__name__)
    return record


@pytest.mark.slow
def test_the_python_example_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)                                     # it leaves pictures
    source, = blocks("python")
    scope = {}
    exec(source, scope)
    assert scope["images"].shape == (2, 3, 32, 32) and scope["images"].abs().max() <= 1
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 5
