"""Runs that draw codes: guidance learned afterwards, and the codec that a run was trained with."""
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_unet import awake
from test_vq_diffusion import CAPTIONS
from tiny_runs import saved
from tiny_vq import BASE, CLASSES, RUN, codec_run

from t2ilab.data.shapes import Scenes
from t2ilab.diffusion.token_denoiser import TokenObjectiveConfig
from t2ilab.families.frozen_codec import fingerprint
from t2ilab.runs.export import export
from t2ilab.runs.folder import find_run, read_preset
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.training.checkpoint import save_weights

pytestmark = pytest.mark.slow           # it trains, samples or converts models


def test_guidance_can_be_learned_afterwards(tmp_path):
    """A run that never saw an empty caption is tuned with some dropped; it stays as it is, and what it knew is kept."""
    first = replace(RUN, model=replace(BASE, guidance_scale=1.0, objective=TokenObjectiveConfig()))
    for _ in train(first, tmp_path / "first"):
        pass
    with pytest.raises(ValueError, match="nothing to push away from"):
        load(tmp_path / "first", guidance_scale=3.0)
    before = saved(tmp_path / "first")
    tuned = replace(RUN, init_from=str(tmp_path / "first"), fit=replace(RUN.fit, steps=1, lr=1e-30))
    for _ in train(tuned, tmp_path / "tuned"):
        pass
    assert saved(tmp_path / "first") == before
    ours, theirs = (load(folder, guidance_scale=1.0).model.net.state_dict() for folder in (tmp_path / "tuned", tmp_path / "first"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and ours.keys() - theirs.keys() == {"null_embedding"}
    assert load(tmp_path / "tuned", guidance_scale=3.0)(CAPTIONS).shape == (2, 3, 8, 8)


def test_guidance_by_labels_can_be_learned_afterwards(tmp_path):
    """As the published ImageNet model was: "no label" becomes the last row of every table of labels, and the other rows are kept."""
    first = replace(RUN, model=replace(CLASSES, guidance_scale=1.0, objective=TokenObjectiveConfig(), labels=tuple(Scenes().classes)))
    (tmp_path / "first").mkdir()
    save_weights(awake(first.model.build()), tmp_path / "first" / "model.safetensors")                   # a run on pictures that all have a label
    (tmp_path / "first" / "config.json").write_text(json.dumps(first.to_dict()))
    list(train(replace(first, model=CLASSES, init_from=str(tmp_path / "first"), fit=replace(RUN.fit, steps=1, lr=1e-30)), tmp_path / "tuned"))
    ours, theirs = (load(tmp_path / name, guidance_scale=1.0).model.net.state_dict() for name in ("tuned", "first"))
    assert all(torch.equal(ours[name][:len(theirs[name])], theirs[name]) for name in theirs)
    assert {name for name in theirs if len(ours[name]) != len(theirs[name])} == {f"blocks.{n}.mlp_norm.table.weight" for n in range(2)}
    assert load(tmp_path / "tuned", guidance_scale=3.0)(["red circle", ""]).shape == (2, 3, 8, 8)


def test_a_run_knows_the_weights_of_its_codec(tmp_path):
    """Codes are names: after another training, the same numbers paint something else."""
    preset = replace(RUN, model=replace(BASE, codec=codec_run(made(tmp_path / "codec"))))
    list(train(preset, tmp_path / "run"))
    known = json.loads((tmp_path / "run" / "config.json").read_text())["model"]["codec_weights"]
    assert len(known) == 16 and known == fingerprint(replace(preset.model, codec_weights="").frozen_codec.whole)
    export(tmp_path / "codec", tmp_path / "small")
    same = load(tmp_path / "run", codec=str(tmp_path / "small"))(CAPTIONS)                                     # half precision is the same codec
    assert (same - load(tmp_path / "run")(CAPTIONS)).abs().max() < 0.05
    weights = load_file(tmp_path / "codec" / "model.safetensors")
    save_file({k: 1.01 * v if v.is_floating_point() else v for k, v in weights.items()}, tmp_path / "codec" / "model.safetensors")
    with pytest.raises(ValueError, match=f"has other weights than the model was trained with .* not {known}.*bring the old ones back"):
        load(tmp_path / "run")(CAPTIONS)
    with pytest.raises(FileExistsError, match="another model"):
        list(train(replace(preset, model=replace(preset.model)), tmp_path / "run"))                              # as a new process reads it
    with pytest.raises(ValueError, match="has other weights"):
        list(train(replace(preset, init_from=str(tmp_path / "run")), tmp_path / "tuned"))
    with pytest.raises(FileNotFoundError, match="codec='gone', as the model that draws its codes names it: gone: no"):
        load(tmp_path / "run", codec="gone")(CAPTIONS)


def test_a_run_from_before_codecs_had_fingerprints_goes_on(tmp_path):
    list(train(replace(RUN, fit=replace(RUN.fit, steps=1)), tmp_path / "run"))
    config = tmp_path / "run" / "config.json"
    saved_config = json.loads(config.read_text())
    del saved_config["model"]["codec_weights"]
    config.write_text(json.dumps(saved_config))
    preset = read_preset(tmp_path / "run")
    assert len(list(train(replace(preset, fit=replace(RUN.fit, steps=3)), tmp_path / "run"))) == 2


def test_only_a_row_for_no_label_may_be_new(tmp_path):
    """17 labels and "no label" are as many rows as 18 labels."""
    first = replace(RUN, model=replace(CLASSES, net=replace(CLASSES.net, classes=17), labels=("x",) * 17))
    (tmp_path / "first").mkdir()
    save_weights(first.model.build(), tmp_path / "first" / "model.safetensors")
    (tmp_path / "first" / "config.json").write_text(json.dumps(first.to_dict()))
    with pytest.raises(ValueError, match="does not fit this model"):
        list(train(replace(first, model=CLASSES, init_from=str(tmp_path / "first")), tmp_path / "tuned"))


def test_weights_without_a_checkpoint_are_begun_with_elsewhere(tmp_path):
    list(train(replace(RUN, fit=replace(RUN.fit, steps=1)), tmp_path / "run"))
    export(find_run(tmp_path / "run"), tmp_path / "small")
    with pytest.raises(FileExistsError, match="begin with them in another folder: --init-from"):
        list(train(RUN, tmp_path / "small"))
    assert {path.name for path in (tmp_path / "small").iterdir()} == {"model.safetensors", "config.json"}


def test_a_run_begins_with_the_places_and_the_codec_of_the_first(tmp_path):
    codec = codec_run(made(tmp_path / "codec"))
    flat = replace(RUN, model=replace(BASE, codec=codec, net=replace(BASE.net, position_table=6, flat_positions=True)))
    list(train(flat, tmp_path / "first"))
    tuned = replace(flat, model=replace(flat.model, codec="runs/gone", net=replace(flat.model.net, flat_positions=False)), init_from=str(tmp_path / "first"),
                    fit=replace(RUN.fit, steps=1, lr=1e-30))
    list(train(tuned, tmp_path / "tuned"))
    assert read_preset(tmp_path / "tuned").model.net.flat_positions and read_preset(tmp_path / "tuned").model.codec == codec
    assert load(tmp_path / "tuned")(CAPTIONS).equal(load(tmp_path / "first")(CAPTIONS))


def made(folder):
    folder.mkdir()
    return folder
