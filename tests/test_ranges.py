"""Every number of every config has a range: outside of it, one line that names the field."""
import math
import re
import typing
from dataclasses import fields, is_dataclass, replace

import pytest

from t2ilab.cli import main
from t2ilab.data.web.download import FetchConfig
from t2ilab.diffusion.gaussian_denoiser import ObjectiveConfig
from t2ilab.diffusion.token_denoiser import TokenObjectiveConfig
from t2ilab.families import FAMILIES
from t2ilab.nets.efficient_unet import EfficientUNetConfig
from t2ilab.nets.text_transformer import TextConfig
from t2ilab.nets.token_transformer import TokenTransformerConfig
from t2ilab.nets.unet import UNetConfig
from t2ilab.presets import PRESETS, DataConfig, SaveConfig
from t2ilab.ranges import RANGES
from t2ilab.runs.sample import SamplingOptions
from t2ilab.training.fit import FitConfig
from t2ilab.vqgan.discriminator import DiscriminatorConfig
from t2ilab.vqgan.networks import VQGANConfig
from t2ilab.vqgan.objective import VQGANLossConfig

CONFIGS = [*FAMILIES.values(), ObjectiveConfig, TokenObjectiveConfig, UNetConfig, EfficientUNetConfig, TextConfig, TokenTransformerConfig,
           VQGANConfig, VQGANLossConfig, DiscriminatorConfig, FitConfig, DataConfig, SaveConfig, FetchConfig, SamplingOptions]

# Numbers that mean something: 0 = off, none or as they come; -1 = guided away from what is asked for.
ZERO = {
    "classes", "text_width", "position_table", "used", "low_res", "crop_size", "top_k", "discriminator_start",
    "warmup", "workers", "checkpoint_steps", "sample_steps", "validate_steps", "low_res_noise", "prior_weight",
    "weight_decay", "bound", "auxiliary", "absolute", "squared", "perceptual", "adversarial", "known", "augmentation",
    "replaced", "masked", "max_broken", "validation", "dropout", "cond_drop_prob", "betas", "ema_decay", "guidance_scale", "seed"}
BELOW_ZERO = {"guidance_scale", "seed"}
NEEDED = {("EfficientUNetConfig", "text_width"), ("GLIDEConfig", "text_width"), ("ImagenConfig", "text_width")}     # 0 is refused here

def numbers(config):
    """(field, whether it holds floats, whether only tuples) of the fields of a config that hold numbers."""
    hints = typing.get_type_hints(config)
    for field in fields(config):
        hint = hints[field.name]
        several = typing.get_origin(hint) is tuple
        kinds = {kind for part in (hint, *typing.get_args(hint)) for kind in (part, *typing.get_args(part))}
        if kinds & {int, float}:
            yield field.name, float in kinds, several


def made(config):
    """A config as a preset has it, or else with its defaults."""
    return next((preset.model for preset in PRESETS.values() if type(preset.model) is config), None) or config()


CASES = [pytest.param(config, field, several, value, id=f"{config.__name__}-{field}={value}")
         for config in CONFIGS for field, is_float, several in numbers(config)
         for value in (0, -1, *((math.nan, math.inf, -math.inf) if is_float else ()))]


def allowed(config, field, value):
    """Whether a number is one that a field may hold."""
    if value == 0:
        return field in ZERO and (config.__name__, field) not in NEEDED
    return value == -1 and field in BELOW_ZERO


def placed(config, field, several, value):
    """The config with one number in a field, first among its others where the field holds several."""
    old = getattr(config, field)
    return replace(config, **{field: (value, *(old or ())[1:]) if several else value})


@pytest.mark.parametrize("config, field, several, value", CASES)
def test_a_number_out_of_range_is_one_line_with_its_field_and_others_are_taken(config, field, several, value):
    config = made(config)
    if allowed(type(config), field, value):
        placed(config, field, several, value)
        return
    with pytest.raises(ValueError, match=rf"\b{field}=") as error:
        placed(config, field, several, value)
    assert "\n" not in str(error.value)


def test_every_number_has_a_range_and_every_range_a_number():
    named = {field for config in CONFIGS for field, *_ in numbers(config)}
    assert named == RANGES.keys() - {"strength", "n", "seeds"}       # of edits and of commands


def test_every_config_of_the_families_and_presets_is_among_them():
    def parts(config):
        yield type(config)
        for part in (getattr(config, field.name) for field in fields(config)):
            if is_dataclass(part):
                yield from parts(part)
    kinds = {kind for preset in PRESETS.values() for kind in parts(preset)} - {type(PRESETS["ddpm-shapes"])}
    assert kinds <= set(CONFIGS)


@pytest.mark.parametrize("preset, option, value", [
    ("ddpm-shapes", "T", "0"), ("ddpm-shapes", "channels", "0"), ("ddpm-shapes", "blocks", "0"), ("ddpm-shapes", "head_channels", "0"),
    ("ddpm-shapes", "lr", "-0.1"), ("ddpm-shapes", "ema_decay", "2.0"), ("ddpm-shapes", "cond_drop_prob", "3.0"), ("ddpm-shapes", "batch_size", "0"),
    ("ddpm-shapes", "sampling_steps", "0"), ("ddpm-shapes", "guidance_scale", "nan"), ("ddpm-shapes", "limit", "0"), ("ddpm-shapes", "workers", "-1"),
    ("ddpm-shapes", "seed", str(2**63)), ("ddpm-shapes", "seed", str(-2**63 - 1)),
    ("flow-shapes", "T", "-1"), ("latent-shapes", "scale", "0.0"), ("glide-shapes", "text_layers", "0"), ("glide-shapes", "sampling_steps", "0"),
    ("imagen-shapes", "encoder_width", "0"), ("imagen-shapes-upsampler", "text_width", "0"), ("vq-codec-shapes", "codebook_dim", "0"),
    ("vq-codec-shapes", "adversarial", "-1.0"), ("vq-shapes", "layers", "0"), ("vq-shapes", "replaced", "nan")])
def test_on_the_command_line_it_is_one_line_and_nothing_is_written(preset, option, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", preset, f"--{option.replace('_', '-')}", value]) == 1
    said = capsys.readouterr()
    assert re.fullmatch(rf"t2ilab: {option}={value}: choose .*\n", said.err) and not said.out and not list(tmp_path.iterdir())


def test_a_seed_of_samples_has_the_same_range(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "ddpm-shapes", "--seed", str(2**63)]) == 1
    assert capsys.readouterr().err == f"t2ilab: seed={2**63}: choose a whole number from -2^63 to 2^63 - 1\n" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words, said", [
    ("ddpm-shapes --T 50", "sampling_steps=100: choose 1 to 50"), ("flow-shapes --T 5", "sampling_steps=50: choose 1 to 5"),
    ("ddpm-shapes --T 20 --schedule linear --sampling-steps 5", "T=20: choose T > 20"),
    ("imagen-shapes-upsampler --T 20", "T=20: choose T > 20"), ("ddpm-shapes --channels 7", "channels=7: choose an even number"),
    ("imagen-shapes-upsampler --channels 7", "channels=7: choose an even number"), ("ddpm-shapes --size 33", "size=33: this U-Net takes"),
    ("imagen-shapes --crop-size 9", "crop_size=9: this U-Net takes"), ("latent-shapes --grid 5", "grid=5: this U-Net takes sizes divisible by")])
def test_numbers_that_do_not_fit_each_other_are_said_before_anything_is_written_too(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words.split(), "--steps", "1"]) == 1
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
