"""A run from Python in one call: `t2ilab.sample` and `t2ilab.sample_class`."""
import json
from dataclasses import replace

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_vq import BASE, CLASSES, RUN

import t2ilab
from t2ilab.evaluation.ablations.unmasking import methods
from t2ilab.runs.export import export
from t2ilab.runs.folder import find_run
from t2ilab.runs.load import load
from t2ilab.runs.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("vq") / "run"
    list(train(replace(RUN, model=replace(CLASSES, guidance_scale=1.0)), out))
    return out


@pytest.mark.slow
def test_sample_is_a_loaded_run_with_these_settings(run):
    settings = dict(truncation=0.5, guidance_scale=3.0, sampling_steps=4)
    want = load(run, **settings)(["red circle", "4", ""], seed=2)
    assert t2ilab.sample(run, ["red circle", 4, ""], seed=2, **settings).equal(want)
    assert t2ilab.sample(run, 2).equal(load(run)(2))
    assert t2ilab.sample_class(run, 4, n=3, seed=1).equal(load(run)(["4"] * 3, seed=1))


def test_settings_of_one_call_are_not_those_of_the_next(run):
    first = t2ilab.sample(run, ["4"], seed=3)
    changed = t2ilab.sample(run, ["4"], seed=3, guidance_scale=5.0, sampler="purity", prior_weight=1.0)
    assert not changed.equal(first) and t2ilab.sample(run, ["4"], seed=3).equal(first)


@pytest.mark.slow
def test_every_method_has_its_name(run):
    for name, fields in methods(BASE.T, 2.0).items():
        assert t2ilab.sample(run, ["4"], method=name).equal(load(run, **fields)(["4"])), name
    assert t2ilab.sample(run, ["4"], method="fast", sampling_steps=3).equal(load(run, **methods(BASE.T, 2.0)["fast"] | {"sampling_steps": 3})(["4"]))


def test_weights_that_were_written_anew_are_read_anew(run, tmp_path):
    export(find_run(run), tmp_path / "mine")
    first = t2ilab.sample(tmp_path / "mine", ["4"])
    weights = tmp_path / "mine" / "model.safetensors"
    save_file({k: v + 1 if v.is_floating_point() else v for k, v in load_file(weights).items()}, weights)
    assert not t2ilab.sample(tmp_path / "mine", ["4"]).equal(first)


def test_sampling_in_one_call_leaves_named_pictures(run, tmp_path):
    t2ilab.sample(run, ["red circle", 4], out=tmp_path / "s", sampling_steps=2)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["000_red-circle_seed0.png", "001_4_seed0.png", "grid.png", "samples.json"]
    assert Image.open(tmp_path / "s" / "001_4_seed0.png").text["Description"] == "4"
    assert json.loads((tmp_path / "s" / "samples.json").read_text())["sampling_steps"] == 2


def test_sampling_in_one_call_refuses_in_one_line(run):
    for options, words in ((dict(captions=["red circle"], method="faster"), "choose one of 'plain', 'guidance', 'high quality'"), (dict(captions="red circle"), "one string"),
                           (dict(captions=["no such"]), "no class 'no such'"), (dict(captions=[True]), "no class 'true'"),
                           (dict(captions=["4"], steps=3), "no steps to choose")):
        with pytest.raises(ValueError, match=words):
            t2ilab.sample(run, **options)
    with pytest.raises(ValueError, match="ddpm-shapes draws no codes"):
        t2ilab.sample("ddpm-shapes", ["red circle"], method="fast")


@pytest.mark.slow
def test_another_sampler_takes_no_weight_from_a_method_or_a_run(run, tmp_path):
    want = load(run, **methods(BASE.T, 2.0)["purity"] | {"sampler": "ancestral", "prior_weight": 0.0})(["4"])
    assert t2ilab.sample(run, ["4"], method="purity", sampler="ancestral").equal(want)
    list(train(replace(RUN, model=replace(CLASSES, sampler="purity", prior_weight=2.0)), tmp_path / "run"))
    assert load(tmp_path / "run", sampler="even")(["4"]).equal(load(tmp_path / "run", sampler="even", prior_weight=0.0)(["4"]))
    with pytest.raises(ValueError, match="for sampler='purity'"):
        load(tmp_path / "run", sampler="even", prior_weight=1.0)


@pytest.mark.slow
def test_a_later_stage_that_was_written_anew_is_read_anew(tmp_path):
    export(find_run("glide-shapes"), tmp_path / "glide-shapes")
    export(find_run("glide-shapes-upsampler"), tmp_path / "glide-shapes-upsampler")
    first = t2ilab.sample(tmp_path / "glide-shapes", ["a red circle"], sampling_steps=2)
    weights = tmp_path / "glide-shapes-upsampler" / "model.safetensors"
    save_file({k: 0 * v for k, v in load_file(weights).items()}, weights)
    assert first.shape[-1] == 64 and not t2ilab.sample(tmp_path / "glide-shapes", ["a red circle"], sampling_steps=2).equal(first)
