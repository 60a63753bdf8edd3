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

from t2ilab import cli
from t2ilab.data.shapes import HELD_OUT, describe, parse_caption
from t2ilab.diffusion.denoiser import Cond
from t2ilab.evaluate.choices import CHANGES, NEW, choice_metrics, denoising_errors, draw_choices, pairs
from t2ilab.evaluate.captions import fresh_scenes
from t2ilab.evaluate.report import drawn
from t2ilab.pipeline import Stage
from t2ilab.runs import train
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

    def __init__(self, hears, enlarge=None):
        self.hears, self.captions, self.heard = hears, [], {}
        self.stages = (Stage(self, (3, 32, 32), enlarge=enlarge),)
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


def test_each_change_spoils_one_thing_only():
    for change, spoils in CHANGES.items():
        for scene, caption, other in islice(pairs(change), 20):
            true, wrong = parse_caption(caption), parse_caption(other)
            assert describe(scene) == caption != other
            assert not any((o.colour, o.shape) in HELD_OUT for o in wrong.objects)
            if change in ("background", "relation"):
                assert [name for name in ("objects", "background", "relation") if getattr(true, name) != getattr(wrong, name)] == [change]
            elif change == "binding":
                assert Counter(caption.split()) == Counter(other.split()) and wrong.objects[0].colour == true.objects[1].colour
            else:
                assert wrong.objects[0] == replace(true.objects[0], **{change: getattr(wrong.objects[0], change)}) and wrong.objects[1] == true.objects[1]


def test_held_out_scenes_are_set_against_what_was_trained():
    assert all(any((o.colour, o.shape) in HELD_OUT for o in scene.objects) for scene, _, _ in islice(pairs("colour", "held_out_two"), 20))


def test_who_knows_is_right_who_is_deaf_guesses_who_counts_words_cannot_bind():
    names = {*CHANGES, NEW}
    assert {name: choice_metrics(Listener(str), n=32)[name] for name in names} == dict.fromkeys(names, 1.0)
    assert {name: choice_metrics(Listener(lambda caption: None), n=32)[name] for name in names} == dict.fromkeys(names, 0.5)
    counted = choice_metrics(Listener(lambda caption: sorted(caption.split())), n=32)
    assert counted["binding"] == 0.5 and all(counted[name] == 1 for name in names - {"binding"})


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
            t = torch.full((3,), round((k + 0.5) / 4 * T))
            literal += D.loss_at(x0, D.diffusion.diffuse(x0, t, generator(5, k)), t, conds[0])
    torch.testing.assert_close(errors[0], literal / 4)
    assert torch.equal(errors[0], errors[2]) and not torch.equal(errors[0], errors[1])


@pytest.mark.parametrize("pipeline", [tiny_imagen.UPSAMPLER.build(), tiny_vq.CODEC.build()])
def test_what_draws_nothing_from_captions_is_told(pipeline):
    with pytest.raises(ValueError, match="models that draw from them"):
        choice_metrics(pipeline, n=1)


def test_the_command_line_writes_the_choices(tmp_path, capsys):
    for _ in train(replace(TINY, model=replace(tiny_imagen.BASE, size=24), family="imagen"), tmp_path / "run"):
        pass
    assert cli.main(["evaluate", str(tmp_path / "run"), "--n", "2", "--choices"]) == 0
    saved = json.loads((tmp_path / "run" / "choices.json").read_text())
    assert saved.keys() == {"samples", "draws", *CHANGES, NEW, "command"} and saved["command"].endswith("--n 2 --choices")
    assert (tmp_path / "run" / "choices.png").stat().st_size > 0
    assert draw_choices({"a": saved, "b": saved}).size[0] > 100
