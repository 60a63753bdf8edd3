"""diffusers' DDPM folders become runs that answer and walk as diffusers does.

Every comparison runs twice: with what diffusers once answered (data/diffusers_ddpm.safetensors), and with
diffusers itself where it is installed.
"""
import json
from dataclasses import replace

import pytest
import torch
from make_diffusers_fixtures import STEPS, UNETS, ddpm, stored
from safetensors.torch import save_file
from test_pretrained_glide import weights
from tiny_runs import TINY
from torch.testing import assert_close

from t2ilab.cli import commands as cli
from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.constraints import clip
from t2ilab.diffusion.gaussian_denoiser import ObjectiveConfig
from t2ilab.diffusion.guidance import constrained, guided
from t2ilab.diffusion.sampling import trajectory
from t2ilab.families.ddpm import DDPMConfig
from t2ilab.nets.unet import UNet, UNetConfig
from t2ilab.presets import PRESETS
from t2ilab.presets.ddpm import HO
from t2ilab.pretrained.ddpm import convert, model_of
from t2ilab.pretrained.read import OLD_NAMES
from t2ilab.runs.folder import read_preset
from t2ilab.runs.load import load

SMALL = UNetConfig(channels=32)
MODELS = {
    "published": PRESETS["ddpm-cifar10"].model,
    "tiny": DDPMConfig(size=16, net=SMALL, objective=ObjectiveConfig(variance="large")),
    "improved": DDPMConfig(size=8, net=UNetConfig(channels=32, channel_mult=(1, 2), blocks=1, attention=(False, True),
                                            head_channels=16, scale_shift_norm=True))}
CLOSE = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=["stored", "live"])
def theirs(request):
    """(tensors, about) by diffusers: what it answered once, and what it answers now if it is here."""
    return stored("ddpm") if request.param == "stored" else ddpm(pytest.importorskip("diffusers"))


@pytest.fixture(scope="module")
def kept():
    """(tensors, about): what diffusers answered once."""
    return stored("ddpm")


@pytest.mark.slow
def test_diffusers_still_answers_what_was_stored(kept):
    (now, about), (then, known) = ddpm(pytest.importorskip("diffusers")), kept
    assert about["shapes"] == known["shapes"] and now.keys() == then.keys()
    for name, v in then.items():
        assert_close(now[name], v, rtol=1e-4, atol=1e-4, msg=name)


def process_of(about, name):
    return about["configs"]["process"] if name != "improved" else {"variance_type": "fixed_small"}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNETS)
@torch.no_grad()
def test_the_network_one_step_later_equals_diffusers(theirs, name):
    """Weight for weight, 35,746,307 of them as published, at their first and last times."""
    answers, about = theirs
    config, shapes = about["configs"][name], about["shapes"][name]
    model = model_of(config, process_of(about, name), MODELS[name])
    net = UNet(model.net).eval()
    net.load_state_dict(convert(weights(shapes), net, flip=config["flip_sin_to_cos"]))
    assert sum(p.numel() for p in net.parameters()) == 35_746_307 or name != "published"
    assert model.net.tf_layout == (name != "improved")
    assert model.objective.variance == ("small" if name == "improved" else "large")
    want = answers[f"{name}.out"]
    assert want.std() > 0.1
    assert_close(net(answers[f"{name}.x"], answers[f"{name}.t"] + 1, Cond()), want, **CLOSE)


def published_folder(folder, about, name, *, flat=False, old=False, pickled=False):
    """A folder as diffusers writes it.  flat: all at the top.  old: names of 2022.  pickled: as .bin."""
    unet, scheduler = (folder, folder) if flat else (folder / "unet", folder / "scheduler")
    for part in (folder, unet, scheduler):
        part.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    (unet / "config.json").write_text(json.dumps(about["configs"][name]))
    (scheduler / "scheduler_config.json").write_text(json.dumps(process_of(about, name)))
    state = weights(about["shapes"][name])
    for then, new in OLD_NAMES.items() if old else ():
        state = {k.replace(f".{new}.", f".{then}."): v for k, v in state.items()}
    if pickled:
        torch.save(state, unet / "diffusion_pytorch_model.bin")
    else:
        save_file(state, unet / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with presets of the small models."""
    monkeypatch.chdir(tmp_path)
    for name, model in MODELS.items():
        monkeypatch.setitem(PRESETS, f"ddpm-{name}", replace(TINY, model=model))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{}, {"flat": True, "old": True, "pickled": True}], ids=["parts", "flat"])
@torch.no_grad()
def test_a_folder_becomes_a_run_that_walks_as_diffusers_does(here, theirs, layout):
    """25 of DDPM's own steps from the same noise by the same draws."""
    answers, about = theirs
    published_folder(here / "given", about, "tiny", **layout)
    assert cli.main(["convert", "ddpm-tiny", "given", "--out", "run"]) == 0
    pipeline = load("run").to("cpu")
    denoise = constrained(guided(pipeline.model, Cond(), 1.0), *pipeline.stages[0].constrain)
    assert pipeline.stages[0].constrain == (clip,)
    times = [*range(1 + 1000 // STEPS * (STEPS - 1), 0, -1000 // STEPS), 0]      # theirs are one less
    g = torch.Generator().manual_seed(0)
    frames = list(trajectory(denoise, pipeline.model.diffusion, answers["walk.x_T"], times, generator=g))
    for k in (0, STEPS // 2, STEPS - 1):
        assert answers[f"walk.{k}"].std() > 0.5
        assert_close(frames[k].x, answers[f"walk.{k}"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_published_folder_becomes_a_run_of_its_preset(here, kept, capsys):
    published_folder(here / "ddpm-cifar10-32", kept[1], "published", flat=True, old=True)
    assert cli.main(["convert", "ddpm-cifar10", "ddpm-cifar10-32"]) == 0
    assert "t2ilab sample runs/ddpm-cifar10" in capsys.readouterr().out
    preset = read_preset(here / "runs" / "ddpm-cifar10")
    model = replace(MODELS["published"], net=replace(HO, tf_layout=True))
    assert preset == replace(PRESETS["ddpm-cifar10"], model=model)
    assert load("runs/ddpm-cifar10", sampling_steps=1)(1).shape == (1, 3, 32, 32)


def test_a_converted_run_samples(here, kept):
    published_folder(here / "given", kept[1], "improved")
    assert cli.main(["convert", "ddpm-improved", "given", "--out", "run"]) == 0
    config = read_preset(here / "run").model
    assert not config.net.tf_layout and config.objective.variance == "small"
    assert load("run", sampling_steps=3)(2).isfinite().all()


def changed(folder, file, **values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


NET, PROCESS = "unet/config.json", "scheduler/scheduler_config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("preset, break_it, message", [
    ("ddpm-cifar10", lambda f: None, "is another model than ddpm-cifar10, which has channels=128 for 32"),
    ("vq-coco", lambda f: None, "diffusers' DDPM (a folder); vq-coco is made of the original VQ-Diffusion"),
    ("ddpm-tiny", lambda f: (f / NET).unlink(), "given is of no layout that is known here"),
    ("ddpm-tiny", lambda f: (f / NET).write_text("{"), "config.json is no JSON"),
    ("ddpm-tiny", lambda f: (f / NET).write_text("[]"), "config.json holds no JSON object"),
    ("ddpm-tiny", lambda f: changed(f, NET, block_out_channels=None), "config.json is of no UNet2DModel"),
    ("ddpm-tiny", lambda f: changed(f, NET, center_input_sample=True), "sample=True: this model has False"),
    ("ddpm-tiny", lambda f: changed(f, NET, norm_eps=1e-3), "downsample_padding, norm_eps=(1, 0, 0.001)"),
    ("ddpm-tiny", lambda f: changed(f, NET, up_block_types=["UpBlock2D"] * 4), "up_block_types="),
    ("ddpm-tiny", lambda f: changed(f, PROCESS, num_train_timesteps=100), "num_train_timesteps=100"),
    ("ddpm-tiny", lambda f: changed(f, PROCESS, beta_end=0.01), "beta_end=0.01"),
    ("ddpm-tiny", lambda f: changed(f, PROCESS, beta_schedule="sigmoid"), "beta_schedule='sigmoid'"),
    ("ddpm-tiny", lambda f: (f / PROCESS).unlink(), "scheduler_config.json: no such file"),
    ("ddpm-tiny", lambda f: (f / WEIGHTS).unlink(), "diffusion_pytorch_model.bin: no such weights file"),
    ("ddpm-tiny", lambda f: save_file({"x": torch.zeros(1)}, f / WEIGHTS),
     "these weights are of another model: x is unexpected; conv_in.bias is missing")])
def test_a_folder_that_does_not_fit_is_one_line_and_no_run(here, kept, capsys, preset, break_it, message):
    break_it(published_folder(here / "given", kept[1], "tiny"))
    assert cli.main(["convert", preset, "given", "--out", "run"]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said and [path.name for path in here.iterdir()] == ["given"]


@pytest.mark.parametrize("schedule, predict, ours", [
    ("squaredcos_cap_v2", "v_prediction", ("cosine", "v")), ("linear", "sample", ("linear", "x0"))])
def test_what_a_folder_says_of_its_process_is_kept(kept, schedule, predict, ours):
    process = {"beta_schedule": schedule, "prediction_type": predict}
    model = model_of(kept[1]["configs"]["tiny"], process, MODELS["tiny"])
    assert (model.schedule, model.objective.predict) == ours
