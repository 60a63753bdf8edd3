"""Models that draw only some of a codec's codes: which are taken most, what becomes of the others, runs that keep theirs, and tables that do not fit."""
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_unet import awake
from tiny_data import own_cache, picture  # noqa: F401
from tiny_glide import batch
from tiny_runs import saved
from tiny_vq import BASE, CODEC, RUN, codec_run
from torch import nn
from torch.testing import assert_close

from t2ilab.cli import commands as cli
from t2ilab.data.loaders import stream
from t2ilab.data.shapes import Scenes
from t2ilab.evaluation.reconstruction import count_codes
from t2ilab.families.frozen_codec import USED_CODES, FrozenCodec
from t2ilab.presets import PRESETS
from t2ilab.pretrained.vq_diffusion import convert_used
from t2ilab.runs.codebook_usage import count_used
from t2ilab.runs.folder import read_preset
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import generator
from t2ilab.vqgan.networks import VQGAN
from t2ilab.vqgan.quantizers import QUANTIZERS

KEPT = (1, 2, 5, 8)
FEW = replace(BASE, codebook_size=4)


def codec_of(kind="nearest"):
    """A codec of 9 codes that lie where cells are, with a counter beside them if its quantiser has one."""
    codec = awake(VQGAN(replace(CODEC.net, quantizer=kind)).eval())
    features = codec.features(pictures())
    with torch.no_grad():
        codec.quantizer.codebook.copy_(features.movedim(1, -1).flatten(0, 2)[::29][:9])
    return codec


def pictures(n=6, size=16):
    return torch.rand(n, 3, size, size, generator=generator(3)) * 2 - 1


@pytest.fixture
def codec(tmp_path):
    """A folder with a codec that nobody has counted yet."""
    (tmp_path / "codec").mkdir()
    return codec_run(tmp_path / "codec")


def counted(codec, codes):
    """The codec's folder with a count in it."""
    (Path(codec) / USED_CODES).write_text(codes if isinstance(codes, str) else json.dumps({"codes": codes}))
    return codec


# ---------------------------------------------------------------------------------------------------------------------------- fewer codes

@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_codec_that_keeps_all_its_codes_is_the_same_codec(kind):
    codec, x = codec_of(kind), pictures()
    same = codec.with_codes(range(9)).eval()
    assert torch.equal(same.encode(x), codec.encode(x)) and torch.equal(same.decode(same.encode(x)), codec.decode(codec.encode(x)))


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_cells_whose_code_is_kept_keep_it_and_look_the_same(kind):
    codec, x = codec_of(kind), pictures()
    fewer, rows = codec.with_codes(KEPT).eval(), torch.tensor(KEPT)
    full, few = codec.encode(x), fewer.encode(x)
    known = torch.isin(full, rows)
    assert 0 < known.sum() < known.numel() and torch.equal(rows[few][known], full[known])
    assert torch.equal(fewer.decode(few), codec.decode(rows[few])) and few.max() < 4


@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_all_other_cells_take_the_nearest_code_that_is_kept(kind):
    """Counted out by hand: the distance of every cell to every entry that is kept."""
    codec, x = codec_of(kind), pictures()
    cells = codec.features(x).movedim(1, -1)[..., None, :]                                  # [B h w 1 D]
    apart = (cells - codec.quantizer.codebook[list(KEPT)]).square().sum(-1)                   # [B h w 4]
    assert torch.equal(codec.with_codes(KEPT).encode(x), apart.argmin(-1))


def test_where_a_network_chooses_the_likeliest_code_that_is_kept_is_taken():
    codec, x = codec_of("gumbel"), pictures()
    assert torch.equal(codec.with_codes(KEPT).encode(x), codec.quantizer.choose(codec.features(x))[:, list(KEPT)].argmax(1))


# ---------------------------------------------------------------------------------------------------------------------------- counting

class Brightness(nn.Module):
    """A codec of 4 codes: each pixel's red, as a number."""
    config = SimpleNamespace(codebook_size=4)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, images):
        return images[:, 0].long()


def test_every_cell_is_counted_once():
    first, second = torch.zeros(2, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    first[0, 0, 0], second[0, 0, 1, 1] = 2, 3
    assert count_codes(Brightness(), [first, second]).tolist() == [9, 0, 2, 1]


def test_the_command_writes_the_codes_that_are_taken_the_most_used_first(codec, capsys):
    assert cli.main(["codebook", codec, "--n", "40"]) == 0
    images = torch.cat([few.images for _, few in zip(range(2), stream(Scenes(size=8), batch_size=32))])[:40]
    counts = torch.bincount(load(codec).model.codec.encode(images).flatten(), minlength=9)
    codes = json.loads((Path(codec) / USED_CODES).read_text())["codes"]
    assert sorted(codes) == counts.nonzero().flatten().tolist() and len(codes) > 4
    assert [(-counts[k].item(), k) for k in codes] == sorted((-counts[k].item(), k) for k in codes)
    said = capsys.readouterr().out
    assert f"{len(codes)} of 9 codes taken" in said and f"t2ilab train PRESET --codec {codec} --codebook-size {len(codes)}" in said
    shares = torch.tensor(sorted(counts.tolist(), reverse=True)).cumsum(0) / counts.sum()
    assert f"90.0%               {(shares < 0.9).sum() + 1}\n" in said and f"100.0%              {len(codes)}\n" in said


def test_every_picture_of_another_data_set_is_counted_once(codec, tmp_path):
    for k in range(35):
        picture(tmp_path / "photos" / f"{k}.png", seed=k)
    path, counts = count_used(codec, 10_000, data="folder", root=str(tmp_path / "photos"))
    assert counts.sum() == 35 * 16 and path == Path(codec) / USED_CODES
    assert count_used(codec, 33, data="folder", root=str(tmp_path / "photos"))[1].sum() == 33 * 16


def test_a_codec_that_ships_is_counted_in_runs_also_by_the_old_name_of_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["codes", "vq-codec-shapes", "--n", "8"]) == 0
    codes = json.loads((tmp_path / "runs" / "vq-codec-shapes" / USED_CODES).read_text())["codes"]
    assert FrozenCodec("vq-codec-shapes", 16, 8).kept == tuple(sorted(codes[:16]))
    assert "codes is now: t2ilab codebook vq-codec-shapes\n" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["runs"]


# ---------------------------------------------------------------------------------------------------------------------------- models and runs

@pytest.mark.parametrize("name", [name for name in PRESETS if PRESETS[name].family == "vq_diffusion"])
def test_every_preset_fits_the_codec_it_names(name):
    model = PRESETS[name].model
    codec = PRESETS[model.codec.removeprefix("runs/")].model
    assert (model.size, model.grid) == (codec.size, codec.grid) and model.codebook_size <= codec.net.codebook_size


def test_pictures_go_through_the_kept_codes_and_back(codec):
    frozen, x = FrozenCodec(counted(codec, [8, 2, 5, 1, 0]), 4, 4), pictures(2, 8)
    assert frozen.kept == KEPT == FrozenCodec(codec, 4, 4, KEPT).kept                        # the four most used, in rising order
    full = load(codec).model.codec
    assert torch.equal(frozen.encode(x), full.with_codes(KEPT).encode(x).flatten(1))
    assert_close(frozen.decode(frozen.encode(x)), full.decode(torch.tensor(KEPT)[frozen.encode(x)].view(2, 4, 4)))
    with pytest.raises(ValueError, match=r"0\.\.3"):
        frozen.decode(torch.full((1, 16), 4))


@pytest.mark.slow
def test_a_run_on_the_most_used_codes_keeps_them_whatever_is_counted_later(codec, tmp_path):
    preset = replace(RUN, model=replace(FEW, codec=counted(codec, [8, 2, 5, 1, 0])), save=replace(RUN.save, checkpoint_steps=3))
    for _ in train(preset, tmp_path / "whole"):
        pass
    for log, _ in train(preset, tmp_path / "run"):
        if log.step == 4:
            break
    for _ in train(preset, tmp_path / "run"):
        pass
    assert saved(tmp_path / "run") == saved(tmp_path / "whole")
    assert read_preset(tmp_path / "run").model.used == KEPT
    images = load(tmp_path / "run")(["a red circle"])
    counted(codec, [0, 3, 4, 6, 7])
    assert torch.equal(load(tmp_path / "run")(["a red circle"]), images) and images.shape == (1, 3, 8, 8)
    with pytest.raises(FileExistsError, match="another model"):                              # the preset now means other codes
        next(train(replace(preset, model=replace(preset.model)), tmp_path / "run"))
    assert cli.main(["resume", str(tmp_path / "run"), "--steps", "7"]) == 0
    for _ in train(replace(preset, init_from=str(tmp_path / "run"), fit=replace(preset.fit, steps=1)), tmp_path / "tuned"):
        pass
    assert read_preset(tmp_path / "tuned").model.used == KEPT                                # those its weights know


def test_a_model_of_all_codes_needs_no_count(codec):
    assert replace(BASE, codec=codec).fit_to_dataset(Scenes()).used == ()


# ---------------------------------------------------------------------------------------------------------------------------- published tables

def test_a_published_table_decodes_as_its_own_code_does():
    """The original's own way back, typed literally: the first code of each number."""
    table = torch.tensor([0, 0, 0, 1, 0, 2, 0, 3, 0])
    back = torch.zeros(4) - 1
    for idx, i in enumerate(table):
        if back[i] == -1:
            back[i] = idx
    assert convert_used(table) == tuple(back.long().tolist()) == (0, 3, 5, 7)


def test_a_table_with_gaps_is_one_line():
    with pytest.raises(ValueError, match=r"its 3 numbers are not 0\.\.2"):
        convert_used(torch.tensor([0, 1, 3]))


# ---------------------------------------------------------------------------------------------------------------------------- mistakes

def test_a_codec_that_nobody_counted_says_the_command_that_does(codec, tmp_path, capsys):
    preset = replace(RUN, model=replace(FEW, codec=codec))
    with pytest.raises(FileNotFoundError, match=f"has 9 codes, the model wants 4: count which it takes most: t2ilab codebook {codec}; or train with --codebook-size 9"):
        next(train(preset, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    shutil.copytree(codec, tmp_path / "my codec")
    with pytest.raises(FileNotFoundError, match="t2ilab codebook '.*/my codec'"):
        replace(FEW, codec=str(tmp_path / "my codec")).to_training_pair(batch(8, 2))


@pytest.mark.parametrize("content, line", [
    ("", "is no count of codes"), ("{", "is no count of codes"), ("[]", "is no count of codes"), ('{"codes": 5}', "is no count of codes"),
    ("[" * 100_000, "is no count of codes"), ([0, 1, 2, 9], r"no list of different codes in 0\.\.8"), ([-1, 1, 2, 3], "no list of different codes"),
    ([0, 1, 2, 2], "no list of different codes"), ([0, 1, 2.0, 3], "no list of different codes"), (["0", True, None, [1]], "no list of different codes"),
    ('{"codes": "abcd"}', "no list of different codes"), ([3, 1, 2], "has 3 codes, the model wants 4: train with --codebook-size 3, or count on more pictures")])
def test_a_table_that_does_not_fit_is_one_line(content, line, codec):
    with pytest.raises(ValueError, match=line) as error:
        replace(FEW, codec=counted(codec, content)).fit_to_dataset(Scenes())
    assert USED_CODES in str(error.value) and f"t2ilab codebook {codec}" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("used", [(0, 1, 2), (0, 1, 2, 3, 4), (0, 1, 2, 9), (0, 0, 1, 2), ("a", 1, 2, 3), ([1], 1, 2, 3)])
def test_codes_in_a_config_that_do_not_fit_are_one_line(used, codec):
    with pytest.raises(ValueError, match="^used (is no list.*train the model anew|has [35] codes.*--codebook-size [35], or choose others)$"):
        replace(FEW, codec=codec, used=used).fit_to_dataset(Scenes())


@pytest.mark.parametrize("args, said", [(["nothing"], "nothing: no trained run there"), (["ddpm-shapes"], "ddpm-shapes is no codec"),
                                        (["vq-codec-shapes", "--n", "0"], "n=0: choose 1 or more"),
                                        (["vq-codec-shapes", "--data", "folder"], "say which folder with root")])
def test_a_mistake_in_counting_is_one_line(args, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["codebook", *args]) == 1
    error = capsys.readouterr().err
    assert error.startswith("t2ilab: ") and said in error and error.count("\n") == 1 and not any(tmp_path.iterdir())
