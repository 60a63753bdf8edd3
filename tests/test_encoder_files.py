"""Files of encoders and their features: found where they lie, never run as code, shared by processes, and anything broken in them is one line."""
import json
import os
import signal
import sqlite3
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_encoders import bits, cache, folder, write_encoder  # noqa: F401

from t2ilab import hub as shipped
from t2ilab.families.span_corruption import SpanCorruptionConfig
from t2ilab.text import find_encoder as finding
from t2ilab.text import frozen_encoder as encoders
from t2ilab.text.feature_cache import FeatureCache
from t2ilab.text.find_encoder import find_encoder, fingerprint
from t2ilab.text.frozen_encoder import FrozenEncoder


def test_an_encoder_of_the_hub_that_was_fetched_is_found(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--someone--tiny-t5"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    (home / "snapshots" / ("0" * 40)).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="fetch it: hf download someone/tiny-t5"):           # a fetch that stopped halfway
        find_encoder("someone/tiny-t5")
    for file in os.listdir(folder):
        os.link(os.path.join(folder, file), home / "snapshots" / ("0" * 40) / file)
    assert bits(FrozenEncoder("someone/tiny-t5", 8, width=16), ["red"]) == bits(FrozenEncoder(folder, 8, width=16), ["red"])


def test_an_encoder_that_ships_with_the_project_is_found_by_its_name(folder, tmp_path, monkeypatch):
    home = tmp_path / "results" / "t5-tiny"
    write_encoder(home)
    (tmp_path / "checksums.json").write_text(json.dumps({"t5-tiny": {file.name: shipped._digest(file.read_bytes()) for file in home.iterdir()}}))
    monkeypatch.setattr(shipped, "CHECKSUMS", tmp_path / "checksums.json")
    monkeypatch.setattr(shipped, "RESULTS", tmp_path / "results")
    assert find_encoder("t5-tiny") == home and bits(FrozenEncoder("t5-tiny", 8, width=16), ["red"]) == bits(FrozenEncoder(folder, 8, width=16), ["red"])


def test_loading_says_nothing_and_leaves_the_global_random_numbers_alone(tmp_path, capfd, caplog):
    write_encoder(tmp_path / "bert", "bert")                                # without the pooler, which the library draws at random
    capfd.readouterr()
    torch.manual_seed(5)
    FrozenEncoder(str(tmp_path / "bert"), 8, width=16)(["red"])
    drawn, said = torch.rand(3), capfd.readouterr()
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3)) and said.out == said.err == "" and not caplog.records


@pytest.mark.parametrize("damage, line", [
    (lambda w: {k: v for k, v in w.items() if "block.1" not in k}, r"the weights lack encoder\.block\.1\..* \(and \d+ more\)"),
    (lambda w: w | {"shared.weight": torch.zeros(7, 16)}, "could not be loaded")])
def test_weights_that_do_not_fit_are_one_line(tmp_path, damage, line):
    write_encoder(tmp_path)
    save_file(damage(load_file(tmp_path / "model.safetensors")), tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=line) as error:
        FrozenEncoder(str(tmp_path), 8, width=16)(["red"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file, content", [("model.safetensors", b"\x10\0\0\0\0\0\0\0{"), ("config.json", b"{"), ("config.json", b'{"model_type": "none"}'),
                                           ("tokenizer.json", b"[]")])
def test_a_broken_file_is_one_line(tmp_path, file, content):
    write_encoder(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match="could not be loaded") as error:
        FrozenEncoder(str(tmp_path), 8, width=16)(["red"])
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_tokenizer_of_another_encoder_is_one_line(tmp_path):
    write_encoder(tmp_path, tokenizer=SpanCorruptionConfig(vocabulary=800, sentinels=512).fit_to_dataset(["red"] * 9).tokenizer)
    with pytest.raises(ValueError, match=r"the tokenizer gives id \d+, but the encoder has 320 tokens"):
        FrozenEncoder(str(tmp_path), 8, width=16)(["red"])


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["T2ILAB_BOMB"],)


def test_a_pickle_among_the_weights_is_never_executed(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("T2ILAB_BOMB", str(tmp_path / "boom"))
    home = tmp_path / "bin"
    write_encoder(home)
    weights = load_file(home / "model.safetensors")
    (home / "model.safetensors").unlink()
    torch.save(weights, home / "pytorch_model.bin")
    assert bits(FrozenEncoder(str(home), 8, width=16), ["red"]) == bits(FrozenEncoder(folder, 8, width=16), ["red"])
    torch.save(weights | {"extra": Bomb()}, home / "pytorch_model.bin")
    with pytest.raises(ValueError, match="could not be loaded"):
        FrozenEncoder(str(home), 8, width=16)(["red"])
    assert not (tmp_path / "boom").exists()


def test_an_encoder_that_runs_code_of_its_own_or_needs_a_package_is_one_line(tmp_path, monkeypatch):
    write_encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}))
    with pytest.raises(ValueError, match="could not be loaded"):
        FrozenEncoder(str(tmp_path), 8, width=16)(["red"])
    write_encoder(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "spiece.model")
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install sentencepiece"):
        FrozenEncoder(str(tmp_path), 8, width=16)(["red"])


def test_a_large_file_is_told_from_another_by_its_size_and_16_pieces(tmp_path):
    def mark(size, **at):
        with open(tmp_path / "model.safetensors", "wb") as file:
            file.truncate(size)
            for place in at.values():
                file.seek(place)
                file.write(b"x")
        finding._fingerprint.cache_clear()                     # the same size in the same tick of the clock
        return fingerprint(tmp_path)
    large, piece = 40 * 2**20, (40 * 2**20 - 2**20) // 15
    assert len({mark(large), mark(large + 1), mark(large, a=0), mark(large, a=large - 1), mark(large, a=piece), mark(large, a=7 * piece + 99)}) == 6
    assert mark(large, a=piece - 1) == mark(large) and mark(2**20, a=2**19) != mark(2**20)


# Features

def in_child(work):
    """Start work() in another process; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


@pytest.mark.slow
def test_several_processes_share_a_cache_and_a_kill_leaves_it_whole(tmp_path):
    cache, size = FeatureCache(tmp_path / "shared.sqlite"), 3000

    def write(who):
        for k in range(10_000):
            cache.write({bytes([who, k % 256, k // 256, j]): bytes([who]) * size for j in range(4)})
            time.sleep(0.001)
    children = [in_child(lambda who=who: write(who)) for who in range(3)]
    end = time.monotonic() + 30
    while time.monotonic() < end and len(cache.read([bytes([who, 5, 0, 0]) for who in range(3)])) < 3:
        time.sleep(0.02)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with sqlite3.connect(cache.path) as db:
        keys = [key for key, in db.execute("SELECT key FROM kept")]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found = cache.read([*keys, b"none"])
    assert {key[0] for key in keys} == {0, 1, 2} and len(keys) % 4 == 0 and set(found) == set(keys)
    assert all(value == bytes([key[0]]) * size for key, value in found.items())
    cache.write({b"later": b"too"})
    assert cache.read([b"later"]) == {b"later": b"too"}
