"""A run that is stopped from outside saves its last whole step; and two processes are never at work in one folder."""
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from tiny_runs import FILES, digests, logged, names, run, saved, tiny  # noqa: F401

from t2ilab.cli.commands import main
from t2ilab.cli.train import train_all
from t2ilab.runs import train as training
from t2ilab.runs.folder import read_preset
from t2ilab.runs.lock import alone
from t2ilab.runs.train import train
from t2ilab.training import fit as fit_module
from t2ilab.training.stop import SIGNALS, Uninterrupted

pytestmark = pytest.mark.slow           # it trains, samples or converts models

SLOW = tiny(fit={"steps": 6, "optimizer": "muon"})
HOLDER = "import sys, time; from pathlib import Path; from t2ilab.runs.lock import alone\nwith alone(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def listening():
    """Signals reach this process, even where it was started in the background, which ignores some."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def signalled(monkeypatch, number, step, place="update_ema"):
    """Send this process a signal in the middle of a step: its weights have moved, their average has not."""
    original, calls = getattr(fit_module, place), []

    def middle(*given):
        calls.append(given)
        if len(calls) == step:
            os.kill(os.getpid(), number)
        return original(*given)
    monkeypatch.setattr(fit_module, place, middle)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_in_the_middle_of_a_step_saves_the_whole_step_and_the_run_goes_on_bit_for_bit(number, tmp_path, monkeypatch):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signalled(patch, number, step=3)
        with pytest.raises(KeyboardInterrupt, match="^stopped after step 3, which is saved; the same command goes on from there$"):
            list(train(SLOW, tmp_path / "stopped"))
    assert names(tmp_path / "stopped" / "checkpoints") == ["step-00000003"] and signal.getsignal(number) == before
    list(train(SLOW, tmp_path / "stopped"))
    list(train(SLOW, tmp_path / "whole"))
    assert saved(tmp_path / "stopped") == saved(tmp_path / "whole")
    assert [row["step"] for row in logged(tmp_path / "stopped")] == [1, 2, 3, 4, 5, 6]


def test_the_command_line_says_which_step_is_saved(run, tmp_path, monkeypatch, capsys):
    list(train(replace(SLOW, fit=replace(SLOW.fit, steps=1)), tmp_path))
    signalled(monkeypatch, signal.SIGINT, step=2)
    assert main(["resume", str(tmp_path), "--steps", "9"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "t2ilab: stopped after step 3, which is saved; the same command goes on from there"


def test_a_step_that_is_saved_already_is_not_written_twice(tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(training.Checkpoints, "save", lambda self, state, save=training.Checkpoints.save: saves.append(state.step) or save(self, state))
    signalled(monkeypatch, signal.SIGINT, step=2)
    with pytest.raises(KeyboardInterrupt, match="after step 2"):
        list(train(tiny(save={"checkpoint_steps": 1}), tmp_path))
    assert saves == [1, 2]


@pytest.mark.parametrize("call, steps", [(5, [3, 2]), (6, [3, 3])], ids=["first", "second"])
def test_stages_that_train_in_turns_all_save_their_last_step_when_one_is_stopped(call, steps, tmp_path, monkeypatch):
    parts = [(SLOW, tmp_path / "one"), (SLOW, tmp_path / "two")]
    monkeypatch.setattr("t2ilab.runs.cascade.cascade", lambda preset, out: parts)
    with monkeypatch.context() as patch:
        signalled(patch, signal.SIGTERM, step=call)
        with pytest.raises(KeyboardInterrupt, match="stopped after step 3, which is saved"):
            train_all(SLOW, tmp_path, interleave=True)
    assert [names(folder / "checkpoints") for _, folder in parts] == [[f"step-{step:08d}"] for step in steps]
    train_all(SLOW, tmp_path, interleave=True)
    assert saved(tmp_path / "one") == saved(tmp_path / "two")


def test_a_training_that_is_closed_saves_its_last_step(tmp_path):
    steps = train(SLOW, tmp_path)
    for _ in range(3):
        next(steps)
    assert not (tmp_path / "checkpoints").exists()
    steps.close()
    assert names(tmp_path / "checkpoints") == ["step-00000003"]


def test_a_second_signal_does_not_wait():
    with pytest.raises(KeyboardInterrupt), Uninterrupted() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one was held back too")


def test_between_two_steps_and_outside_the_main_thread_signals_are_left_alone(tmp_path):
    before, seen = [signal.getsignal(number) for number in SIGNALS], []
    steps = train(SLOW, tmp_path)
    next(steps)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    steps.close()
    thread = threading.Thread(target=lambda: seen.extend(train(replace(SLOW, fit=replace(SLOW.fit, steps=2)), tmp_path / "thread")))
    thread.start()
    thread.join()
    assert len(seen) == 2


def test_a_signal_that_is_ignored_as_nohup_does_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Uninterrupted() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


# Two processes

def test_a_second_process_in_a_run_folder_is_refused_in_one_line_and_changes_nothing(run, tmp_path, capsys):
    list(train(replace(SLOW, fit=replace(SLOW.fit, steps=2)), tmp_path))
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        before = digests(tmp_path)
        assert main(["resume", str(tmp_path), "--steps", "6"]) == 1
        said = capsys.readouterr().err
        assert "Traceback" not in said and said.splitlines()[-1:] == [f"t2ilab: another process ({holder.pid}) is at work in {tmp_path}: wait for it, or choose another --out"]
        assert digests(tmp_path) == before
        holder.kill()
    assert main(["resume", str(tmp_path), "--steps", "6"]) == 0             # the kernel let go of the lock
    assert len(logged(tmp_path)) == 6 and not (tmp_path / ".lock").exists()


def test_one_process_may_come_back_to_a_run_that_it_left_open(tmp_path):
    with alone(tmp_path), alone(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


# Fewer steps

def test_fewer_steps_than_are_done_are_refused_and_the_config_stays(run, tmp_path, capsys):
    list(train(tiny(fit={"steps": 4}), tmp_path))
    before = digests(tmp_path)
    assert main(["resume", str(tmp_path), "--steps", "2"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"t2ilab: {tmp_path}: 4 steps are done, more than the 2 asked for: choose --steps 4 or more"
    assert digests(tmp_path) == before and read_preset(tmp_path).fit.steps == 4


def test_fewer_steps_than_planned_but_not_than_done_are_fine(tmp_path):
    steps = train(tiny(fit={"steps": 6}, save={"checkpoint_steps": 2}), tmp_path)
    for _ in range(3):
        next(steps)
    steps.close()
    list(train(tiny(fit={"steps": 3}), tmp_path))
    assert len(logged(tmp_path)) == 3 and read_preset(tmp_path).fit.steps == 3
