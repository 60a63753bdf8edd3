"""Checkpoints: whole or not there, whether the writer is killed at any moment or the disk is full."""
import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
from safetensors import SafetensorError
from test_fit import batches, line
from tiny_runs import FILES, digests, flip, names, run, saved, tiny  # noqa: F401

from t2ilab.cli.commands import main
from t2ilab.runs.folder import find_run
from t2ilab.runs.train import train
from t2ilab.training import checkpoint as module
from t2ilab.training.checkpoint import Checkpoints, newest, read_tensors, verify
from t2ilab.training.fit import fit


def checkpoints(folder, **options):
    return Checkpoints(folder, {"family": "ddpm"}, **{"every_steps": 0, "every_seconds": 1e9, "keep": 2} | options)


def saved_at(folder, steps, **options):
    """A state trained for some steps, with a checkpoint after each."""
    state = line(steps=steps)
    for _ in fit(state.model, batches(), state.config, state=state):
        checkpoints(folder, **options).save(state)
    return state


# Saving

def test_a_checkpoint_holds_safetensors_and_json_and_nothing_else(tmp_path):
    saved_at(tmp_path, 1)
    assert names(tmp_path) == ["step-00000001"] and names(tmp_path / "step-00000001") == FILES
    verify(tmp_path / "step-00000001")


def test_only_the_last_few_checkpoints_are_kept(tmp_path):
    saved_at(tmp_path, 5, keep=3)
    assert names(tmp_path) == ["step-00000003", "step-00000004", "step-00000005"]


def test_a_checkpoint_is_due_every_so_many_steps_by_the_clock_and_at_the_end(tmp_path, monkeypatch):
    state, due = line(steps=7), []
    by_step, by_clock = checkpoints(tmp_path, every_steps=3), checkpoints(tmp_path, every_seconds=50)
    for state.step in range(1, 8):
        due.append(by_step.due(state))
    assert due == [False, False, True, False, False, True, True]
    state.step, now = 1, module.time.monotonic()
    assert not by_clock.due(state)
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 51)
    assert by_clock.due(state)
    by_clock.save(state)
    assert not by_clock.due(state)


def test_saving_after_a_resume_drops_damaged_later_checkpoints_not_good_ones(tmp_path):
    saved_at(tmp_path, 4, keep=3)
    flip(tmp_path / "step-00000004" / "model.safetensors")
    state = line()
    with pytest.warns(UserWarning, match="passing over a checkpoint: .*step-00000004"):
        checkpoints(tmp_path).restore(state)
    assert state.step == 3
    checkpoints(tmp_path, keep=1).save(state)
    assert names(tmp_path) == ["step-00000003"] and newest(tmp_path).name == "step-00000003"


# Killed while saving

def dying_save(folder, moment):
    """In a child process: save step 3, and be killed at the moment-th time that Python touches a file.  True if it lived to the end."""
    child = os.fork()
    if child == 0:
        state, left = line(), [moment]
        checkpoints(folder).restore(state)
        state.step = 3

        def hook(event, args):
            if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(folder) in os.path.abspath(str(args[0])):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        checkpoints(folder).save(state)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_kill_at_any_moment_of_a_save_leaves_only_whole_checkpoints(tmp_path):
    saved_at(tmp_path / "start", 2)
    found, moment = set(), 0
    while True:
        folder = shutil.copytree(tmp_path / "start", tmp_path / str(moment))
        lived = dying_save(folder, moment)
        for path in filter(accepted, folder.iterdir()):
            step = "step-00000001" if path.name == "step-00000001" else "step-00000002"                     # step 3 saves what step 2 left
            want = read_tensors(tmp_path / "start" / step / "model.safetensors")
            assert all(torch.equal(v, want[k]) for k, v in read_tensors(path / "model.safetensors").items())
        last = newest(folder)
        verify(last)
        found.add(last.name)
        if lived:
            break
        state = line()
        checkpoints(folder).restore(state)
        checkpoints(folder).save(state)
        assert not list(folder.glob(".tmp-*"))                              # what the kill left is cleaned up
        moment += 1
    assert moment > 15 and found == {"step-00000002", "step-00000003"} and names(folder) == ["step-00000002", "step-00000003"]


def accepted(folder):
    try:
        return bool(find_run(folder))
    except (ValueError, FileNotFoundError):
        return False


def test_a_checkpoint_with_half_its_weights_written_is_not_accepted(tmp_path):
    saved_at(tmp_path, 1)
    half = shutil.copytree(tmp_path / "step-00000001", tmp_path / ".tmp-00000002-1")
    (half / "sha256.json").unlink()
    assert not accepted(half)
    content = (half / "model.safetensors").read_bytes()
    (half / "train.safetensors").unlink()
    for size in (0, 5, 100, len(content) - 1):
        (half / "model.safetensors").write_bytes(content[:size])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            read_tensors(half / "model.safetensors")


# Full disks

@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not root or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("only root can mount a small tmpfs; the simulated full disk is tested beside this")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_training_goes_on_once_there_is_room(small_disk, run, capsys):
    out = small_disk / "run"
    preset = tiny(fit={"steps": 6}, save={"checkpoint_steps": 2, "keep": 2})
    stop_after(train(preset, out), 3)
    fill(small_disk, leave=50_000)                                          # room for the log, not for a checkpoint of 190 kB
    assert main(["resume", str(out)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("t2ilab: could not save step 4 in ") and said[-1].endswith("earlier checkpoints are untouched")
    assert "No space left" in said[-1] and "Traceback" not in "".join(said) and names(out / "checkpoints") == ["step-00000002", "step-00000003"]
    fill(small_disk, leave=0)                                               # not even for a line of the log
    assert main(["resume", str(out)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"t2ilab: could not write {out}") and "No space left" in said[-1] and "Traceback" not in "".join(said)
    (small_disk / "50000").unlink()
    assert main(["resume", str(out)]) == 0 and saved(out) == saved(run)


def fill(disk, *, leave):
    """Take all of a disk's space except for some bytes."""
    with suppress(OSError), open(disk / str(leave), "wb", buffering=0) as ballast:
        while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > leave:
            ballast.write(bytes(1000))


def stop_after(steps, n):
    for _, _ in zip(range(n), steps):
        pass
    steps.close()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")])
def test_a_save_that_fails_leaves_earlier_checkpoints_and_no_rubbish(error, tmp_path, monkeypatch):
    state = saved_at(tmp_path, 2)
    before = digests(tmp_path)

    def full(tensors, path, metadata):
        path.write_bytes(b"the first half")
        raise error
    monkeypatch.setattr(module, "save_file", full)
    state.step = 3
    with pytest.raises(OSError, match="^could not save step 3 in .*No space left.*earlier checkpoints are untouched$"):
        checkpoints(tmp_path).save(state)
    assert digests(tmp_path) == before and newest(tmp_path).name == "step-00000002"


# What is not good enough to save, or to go on from

@pytest.mark.parametrize("part", ["model", "ema"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_saved(part, value, tmp_path):
    state = saved_at(tmp_path, 2)
    before = digests(tmp_path)
    with torch.no_grad():
        getattr(state, part).layer.weight[1, 2] = value
    state.step = 3
    with pytest.raises(FloatingPointError, match="^step 3: layer.weight is not finite; training stopped, and this step is not saved$"):
        checkpoints(tmp_path).save(state)
    assert digests(tmp_path) == before


def test_a_checkpoint_with_nan_of_an_older_version_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_not_finite", lambda state: None)
    state = saved_at(tmp_path, 1)
    with torch.no_grad():
        state.model.layer.bias[0] = float("nan")
    checkpoints(tmp_path).save(state)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="step-00000001: layer.bias is not finite, .* remove it to go on from an earlier one$"):
        checkpoints(tmp_path).restore(line())


@pytest.mark.parametrize("begun, gone_on", [("adamw", "muon"), ("muon", "adamw")])
def test_the_state_of_another_optimizer_is_never_taken_over(begun, gone_on, tmp_path):
    state = line(optimizer=begun, steps=1)
    for _ in fit(state.model, batches(), state.config, state=state):
        checkpoints(tmp_path).save(state)
    with pytest.raises(ValueError, match="step-00000001 is of a run with another optimizer: go on with that one"):
        checkpoints(tmp_path).restore(line(optimizer=gone_on))


@pytest.mark.slow
@pytest.mark.parametrize("begun, gone_on", [("fp32", "fp16"), ("bf16", "fp16"), ("fp16", "bf16"), ("fp16", "fp32")])
def test_the_precision_may_change_when_a_run_goes_on(begun, gone_on, tmp_path):
    list(train(tiny(fit={"steps": 3, "precision": begun}), tmp_path))
    steps = [log.step for log, _ in train(tiny(fit={"steps": 6, "precision": gone_on}), tmp_path)]
    assert steps == [4, 5, 6] and find_run(tmp_path).name == "step-00000006"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_everybody_may_read_weights_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        saved_at(tmp_path, 1)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "step-00000001").iterdir()} == {"0o640"}
