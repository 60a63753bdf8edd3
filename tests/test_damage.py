"""Checkpoints that were damaged, or never were any: noticed, named in one line, passed over, and never run."""
import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import save_file
from test_checkpoint import saved_at
from test_fit import weights
from tiny_runs import FILES, flip, mine, names, run, saved, tiny  # noqa: F401
from torch import nn

from t2ilab.cli.commands import main
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.training import checkpoint as module
from t2ilab.training.checkpoint import load_weights, read_tensors, save_weights, verify


def refused(name, match):
    """load(name) is a ValueError or FileNotFoundError of one line."""
    with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
        load(name)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_one_flipped_byte_in_any_file_is_found_and_resuming_takes_the_checkpoint_before(file, mine, run):
    flip(mine / "checkpoints" / "step-00000006" / file)
    with pytest.raises(ValueError, match=f"step-00000006.*{'whole' if file == 'sha256.json' else file}"):
        verify(mine / "checkpoints" / "step-00000006")
    refused(mine / "checkpoints" / "step-00000006", "step-00000006")
    with pytest.warns(UserWarning, match="passing over a checkpoint: .*step-00000006"):
        list(train(tiny(save={"checkpoint_steps": 2, "keep": 3}), mine))
    assert saved(mine) == saved(run) and names(mine / "checkpoints") == ["step-00000002", "step-00000004", "step-00000006"]
    for path in (mine / "checkpoints").iterdir():
        verify(path)


def test_a_flipped_byte_anywhere_in_the_list_of_checksums_is_found(tmp_path):
    saved_at(tmp_path, 1)
    folder = tmp_path / "step-00000001"
    for place in range(0, (folder / "sha256.json").stat().st_size - 1, 7):
        flip(folder / "sha256.json", place)
        with pytest.raises(ValueError, match="step-00000001"):
            verify(folder)
        flip(folder / "sha256.json", place)
    verify(folder)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_or_empty_file_makes_a_checkpoint_not_whole(file, mine):
    path = mine / "checkpoints" / "step-00000006" / file
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="step-00000006"):
        verify(path.parent)
    path.unlink()
    with pytest.raises(ValueError, match="step-00000006"):
        verify(path.parent)


def test_a_run_whose_checkpoints_are_all_damaged_is_not_loaded(mine):
    for path in (mine / "checkpoints").iterdir():
        flip(path / "model.safetensors")
    with pytest.warns(UserWarning, match="passing over"):
        refused(mine, "mine: every checkpoint there is damaged$")


def test_loading_a_run_with_a_damaged_checkpoint_takes_the_one_before_and_says_so(mine):
    flip(mine / "checkpoints" / "step-00000006" / "train.safetensors")
    with pytest.warns(UserWarning, match="step-00000006.*train.safetensors is damaged"):
        pipeline = load(mine)
    want = read_tensors(mine / "checkpoints" / "step-00000004" / "model.safetensors")
    assert all(torch.equal(v, want[k]) for k, v in pipeline.stages[0].denoiser.state_dict().items())


def test_a_run_that_is_not_there_says_so(tmp_path):
    refused(tmp_path / "nothing", "nothing: no trained run there$")
    refused(tmp_path, "no trained run there$")
    refused("ddpm-cifar10", "train it: t2ilab train ddpm-cifar10$")


# Weights that are not ours

class Evil:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [lambda evil, path: path.write_bytes(pickle.dumps(evil)), lambda evil, path: torch.save({"w": evil}, path)],
                         ids=["pickle", "torch.save"])
def test_a_pickle_that_pretends_to_be_weights_is_never_run(dump, mine, tmp_path, capsys):
    evil = Evil(tmp_path / "it ran")
    exported = tmp_path / "exported"
    shutil.copytree(mine / "checkpoints" / "step-00000006", exported)
    (exported / "train.safetensors").unlink()
    dump(evil, exported / "model.safetensors")
    refused(exported, "not a whole safetensors file .* pickles are never loaded$")
    for name in ("model.safetensors", "train.safetensors"):                 # also where the checksum is right
        folder = mine / "checkpoints" / "step-00000006"
        dump(evil, folder / name)
        sums = json.loads((folder / "sha256.json").read_text()) | {name: module._digest(folder / name)}
        (folder / "sha256.json").write_text(json.dumps(sums))
        assert main(["resume", str(mine)]) == 1 and "pickles are never loaded" in capsys.readouterr().err.splitlines()[-1]
    assert not evil.path.exists()
    pickle.loads(pickle.dumps(evil))
    assert evil.path.exists()                                               # it would have worked


@pytest.mark.parametrize("change, said", [
    (lambda t: t | {"weight": torch.zeros(3, 2)}, r"weight \[3, 2\], model wants \[2, 3\]$"),
    (lambda t: {"weight": t["weight"]}, r"bias missing, model wants \[2\]$"),
    (lambda t: t | {"extra": torch.zeros(1)}, "extra not in the model$"),
    (lambda t: {"extra": torch.zeros(1)}, r"weight missing, model wants \[2, 3\] \(and 2 more\)$")])
def test_weights_of_another_model_are_refused_with_the_first_that_differs(change, said, tmp_path):
    model, path = nn.Linear(3, 2), tmp_path / "model.safetensors"
    save_weights(model, path)
    save_file(change(read_tensors(path)), tmp_path / "other.safetensors")
    before = weights(model).clone()
    with pytest.raises(ValueError, match=f"other.safetensors does not fit this model: {said}"):
        load_weights(model, tmp_path / "other.safetensors")
    assert torch.equal(weights(model), before)
    load_weights(nn.Linear(3, 2), path)
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        load_weights(model, tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b'"ddpm"', b"\xff\xfe\x00", b'{"family": "vqgan"}', b'{"family": ["ddpm"]}', b'{"family": "ddpm"}',
    b'{"family": "ddpm", "name": "x", "model": 5}', b'{"family": "ddpm", "name": "x", "model": {"net": [1]}}',
    b'{"family": "ddpm", "name": "x", "model": {"schedule": "square"}}', b'{"family": "ddpm", "name": "x", "model": {"warp": 9}}',
    b'{"family": "ddpm", "name": "x", "model": {"size": "32"}}', b'{"family": "ddpm", "name": "x", "model": {"T": null}}',
    b'{"family": "ddpm", "name": "x", "model": {}, "fit": {"betas": 0.9}}', b'{"family": "ddpm", "name": 3, "model": {}}'])
def test_a_config_that_is_none_is_one_line_that_names_the_trouble(content, mine, tmp_path):
    exported = shutil.copytree(mine / "checkpoints" / "step-00000006", tmp_path / "exported")
    (exported / "train.safetensors").unlink()
    (exported / "config.json").write_bytes(content)
    refused(exported, "config|family|field|schedule='square'|(DDPM.size='32'|DDPM.T=None|FitConfig.betas=0.9|Preset.name=3) should be (int|tuple|str)")
