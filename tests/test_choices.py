"""Choosing between two captions: a stage that knows every picture is always right, a deaf one is right by luck, one that only counts words cannot bind."""
import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from itertools import islice

import pytest
import tiny_glide
import tiny_imagen
import tiny_vq
import torch
from tiny_runs import TINY

from t2ilab.cli import commands as cli
from t2ilab.data.shapes import HELD_OUT, describe, parse_caption
from t2ilab.diffusion.cond import Cond
from t2ilab.evaluation.ablations.caption_choice import CHANGES, NEW, choice_metrics, denoising_errors, pairs
from t2ilab.evaluation.caption_metrics import fresh_scenes
from t2ilab.evaluation.scene_metrics import drawn
from t2ilab.pipeline.stage import Stage
from t2ilab.runs.train import train
from t2ilab.tensors import generator


def digest(picture):
    return sha256(picture.numpy().tobytes()).hexdigest()


class Listener:
    """A pipeline whose "denoising error" of a picture is 0 if `hears` makes the same of its scene's caption and of the caption it was told."""

    class diffusion:
        T = 10

        @staticmethod
        def diffuse(x0, t, generator=None):
            return x0

    device = "cpu"

    def __init__(self, hears):
        self.hears, self.captions, self.heard = hears, [], {}
        self.stages = (Stage(denoiser=self, shape=(3, 32, 32)),)
        for kind in ("two_objects", "held_out_two"):
            for scene, caption in fresh_scenes(kind, 100):
                self.heard[digest(drawn([scene], 32))] = hears(caption)

    def encode_text(self, captions):
        start = len(self.captions)
        self.captions += captions
        return torch.arange(start, len(self.captions))[:, None], torch.ones(len(captions), 1, dtype=torch.bool)

    def condition(self, cond):
        return cond

    def loss_at(self, x0, x_t, t, cond):
        said = [self.hears(self.captions[int(i)]) for i in cond.text[:, 0]]
        return torch.tensor([float(self.heard[digest(picture)] != heard) for picture, heard in zip(x0, said)])


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_spoils_one_thing_only(change):
    for scene, caption, other in islice(pairs(change), 30):
        true, wrong = parse_caption(caption), parse_caption(other)
        assert describe(scene) == caption != other
        if change in ("background", "relation"):
            assert [name for name in ("objects", "background", "relation") if getattr(true, name) != getattr(wrong, name)] == [change]
        elif change == "binding":
            assert Counter(caption.split()) == Counter(other.split()) and wrong.objects[0].colour == true.objects[1].colour != true.objects[0].colour
        else:
            assert wrong.objects[0] == replace(true.objects[0], **{change: getattr(wrong.objects[0], change)}) and wrong.objects[1] == true.objects[1]


@pytest.mark.parametrize("name", [*CHANGES, NEW])
def test_every_changed_caption_could_be_one_of_training(name):
    for scene, caption, other in islice(pairs(name), 60):
        shown = [(o.colour, o.shape) for o in parse_caption(other).objects]
        assert len(set(shown)) == 2 and not set(shown) & set(HELD_OUT)
        assert (name == NEW) == any((o.colour, o.shape) in HELD_OUT for o in scene.objects)


@pytest.mark.slow
def test_who_knows_is_right_who_is_deaf_guesses_who_counts_words_cannot_bind():
    right = dict.fromkeys([*CHANGES, NEW], 1.0)
    settings = {"samples": 32, "draws": 8}
    assert choice_metrics(Listener(str), n=32) == settings | right
    assert choice_metrics(Listener(lambda caption: None), n=32, batch=5) == settings | dict.fromkeys(right, 0.5)
    assert choice_metrics(Listener(lambda caption: sorted(caption.split())), n=32) == settings | right | {"binding": 0.5}


@pytest.mark.parametrize("built", [tiny_glide.built, tiny_vq.built])
def test_the_error_is_the_training_loss_at_the_same_noise(built):
    pipeline = built()
    stage, images = pipeline.stages[0], drawn([scene for scene, _ in fresh_scenes("two_objects", 3)], 8)
    conds = [Cond(*pipeline.encode_text(said)) for said in (["a red circle"] * 3, ["a blue square"] * 3, ["a red circle"] * 3)]
    errors = denoising_errors(stage, images, conds, draws=4, seed=5)
    x0 = images if stage.codec is None else stage.codec.encode(images)
    T, D, literal = stage.denoiser.diffusion.T, stage.denoiser, torch.zeros(3)
    with torch.no_grad():
        for k in range(4):
            t = torch.full((3,), {20: (3, 8, 13, 18), 1000: (126, 376, 626, 876)}[T][k])
            literal += D.loss_at(x0, D.diffusion.diffuse(x0, t, generator(5, k)), t, D.condition(conds[0]))
    torch.testing.assert_close(errors[0], literal / 4)
    assert torch.equal(errors[0], errors[2]) and not torch.equal(errors[0], errors[1])


def test_more_draws_than_noise_levels_never_ask_about_t_0():
    seen, listener = [], Listener(str)
    listener.loss_at = lambda x0, x_t, t, cond: seen.extend(t.tolist()) or torch.zeros(len(x0))
    denoising_errors(listener.stages[0], drawn([fresh_scenes("two_objects", 1)[0][0]], 32), [Cond()], draws=25)
    assert len(seen) == 25 and sorted(seen) == seen and set(seen) == set(range(1, 11))


@pytest.mark.parametrize("pipeline", [tiny_imagen.UPSAMPLER.pipeline(), tiny_vq.CODEC.pipeline(), tiny_vq.built(tiny_vq.CLASSES), tiny_vq.built(tiny_vq.FREE)],
                         ids=["enlarges", "codec", "labels", "nothing"])
def test_what_draws_nothing_from_captions_is_told(pipeline):
    with pytest.raises(ValueError, match="models that draw from them"):
        choice_metrics(pipeline, n=1)


@pytest.mark.parametrize("options", [{"n": 0}, {"n": -1}, {"draws": 0}])
def test_at_least_one_picture_and_one_draw(options):
    with pytest.raises(ValueError, match="choose 1 or more"):
        choice_metrics(Listener(str), **options)


def test_a_damaged_model_is_no_bad_one():
    pipeline = tiny_glide.built()
    with torch.no_grad():
        next(pipeline.model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        choice_metrics(pipeline, n=1)


@pytest.mark.slow
def test_the_command_line_writes_the_choices_and_nothing_else(tmp_path, capsys):
    for _ in train(replace(TINY, model=replace(tiny_imagen.BASE, size=24)), tmp_path / "run"):
        pass
    assert cli.main(["evaluate", str(tmp_path / "run"), "choices", "--n", "2"]) == 0
    saved, out = json.loads((tmp_path / "run" / "choices.json").read_text()), capsys.readouterr().out
    assert saved.keys() == {"samples", "draws", *CHANGES, NEW, "command"} and saved["command"].endswith("run choices --n 2")
    assert all(f"{saved[name]}" in out and name in out for name in (*CHANGES, NEW)) and str(tmp_path / "run" / "choices.json") in out
    assert (tmp_path / "run" / "choices.png").stat().st_size > 0 and not (tmp_path / "run" / "metrics.json").exists()
