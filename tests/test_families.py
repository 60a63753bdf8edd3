"""The DDPM family: its published sizes, one real step of every preset, labels that reach the network, and training that starts."""
from dataclasses import replace
from itertools import repeat

import pytest
import torch
from tiny_runs import tiny

from t2ilab.data.loaders import Batch
from t2ilab.data.shapes import Scenes
from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.gaussian_denoiser import ObjectiveConfig
from t2ilab.families import FAMILIES
from t2ilab.families.ddpm import DDPMConfig
from t2ilab.presets import PRESETS as ALL
from t2ilab.tensors import generator
from t2ilab.training.fit import TrainState, fit

PRESETS = {name: preset for name, preset in ALL.items() if preset.family == "ddpm"}
SIZES = {"ddpm-shapes": 2_686_860, "ddpm-cifar10": 35_746_307, "iddpm-cifar10": 52_546_438, "ddpm-flowers102": 92_025_731}


def denoiser(preset):
    return preset.model.build()


def batch(size, n=2):
    data = Scenes(size=size)
    examples = [data.example(i, generator(i)) for i in range(n)]
    return Batch(torch.stack([e.image for e in examples]) / 127.5 - 1, [e.caption for e in examples], torch.tensor([e.label for e in examples]))


def narrow(preset):
    """The same preset with a network of 32 channels."""
    return replace(preset, model=replace(preset.model, sampling_steps=2, net=replace(preset.model.net, channels=32, head_channels=32)))


def test_every_preset_is_of_a_known_family_and_named_after_itself():
    assert PRESETS.keys() == SIZES.keys() and ALL.keys() == {preset.name for preset in ALL.values()}
    assert all(isinstance(preset.model, FAMILIES[preset.family]) for preset in ALL.values())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_their_published_size(name):
    with torch.device("meta"):
        net = denoiser(PRESETS[name])
    assert sum(p.numel() for p in net.parameters()) == SIZES[name] and all(p.requires_grad for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_at_full_size_takes_one_training_step(name):
    preset = PRESETS[name]
    torch.manual_seed(0)
    model = denoiser(preset)
    state = TrainState(model, replace(preset.fit, batch_size=1, precision="fp32", warmup=0))
    before = model.net.conv_out[-1].weight.detach().clone()
    log, _ = next(fit(model, repeat(preset.model.to_training_pair(batch(preset.model.size, 1))), state.config, state=state))
    assert 0 < log.loss < 20 and 0 < log.grad_norm < float("inf") and not torch.equal(model.net.conv_out[-1].weight, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_narrow_copy_of_a_preset_samples(name):
    pipeline = narrow(PRESETS[name]).model.pipeline()
    size = PRESETS[name].model.size
    images = pipeline(1)
    assert images.shape == (1, 3, size, size) and images.isfinite().all() and images.abs().max() <= 1


def test_presets_say_what_the_papers_say():
    ho, iddpm, flowers = (PRESETS[name] for name in ("ddpm-cifar10", "iddpm-cifar10", "ddpm-flowers102"))
    assert (ho.model.schedule, ho.model.T, ho.model.objective.predict, ho.model.objective.variance) == ("linear", 1000, "eps", "large")
    assert (ho.fit.batch_size, ho.fit.lr, ho.fit.ema_decay, ho.fit.warmup, ho.model.net.dropout, ho.data.flip) == (128, 2e-4, 0.9999, 5000, 0.1, True)
    assert (iddpm.model.schedule, iddpm.model.T, iddpm.model.objective.variance, iddpm.model.objective.loss) == ("cosine", 4000, "learned", "hybrid")
    assert (iddpm.fit.batch_size, iddpm.fit.lr, iddpm.model.net.dropout, iddpm.model.net.scale_shift_norm) == (128, 1e-4, 0.3, True)
    assert flowers.model.size == 64 and flowers.data.split == "all"


# Labels

def test_examples_carry_labels_and_a_missing_one_is_no_label():
    x0, cond = tiny().model.to_training_pair(Batch(torch.zeros(3, 3, 8, 8), ["", "", ""], torch.tensor([4, -1, 17])))
    assert x0.shape == (3, 3, 8, 8) and cond.text.tolist() == [[4], [0], [17]] and cond.mask.tolist() == [[True], [False], [True]]
    _, cond = tiny(net={"classes": 0}).model.to_training_pair(batch(8))
    assert cond == Cond()


def test_training_fills_in_the_names_of_the_classes():
    assert tiny().model.fit_to_dataset(Scenes(size=8)).labels == Scenes.classes
    model = tiny(net={"classes": 0}).model
    assert model.fit_to_dataset(Scenes(size=8)) == model
    with pytest.raises(ValueError, match="classes=7, but the data set has 18: train with --classes 18"):
        tiny(net={"classes": 7}).model.fit_to_dataset(Scenes(size=8))


@pytest.mark.slow
def test_a_network_learns_which_label_is_which_and_guidance_pushes_further():
    """Two labels, two plain pictures, dark and bright: after training a label gives its own, and no label gives either."""
    preset = tiny(net={"classes": 2, "channels": 16, "dropout": 0.0}, objective={"cond_drop_prob": 0.2},
                  model={"sampling_steps": 5, "labels": ("dark", "bright")},
                  fit={"steps": 120, "batch_size": 16, "lr": 5e-3, "warmup": 5, "ema_decay": 0.9})
    torch.manual_seed(0)
    pipeline = preset.model.pipeline()
    labels = torch.arange(16) % 2
    x0 = (labels.float() - 0.5)[:, None, None, None].expand(16, 3, 8, 8)            # -0.5 or 0.5 everywhere
    for _, ema in fit(pipeline.stages[0].denoiser, repeat(preset.model.to_training_pair(Batch(x0, [""] * 16, labels))), preset.fit):
        pass
    stage = replace(pipeline.stages[0], denoiser=ema)
    means = replace(pipeline, stages=(stage,))(["dark", "bright", "0", "1"]).mean((1, 2, 3))
    assert torch.tensor([-0.5, 0.5, -0.5, 0.5]).sub(means).abs().max() < 0.2
    pushed = replace(pipeline, stages=(replace(stage, guidance_scale=3.0),))(["dark", "bright"]).mean((1, 2, 3))
    assert pushed[0] < means[0] - 0.02 and pushed[1] > means[1] + 0.02


# Options that make no sense

@pytest.mark.parametrize("wrong, said", [(lambda: DDPMConfig(schedule="square"), "schedule='square': choose one of linear, cosine"),
                                         (lambda: DDPMConfig(sampler="euler"), "sampler='euler': choose one of ancestral, ddim, dpm_solver_pp_2m"),
                                         (lambda: DDPMConfig(schedule="linear", T=10).pipeline(), "T=10: choose T > 20"),
                                         (lambda: DDPMConfig(objective=ObjectiveConfig(loss="hybrid")), "set variance='learned'")])
def test_a_model_that_cannot_be_is_refused_with_what_is_allowed(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()


def test_a_learned_variance_doubles_the_channels_and_reaches_sampling():
    net = denoiser(narrow(PRESETS["iddpm-cifar10"]))
    pred = net(torch.zeros(1, 3, 32, 32), 5)
    assert pred.x0.shape == pred.var.shape == (1, 3, 32, 32) and 0 <= pred.var.min() <= pred.var.max() <= 1
