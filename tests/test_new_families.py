"""A family is one file and one row: rectified flow over pixels, and a Gaussian process over the latents of a frozen codec.

Both train, resume, sample, inpaint and start from an image by the same code as the others; nothing asks what a state is.
"""
import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_unet import awake
from tiny_runs import NET, TINY
from tiny_vq import codec_run
from torch.testing import assert_close

from t2ilab.data.shapes import Scenes
from t2ilab.diffusion.gaussian import rectified_flow
from t2ilab.diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from t2ilab.families import FAMILIES, family_of
from t2ilab.families.base import FamilyConfig
from t2ilab.families.latent_diffusion import LatentDiffusionConfig
from t2ilab.families.rectified_flow import RectifiedFlowConfig
from t2ilab.pipeline.edit import Edit
from t2ilab.presets import PRESETS, Preset
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import generator

PACKAGE = Path(__file__).resolve().parents[1] / "t2ilab"
FLOW = RectifiedFlowConfig(size=8, net=NET, objective=ObjectiveConfig(predict="velocity", cond_drop_prob=0.2), sampling_steps=3)


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    codec = codec_run(tmp_path_factory.mktemp("codec"))
    return LatentDiffusionConfig(codec=codec, codebook_size=9, latent_channels=4, grid=4, size=8, net=NET, sampling_steps=3,
                           objective=ObjectiveConfig(predict="v", cond_drop_prob=0.2))


@pytest.fixture(params=["flow", "latent"])
def model(request, latent):
    return FLOW if request.param == "flow" else latent


@pytest.mark.slow
def test_a_new_family_trains_resumes_samples_and_is_rebuilt_from_its_config(model, tmp_path):
    preset = replace(TINY, model=model)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    list(train(preset, whole))
    steps = train(preset, halves)
    for _ in range(3):
        next(steps)
    steps.close()
    list(train(preset, halves))
    a, b = (load(folder).model.state_dict() for folder in (whole, halves))
    assert all(torch.equal(a[name], b[name]) for name in a)
    images = load(whole, guidance_scale=2.0)(["red circle", ""], seed=1)
    assert images.shape == (2, 3, 8, 8) and images.isfinite().all() and images.abs().max() <= 1


def test_a_new_family_inpaints_and_starts_from_an_image(model):
    torch.manual_seed(0)
    pipeline = replace(model, labels=Scenes.classes).pipeline()
    awake(pipeline.model.eval())
    image = 2 * torch.rand(1, 3, 8, 8, generator=generator(1)) - 1
    keep = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    keep[..., :4] = True
    stage, wanted = pipeline.stages[0], None
    for name, value in pipeline.walk(["red circle"], edit=Edit(image, keep)):
        wanted = value.x0 if name == "frame" else wanted
    half = wanted.shape[-1] // 2
    assert_close(wanted[..., :half], stage.encode(image)[..., :half])
    assert (wanted[..., half:] - stage.encode(image)[..., half:]).abs().max() > 1e-3
    weak = pipeline(["red circle"], edit=Edit(image, strength=0.4))
    assert weak.shape == (1, 3, 8, 8) and not torch.equal(weak, pipeline(["red circle"]))


def test_latents_have_the_scale_that_the_process_expects_and_wrong_widths_are_one_line(latent):
    fitted = latent.fit_to_dataset(Scenes(size=8))
    batch = torch.stack([Scenes(size=8).example(k, generator(k)).image for k in range(64)]).float() / 127.5 - 1
    assert 0.7 < fitted.latents.encode(batch).std() < 1.4 and fitted.codec_weights and fitted.labels == Scenes.classes
    assert fitted.fit_to_dataset(Scenes(size=8)) == fitted                                  # a run that goes on keeps its scale
    with pytest.raises(ValueError, match="latent_channels=5: the latents of codec=.* have 4 channels"):
        replace(latent, latent_channels=5).fit_to_dataset(Scenes(size=8))


def test_latents_may_lie_anywhere_and_pixels_may_not():
    net = lambda x, t, cond: 0 * x                                                          # noqa: E731
    far = torch.full((2, 4, 4, 4), 7.0)
    assert GaussianDenoiser(net, rectified_flow(10), pixels=False).loss(far, generator=generator(0)).shape == (2,)
    with pytest.raises(ValueError, match="training wants pixels in"):
        GaussianDenoiser(net, rectified_flow(10)).loss(far, generator=generator(0))


def test_a_flow_learns_one_image_and_draws_it_in_a_few_euler_steps():
    """Rectified flow: for a data set of one image the velocity is (x_t - x_0) T / t, which one Euler step follows home."""
    torch.manual_seed(0)
    x0 = 2 * torch.rand(1, 3, 8, 8, generator=generator(1)) - 1
    process = rectified_flow(1000)
    denoiser = GaussianDenoiser(lambda x, t, cond: (x - x0) / (t / 1000).view(-1, 1, 1, 1), process, ObjectiveConfig(predict="velocity"))
    assert denoiser.loss(x0.expand(4, -1, -1, -1), generator=generator(2)).abs().max() < 1e-6
    x = process.prior((1, 3, 8, 8), generator=generator(3))
    for t, s in ((1000, 400), (400, 0)):
        x = process.step(denoiser(x, t), x, t, s, eta=0.0)
    assert_close(x, x0, rtol=0.0, atol=1e-5)


@pytest.mark.slow
def test_a_family_is_one_file_and_one_row():
    """No module but the table of families, its presets and tests names a family's class."""
    for name, kind in {"rectified_flow": "RectifiedFlowConfig", "latent_diffusion": "LatentDiffusionConfig"}.items():
        assert FAMILIES[name].__name__ == kind
        users = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf8")))
                 if isinstance(node, ast.ImportFrom) and kind in {alias.name for alias in node.names}}
        assert users == {"families/__init__.py", f"presets/{name}.py"}


def test_every_family_obeys_the_protocol():
    for preset in PRESETS.values():
        assert isinstance(preset.model, FamilyConfig) and preset.family == family_of(preset.model)
        assert preset.model.reads in ("text", "label", "none") and preset.to_dict()["family"] == preset.family


def test_a_preset_of_something_else_is_refused_when_it_is_made():
    with pytest.raises(TypeError, match="ObjectiveConfig is the config of no family: choose one of DDPMConfig, "):
        Preset("x", ObjectiveConfig())
