"""Codes of a frozen codec are computed once for pictures that come again, and never kept for those that do not."""
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_codec import pictures
from tiny_data import flowers102, own_cache  # noqa: F401
from tiny_runs import digests
from tiny_vq import FREE, RUN, codec_run

from t2ilab.data.datasets import open_data
from t2ilab.data.loaders import stream
from t2ilab.families.frozen_codec import FrozenCodec
from t2ilab.hub import cache_root
from t2ilab.presets import DataConfig
from t2ilab.runs.train import train
from t2ilab.tensors import from_uint8, to_uint8

pytestmark = pytest.mark.slow           # it trains, samples or converts models


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures were encoded in each call."""
    sizes, encode = [], FrozenCodec._encode
    counted = lambda self, images: sizes.append(len(images)) or encode(self, images)        # noqa: E731
    monkeypatch.setattr(FrozenCodec, "_encode", counted)
    return sizes


def test_kept_codes_are_the_fresh_ones(encoded):
    codec, x = replace(FREE.frozen_codec), from_uint8(to_uint8(pictures(6)))
    fresh = codec.encode(x)
    assert torch.equal(codec.encode(x[1:4], keep=True), fresh[1:4]) and encoded == [6, 3]
    assert torch.equal(codec.encode(x, keep=True), fresh) and encoded == [6, 3, 3]
    later = FrozenCodec(codec.run, 9, 4).encode(x.flip(0), keep=True)
    assert torch.equal(later, fresh.flip(0)) and encoded == [6, 3, 3]
    assert codec.encode(x[:2], keep=True).dtype == torch.int64 and len(fresh.unique()) > 1


def test_another_codec_and_another_choice_of_codes_share_nothing(encoded, tmp_path):
    x, other = from_uint8(to_uint8(pictures(2))), tmp_path / Path(FREE.codec).name          # another of this name
    other.mkdir()
    weights = load_file(codec_run(other) + "/model.safetensors")
    save_file(weights | {"codec.quant_conv.bias": weights["codec.quant_conv.bias"] + 1}, other / "model.safetensors")
    fewer = FrozenCodec(FREE.codec, 4, 4, used=(0, 2, 3, 8))
    for codec in (replace(FREE.frozen_codec), fewer, FrozenCodec(str(other), 9, 4)):
        assert torch.equal(codec.encode(x, keep=True), codec.encode(x))
    assert encoded == [2] * 6


@pytest.mark.parametrize("options, share", [({}, 0.0), ({"flip": True}, 0.5), ({"crop": "random"}, 1.0)])
def test_a_second_epoch_encodes_nothing_unless_its_pixels_are_new(options, share, tmp_path, encoded):
    flowers102(tmp_path / "data")
    data = DataConfig("flowers102", root=str(tmp_path / "data"), split="all", **options)
    fit = replace(RUN.fit, steps=6, batch_size=4)                          # 12 pictures, twice
    preset = replace(RUN, model=FREE, data=data, fit=fit)
    list(train(preset, tmp_path / "run"))
    assert sum(encoded) == 24 if share == 1 else 12 <= sum(encoded) <= 12 * (1 + share) + 4
    assert (cache_root() / "codes").exists() == (share < 1)


def test_the_endless_scenes_leave_nothing_on_disk(tmp_path, encoded):
    list(train(replace(RUN, model=FREE), tmp_path / "run"))
    assert encoded and not (cache_root() / "codes").exists()


def test_a_run_is_the_same_with_kept_codes_and_with_fresh_ones(tmp_path):
    flowers102(tmp_path / "data")
    data = DataConfig("flowers102", root=str(tmp_path / "data"), split="all")
    for name in "ab":                                                      # the second one finds what the first has left
        list(train(replace(RUN, model=FREE, data=data), tmp_path / name))
    one, two = (digests(next((tmp_path / name / "checkpoints").iterdir())) for name in "ab")
    assert one["train.safetensors"] == two["train.safetensors"]


def test_a_batch_says_whether_its_pictures_come_again(tmp_path):
    flowers102(tmp_path)
    for options, repeats in (({}, True), ({"flip": True}, True), ({"crop": "random"}, False)):
        dataset = open_data("flowers102", tmp_path, size=8, split="all", **options)
        assert next(stream(dataset, batch_size=2)).repeats is repeats
    assert next(stream(open_data("shapes", size=8), batch_size=2)).repeats is False
