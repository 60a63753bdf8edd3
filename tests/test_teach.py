"""Verdicts, exercises and quotations: what a learner reads is true, and what a test needs cannot pass silently."""
import inspect
import re
from pathlib import Path

import pytest
import torch

from t2ilab import tensors
from t2ilab.teach import exercises
from t2ilab.teach import source as teach
from t2ilab.teach.exercises import EXERCISES, exactly, near

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def lesson(monkeypatch):
    """As in a learner's notebook: not a script, not a test."""
    monkeypatch.setattr(teach, "in_notebook", lambda: True)
    monkeypatch.delenv("T2ILAB_STRICT", raising=False)
    monkeypatch.setitem(EXERCISES, "00a", near(0.5, within=0.01, hint="look again"))


def test_where_prints_the_line_that_stands_in_the_file(capsys):
    teach.where("DDPM Eq. 4")
    place, code = capsys.readouterr().out.splitlines()
    path, = re.match(r"(\S+)  in GaussianDiffusion\.diffuse$", place).groups()
    line, = (line for line in (ROOT / path).read_text(encoding="utf8").splitlines() if line.endswith("# DDPM Eq. 4"))
    assert line.startswith(f"    {code}")


def test_where_prints_every_place_and_a_comment_may_hold_several_tags(tmp_path, monkeypatch, capsys):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "a.py").write_text('x = "# no tag"\ny = 1    # A Eq. 1, B\nclass C:\n    def f(self):\n        return 2  # B\n')
    monkeypatch.setattr(teach, "PACKAGE", tmp_path / "lab")
    monkeypatch.setattr(teach, "equations", teach.equations.__wrapped__)
    assert teach.equations().keys() == {"A Eq. 1", "B"}
    teach.where("B")
    assert capsys.readouterr().out == "lab/a.py\n    y = 1\nlab/a.py  in C.f\n    return 2\n"


def test_an_unknown_equation_is_an_error_that_names_the_nearest():
    with pytest.raises(ValueError, match="'DDPM Eq. 99'.*DDPM Eq. 4"):
        teach.where("DDPM Eq. 99")


@pytest.mark.parametrize("thing", [tensors.to_uint8, teach.Line, tensors])
def test_show_source_prints_the_file_as_it_is_and_no_path_of_this_machine(thing, capsys):
    teach.show_source(thing)
    head, _, source = capsys.readouterr().out.partition("\n\n")
    assert head == Path(inspect.getsourcefile(thing)).relative_to(ROOT).as_posix()
    assert source.rstrip() in (ROOT / head).read_text(encoding="utf8")


def test_a_method_is_shown_without_its_indentation(capsys):
    from t2ilab.viz.notebook import Panel
    teach.show_source(Panel.redraw)
    assert "\ndef redraw(" in capsys.readouterr().out


def test_source_of_others_is_not_shown():
    with pytest.raises(ValueError, match="t2ilab only"):
        teach.show_source(torch.nn.Linear)


@pytest.mark.parametrize("value, bounds, line", [
    (0.1, {"below": 0.12}, "ok  loss < 0.12"), (torch.tensor(0.99), {"above": 0.95}, "ok  loss > 0.95"),
    (0.5, {"above": 0.25, "below": 0.75}, "ok  loss > 0.25 and < 0.75"), (1.004, {"near": 1, "within": 0.01}, "ok  loss = 1 +- 0.01")])
def test_a_good_number_prints_its_bounds_and_not_itself(value, bounds, line, lesson, capsys):
    teach.check("loss", value, **bounds)
    assert capsys.readouterr().out == line + "\n"


BAD = [(0.12, {"below": 0.12}), (float("nan"), {"below": 1}), (float("nan"), {"near": 0, "within": 9}), (0.1, {"above": 0.2}),
       (2.0, {"above": 0, "below": 1}), (1.02, {"near": 1, "within": 0.01})]


@pytest.mark.parametrize("value, bounds", BAD)
def test_a_bad_number_raises_in_a_script_and_under_tests(value, bounds, lesson, monkeypatch):
    monkeypatch.setattr(teach, "in_notebook", lambda: False)
    with pytest.raises(AssertionError, match="NOT OK  loss is"):
        teach.check("loss", value, **bounds)
    monkeypatch.setattr(teach, "in_notebook", lambda: True)
    monkeypatch.setenv("T2ILAB_STRICT", "1")
    with pytest.raises(AssertionError, match="NOT OK  loss is"):
        teach.check("loss", value, **bounds)


@pytest.mark.parametrize("value, bounds", BAD)
def test_a_bad_number_is_only_told_to_a_learner(value, bounds, lesson, capsys):
    teach.check("loss", value, **bounds)
    assert capsys.readouterr().out.startswith("NOT OK  loss is")


def test_near_without_within_is_refused():
    for bounds in ({"near": 1}, {"below": 1, "within": 1}):
        with pytest.raises(ValueError, match="both or neither"):
            teach.check("loss", 1, **bounds)


@pytest.mark.parametrize("answer, line", [(None, "your turn  00a"), (..., "your turn  00a"), (0.505, "ok  00a"), (0.6, "NOT YET  00a: look again")])
def test_a_learner_is_told_about_an_answer(answer, line, lesson, capsys):
    teach.check("00a", answer)
    assert capsys.readouterr().out == line + "\n"


def test_a_wrong_answer_cannot_pass_a_test(lesson, monkeypatch):
    monkeypatch.setenv("T2ILAB_STRICT", "1")
    with pytest.raises(AssertionError, match="NOT YET  00a"):
        teach.check("00a", 0.6)


def test_an_exercise_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="no such exercise"):
        teach.check("99z", 1)


def test_checkers_tell_right_from_wrong():
    assert near([1, 2], within=0.1, hint="h")(torch.tensor([1.05, 2])) is None
    assert near([1, 2], within=0.1, hint="h")(1.0) == near(1, within=1, hint="h")(float("nan")) == "h"
    assert exactly({"a"}, hint="h")({"a"}) is None and exactly(1, hint="h")(True) == exactly(1, hint="h")("1") == "h"


@pytest.mark.parametrize("name", sorted(EXERCISES))
def test_every_exercise_refuses_nonsense_and_says_so(name):
    assert re.fullmatch(r"\d\d[a-z]", name)
    for nonsense in (-123.456, "nonsense", lambda *_: None):
        try:
            hint = EXERCISES[name](nonsense)
        except Exception:                                           # a number where a function is asked for
            continue
        assert isinstance(hint, str) and hint


def test_exercises_are_all_functions():
    assert all(callable(checker) for checker in exercises.EXERCISES.values())


def test_the_profile_follows_the_machine_unless_it_is_named(monkeypatch):
    monkeypatch.delenv("T2ILAB_PROFILE", raising=False)
    for gpu, name in ((False, "fast"), (True, "full")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        assert teach.profile() == name
    monkeypatch.setenv("T2ILAB_PROFILE", "fast")
    assert teach.profile() == "fast"
    monkeypatch.setenv("T2ILAB_PROFILE", "quick")
    with pytest.raises(ValueError, match="'quick': choose fast or full"):
        teach.profile()
