"""What is measured of codecs and of the ways to sample codes: true scenes get full marks, and every token is counted once."""
import json
from dataclasses import replace
from tempfile import mkdtemp
from types import SimpleNamespace

import pytest
import torch
from tiny_data import flowers102
from tiny_runs import TINY
from tiny_vq import BASE, CODEC, RUN, built, codec_run

from t2ilab.cli import commands as cli
from t2ilab.evaluation.ablations.unmasking import draw_methods, method_sweep, methods, tokens_a_call
from t2ilab.evaluation.reconstruction import codec_metrics, draw_codec
from t2ilab.presets import DataConfig
from t2ilab.runs.train import train

LARGE = replace(BASE, codec=codec_run(mkdtemp(), replace(CODEC, size=24)), grid=12, size=24)          # as small as the parser can read


class Mirror:
    """A codec that gives back what it gets, a little darker; of its 8 codes it takes 4, evenly."""
    stages, size, encode_text, config = (), 64, None, SimpleNamespace(codebook_size=8)

    def __init__(self, darker=0.0):
        self.darker, self.model, self.codec = darker, self, self

    def parameters(self):
        yield torch.zeros(1)

    def encode(self, images):
        return torch.arange(2, 6).expand(len(images), 4)

    def __call__(self, captions, seed=0, low_res_image=None, sources=None):
        return (low_res_image - self.darker).clamp(-1, 1)


def test_a_perfect_codec_loses_nothing_and_a_dark_one_does():
    perfect, dark = codec_metrics(Mirror(), n=4), codec_metrics(Mirror(0.2), n=4)
    assert perfect["read_one_object"] == perfect["read_two_objects"] == 1 and perfect["samples"] == 4 and perfect["codes_used"] == 0.5 and perfect["perplexity"] == 4
    assert perfect["psnr_one_object"] > 100 > 26 > dark["psnr_one_object"] > 19              # 20 log10(2 / 0.2) = 20 where nothing is cut
    assert draw_codec(Mirror(), n=2).size[0] > 3 * 64


def test_six_ways_and_the_originals_own_each_say_all_that_differs():
    ways = methods(100, 3.0)
    assert list(ways) == ["plain", "guidance", "high quality", "fast", "purity", "guidance, fast", "the original's fast"]
    assert all(way.keys() == ways["plain"].keys() for way in ways.values())
    assert [way["sampling_steps"] for way in ways.values()] == [100, 100, 200, 10, 100, 10, 10]
    assert [way["guidance_scale"] for way in ways.values()] == [1, 3, 1, 1, 1, 3, 1]


def test_every_token_is_counted_once():
    tokens = tokens_a_call(built(guidance_scale=1.0, sampling_steps=7), ["a", "b"])
    assert len(tokens) == 7 and sum(tokens) == pytest.approx(16)
    with_fewer = tokens_a_call(built(guidance_scale=1.0, sampling_steps=2, sampler="even"), ["a"])
    assert with_fewer == [8, 8]


@pytest.mark.slow
def test_a_sweep_marks_every_way(tmp_path):
    ways = {name: {**way, "sampling_steps": 3} for name, way in methods(20, 2.0).items()}
    result = method_sweep(lambda fields: built(LARGE, **fields), ways, n=2)
    assert result["samples"] == 2 and result.keys() == {"samples", *ways}
    assert all(row["calls"] == 3 and 0 <= row["one_object"] <= 1 and row["seconds"] > 0 for name, row in result.items() if name != "samples")
    assert draw_methods(lambda fields: built(LARGE, **fields), ways, n=2).size[0] > 7 * 8


@pytest.mark.slow
def test_the_command_line_marks_codecs_and_ways(tmp_path, capsys):
    for _ in train(replace(RUN, model=LARGE), tmp_path / "run"):
        pass
    assert cli.main(["evaluate", str(tmp_path / "run"), "methods", "--n", "1"]) == 0
    saved = json.loads((tmp_path / "run" / "methods.json").read_text())
    assert saved["command"].endswith("run methods --n 1") and saved["fast"]["calls"] == 2 and (tmp_path / "run" / "methods.png").stat().st_size > 0
    assert cli.main(["evaluate", LARGE.codec, "--n", "1", "--out", str(tmp_path / "codec")]) == 0
    assert json.loads((tmp_path / "codec" / "metrics.json").read_text()).keys() >= {"psnr_one_object", "read_two_objects", "codes_used", "perplexity"}
    assert (tmp_path / "codec" / "painted.png").is_file() and (tmp_path / "codec" / "samples.png").is_file()
    assert cli.main(["evaluate", LARGE.codec, "methods", "--n", "1", "--out", str(tmp_path / "codec")]) == 1
    assert "methods cannot be measured of" in capsys.readouterr().err
    for words, message in ((["--guidance", "1"], "guidance cannot be measured of"), (["choices"], "of this run: reconstruction, codebook"), (["--n", "0"], "n=0: choose 1 or more")):
        assert cli.main(["evaluate", LARGE.codec, *words, "--out", str(tmp_path / "codec")]) == 1
        assert message in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path / "run"), "--augmentation", "0.5"]) == 1
    assert "augmentation cannot be measured of" in capsys.readouterr().err


@pytest.mark.slow
def test_a_codec_of_photographs_is_marked_on_them(tmp_path, capsys):
    flowers102(tmp_path / "data")
    codec = replace(CODEC, size=24)
    preset = replace(TINY, model=codec, data=DataConfig("flowers102", root=str(tmp_path / "data"), split="all"))
    list(train(replace(preset, fit=replace(preset.fit, steps=1)), tmp_path / "run"))
    assert cli.main(["evaluate", str(tmp_path / "run"), "--n", "5"]) == 0
    assert "psnr" in capsys.readouterr().out
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert saved["samples"] == 5 and saved["held_back"] is False and saved["command"].endswith("--n 5") and 0 < saved["psnr"] < 60 and 0 < saved["codes_used"] <= 1
    assert (tmp_path / "run" / "painted.png").is_file() and not (tmp_path / "run" / "samples.png").exists()
    held = replace(preset, data=replace(preset.data, validation=0.25), fit=replace(preset.fit, steps=1))
    list(train(held, tmp_path / "held"))
    assert cli.main(["evaluate", str(tmp_path / "held")]) == 0
    saved = json.loads((tmp_path / "held" / "metrics.json").read_text())
    assert saved["held_back"] is True and saved["samples"] == 3                             # of twelve
