"""Frozen encoders: the library's own numbers, masks from the tokenizer alone, nothing computed twice, and every mistake in one line."""
import copy
import json
import os
import pickle
import resource

import pytest
import torch

from t2ilab.data.shapes import Scenes
from t2ilab.families.span_corruption import SpanCorruptionConfig
from t2ilab.text import frozen_encoder as encoders
from t2ilab.text.find_encoder import find_encoder, fingerprint
from t2ilab.text.frozen_encoder import FrozenEncoder

CAPTIONS = Scenes().texts(40)
TOKENIZER = SpanCorruptionConfig(vocabulary=320, sentinels=4).fit_to_dataset(CAPTIONS).tokenizer
ODD = ["🎨🎨", "دائرة حمراء", "two\nlines\r\n", "tab\tand\x00nul", " ", "  two  blanks ", "日本語", "<pad>", "</s> a <extra_id_0>", "half\udcff", "\ufeff\u200d",
       "x" * 10_000]
SIZES = dict(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, vocab_size=320)
BERT = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=320, max_position_embeddings=40)


def models():
    """{kind: a function that builds a tiny model of it}: encoders, encoders with a decoder, and one that sees pictures too."""
    import transformers as tf
    vision = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16)
    clip = dict(bos_token_id=1, eos_token_id=1, pad_token_id=0)
    return {
        "t5": lambda: tf.T5ForConditionalGeneration(tf.T5Config(**SIZES)), "mt5": lambda: tf.MT5ForConditionalGeneration(tf.MT5Config(**SIZES)),
        "umt5": lambda: tf.UMT5ForConditionalGeneration(tf.UMT5Config(**SIZES)), "t5_encoder": lambda: tf.T5EncoderModel(tf.T5Config(**SIZES)),
        "bert": lambda: tf.BertForMaskedLM(tf.BertConfig(**BERT)), "clip_text": lambda: tf.CLIPTextModel(tf.CLIPTextConfig(**BERT, **clip)),
        "clip": lambda: tf.CLIPModel(tf.CLIPConfig(text_config=BERT | clip, vision_config=vision)),
        "bart": lambda: tf.BartModel(tf.BartConfig(
            vocab_size=320, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_ffn_dim=32, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=1, decoder_start_token_id=1)),
    }


def write_encoder(folder, kind="t5", seed=0, tokenizer=TOKENIZER):
    """A tiny encoder with random weights, in Hugging Face's layout; its reading half, as the library itself runs it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models()[kind]().eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"bert": lambda: model.bert, "clip": lambda: model.text_model}.get(kind, lambda: model.get_encoder() if model.config.is_encoder_decoder else model)()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoders") / "tiny"
    write_encoder(path)
    return str(path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for every test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "t2ilab" / "features"


@pytest.fixture
def encoded(monkeypatch):
    """Every caption that really goes through an encoder, in order."""
    seen, encode = [], FrozenEncoder._encode

    def counted(self, texts):
        seen.extend(texts)
        return encode(self, texts)
    monkeypatch.setattr(FrozenEncoder, "_encode", counted)
    return seen


def bits(encoder, captions):
    features, mask = encoder(captions)
    return features.numpy().tobytes(), mask.tolist()


# Reading

@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5", "t5_encoder", "bert", "clip_text", "clip", "bart"])
def test_features_are_the_librarys_own(kind, tmp_path):
    model = write_encoder(tmp_path / kind, kind)
    features, mask = FrozenEncoder(str(tmp_path / kind), 20, width=16)(CAPTIONS[:3])
    assert features.shape == (3, 20, 16) and features.dtype == torch.float32 and not features.requires_grad
    for caption, f, m in zip(CAPTIONS, features, mask):
        ids = TOKENIZER(caption, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state[0]
        assert m.tolist() == [True] * len(expected) + [False] * (20 - len(expected))
        torch.testing.assert_close(f[m], expected, rtol=0, atol=1e-5)
        assert (f[~m] == 0).all()


@pytest.mark.parametrize("kind", ["t5", "bert", "clip_text", "bart"])
def test_a_caption_has_the_same_features_alone_and_beside_longer_ones(kind, tmp_path):
    write_encoder(tmp_path / kind, kind)
    encoder = FrozenEncoder(str(tmp_path / kind), 32, width=16, cache=False)
    together, _ = encoder(["red", *CAPTIONS[:8]])
    for k, caption in enumerate(["red", *CAPTIONS[:8]]):
        torch.testing.assert_close(encoder([caption])[0][0], together[k], rtol=0, atol=1e-5)
    torch.testing.assert_close(FrozenEncoder(str(tmp_path / kind), 40, width=16)(["red"])[0][0, :32], together[0], rtol=0, atol=1e-5)


def test_masks_are_the_tokenizers_whatever_its_pad_and_end_tokens_are(realdata, tmp_path):
    """ruT5's end is id 2, its padding 0, its unknown 1; in Google's T5 the end is 1."""
    from transformers import AutoTokenizer, T5Config, T5EncoderModel
    T5EncoderModel(T5Config(**SIZES | {"vocab_size": 32_128})).save_pretrained(tmp_path)
    for file in (realdata / "tokenizers" / "t5_ruT5large").glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    captions = ["красный круг", "a red circle", "<pad> <unk>", "", "🎨"]
    features, mask = FrozenEncoder(str(tmp_path), 24, width=16)(captions)
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id == 2
    assert mask.sum(1).tolist() == [len(tokenizer(caption)["input_ids"]) if caption else 0 for caption in captions]
    assert torch.equal(features.abs().amax(2) > 0, mask)


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_caption_and_none_are_no_caption(folder, nothing, encoded):
    features, mask = FrozenEncoder(folder, 8, width=16)([nothing, "red", nothing])
    assert mask.any(1).tolist() == [False, True, False] and (features[0] == 0).all() and encoded == ["red"]


def test_no_captions_need_no_encoder(tmp_path):
    encoder = FrozenEncoder(str(tmp_path / "nothing"), 8, width=16)
    assert [v.shape for v in encoder([])] == [(0, 8, 16), (0, 8)] and not encoder([""])[1].any()


@pytest.mark.filterwarnings("ignore:.*were cut")
@pytest.mark.parametrize("cache", [True, False])
def test_odd_captions_are_read_like_any_other(folder, cache):
    encoder = FrozenEncoder(folder, 40, width=16, cache=cache)
    first, again = (encoder(ODD) for _ in range(2))
    assert first[0].isfinite().all() and first[1].any(1).all()
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert torch.equal(encoder(["half\udcff"])[0], encoder(["half?"])[0])


def test_a_caption_that_is_too_long_is_cut_with_one_warning_from_the_cache_too(folder):
    text = "Red\nand " + "blue " * 2000
    for _ in range(2):
        encoder = FrozenEncoder(folder, 8, width=16)
        with pytest.warns(UserWarning, match=r"1 of 3 captions have over 8 tokens and were cut: 'Red and blue ") as warned:
            (_, mask), _ = encoder(["red", text, ""]), encoder(["blue " * 99])       # a run of a thousand steps is told once
        assert len(warned) == 1 and "\n" not in str(warned[0].message) and mask[1].all()
    ids = TOKENIZER(text, truncation=True, max_length=8)["input_ids"]
    assert ids[-1] == TOKENIZER.eos_token_id                                # the end is never cut off


def test_a_caption_that_just_fits_is_not_warned_about(folder, recwarn):
    n = len(TOKENIZER(CAPTIONS[0])["input_ids"])
    assert FrozenEncoder(folder, n, width=16)(CAPTIONS[:1])[1].all() and not len(recwarn)


@pytest.mark.parametrize("captions, line", [("red", "'red' is one string"), (["red", 3], "of type int"), ([b"red"], "of type bytes")])
def test_what_is_no_list_of_captions_is_one_line(folder, captions, line):
    with pytest.raises(ValueError, match=line) as error:
        FrozenEncoder(folder, 8, width=16)(captions)
    assert "\n" not in str(error.value)


# Settings

def test_encoders_are_equal_if_they_give_the_same_features():
    one = FrozenEncoder("a/b", 8, width=16)
    assert one == FrozenEncoder("a/b", 8, width=16, cache=False, device="cpu") and hash(one) == hash(FrozenEncoder("a/b", 8, width=16, device="cpu"))
    assert all(other != one for other in (FrozenEncoder("a/c", 8, width=16), FrozenEncoder("a/b", 9, width=16), FrozenEncoder("a/b", 8, width=17),
                                          FrozenEncoder("a/b", 8, width=16, dtype="bf16")))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_of_an_encoder_is_equal_and_reads_the_same(folder, again, used):
    one = FrozenEncoder(folder, 40, width=16)
    if used:
        one(["red"])
    two = again(one)
    assert two == one and bits(two, CAPTIONS[:2]) == bits(one, CAPTIONS[:2]) and len(pickle.dumps(one)) < 1000


def test_half_precision_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="dtype='fp16': T5's activations grow beyond .*; choose one of fp32, bf16"):
        FrozenEncoder("t5", 8, width=16, dtype="fp16")
    with pytest.raises(ValueError, match="dtype='int8'; choose one of"):
        FrozenEncoder("t5", 8, width=16, dtype="int8")
    for wrong in (dict(text_length=0, width=16), dict(text_length=8, width=0)):
        with pytest.raises(ValueError, match="choose 1 or more"):
            FrozenEncoder("t5", **wrong)


def test_bfloat16_gives_nearly_the_same(folder):
    full, half = (FrozenEncoder(folder, 40, width=16, dtype=dtype) for dtype in ("fp32", "bf16"))
    a, b = full(CAPTIONS[:4])[0], half(CAPTIONS[:4])[0]
    assert b.dtype == torch.float32 and torch.equal(b, b.bfloat16().float()) and 0 < (a - b).abs().mean() < 0.02
    assert torch.equal(half(CAPTIONS[:4])[0], b)


def test_a_width_that_is_not_the_encoders_is_refused_before_and_after_its_features_are_kept(folder):
    for _ in range(2):
        with pytest.raises(ValueError, match=f"width=12: the features of {folder} have 16 numbers a token"):
            FrozenEncoder(folder, 8, width=12)(["red"])
        FrozenEncoder(folder, 8, width=16)(["red"])


def test_an_encoder_with_positions_reads_no_further_than_they_go(tmp_path):
    write_encoder(tmp_path / "bert", "bert")
    assert FrozenEncoder(str(tmp_path / "bert"), 40, width=16)(["red"])[1].any()
    with pytest.raises(ValueError, match="text_length=41: .*bert reads at most 40 tokens"):
        FrozenEncoder(str(tmp_path / "bert"), 41, width=16)(["red"])


# Finding and loading

def test_an_encoder_that_is_not_on_this_machine_is_one_line_with_the_command_that_fetches_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("google/t5-v1_1-xxl", "no-such-encoder"):
        with pytest.raises(FileNotFoundError, match=f"{name}: .*; fetch it: hf download {name} ") as error:
            FrozenEncoder(name, 8, width=16)(["red"])
        assert "\n" not in str(error.value)
    for name in (str(tmp_path), str(tmp_path / "nothing"), "../nothing", "a b; rm -r x"):
        with pytest.raises(FileNotFoundError, match="no encoder there") as error:
            find_encoder(name)
        assert "hf download" not in str(error.value)


def test_weights_are_loaded_once_and_never_learn(folder):
    mark = fingerprint(find_encoder(folder).resolve())
    FrozenEncoder(folder, 8, width=16, device="cpu")(["red"])
    _, encoder = encoders._loaded(find_encoder(folder).resolve(), mark, "fp32", "cpu")
    loads = encoders._loaded.cache_info().misses
    FrozenEncoder(folder, 9, width=16, device="cpu", cache=False)(["red"])
    assert encoders._loaded.cache_info().misses == loads
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())


def test_a_large_encoder_says_what_it_needs_and_one_that_does_not_fit_is_refused(tmp_path, monkeypatch, caplog):
    """T5 v1.1 XXL's encoder: 4.76 billion numbers (17.7 GiB in fp32, 8.9 in bf16), known before a byte of them is read."""
    write_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(dict(
        model_type="t5", d_model=4096, d_kv=64, d_ff=10_240, num_layers=24, num_heads=64, vocab_size=32_128, feed_forward_proj="gated-gelu")))
    monkeypatch.setattr(encoders, "_free_memory", lambda device: 16 * 2**30)
    with pytest.raises(ValueError, match=r"17\.7 GiB of weights, but only 16\.0 GiB free on cpu: choose a smaller encoder") as error:
        FrozenEncoder(str(tmp_path), 8, width=4096, device="cpu")(["red"])
    assert "\n" not in str(error.value)
    encoders._check_memory(tmp_path, 9 * 2**30, "cpu")
    encoders._check_memory(tmp_path, 2**29, "cpu")
    assert [r.getMessage() for r in caplog.records][1:] == [f"{tmp_path}: loading 9.0 GiB of weights (16.0 GiB free on cpu)"]


# Features on disk

def test_kept_features_are_bit_for_bit_the_fresh_ones_and_nothing_is_encoded_twice(folder, encoded):
    for dtype in ("fp32", "bf16"):
        encoder = FrozenEncoder(folder, 40, width=16, dtype=dtype)
        captions = [*CAPTIONS[:5], "", CAPTIONS[0]]
        fresh = bits(encoder, captions)
        assert bits(encoder, captions) == fresh == bits(FrozenEncoder(folder, 40, width=16, dtype=dtype, cache=False), captions)
        assert sorted(encoded) == sorted(2 * CAPTIONS[:5])                  # once each, and once more where nothing is kept
        encoded.clear()
        encoder([CAPTIONS[7], *CAPTIONS[:5]])
        assert encoded == [CAPTIONS[7]]
        encoded.clear()


def test_other_lengths_numbers_and_weights_never_share_what_is_kept(folder, tmp_path, encoded, cache):
    encoder = [FrozenEncoder(folder, 40, width=16), FrozenEncoder(folder, 41, width=16), FrozenEncoder(folder, 40, width=16, dtype="bf16")]
    assert len({bits(e, ["red"])[0] for e in encoder}) == 3 == len(encoded) and len(list(cache.iterdir())) == 1
    home = tmp_path / "tiny"
    write_encoder(home)
    same = FrozenEncoder(str(home), 40, width=16)
    assert bits(same, ["red"]) == bits(encoder[0], ["red"]) and len(encoded) == 3              # the same encoder in another folder
    write_encoder(home, seed=1)
    assert bits(FrozenEncoder(str(home), 40, width=16), ["red"]) != bits(encoder[0], ["red"]) and len(encoded) == 4           # another one in the same folder


def test_without_a_cache_nothing_is_written(folder, cache, encoded):
    for _ in range(2):
        FrozenEncoder(folder, 40, width=16, cache=False)(["red"])
    assert encoded == ["red"] * 2 and not cache.exists()


def flip(file):
    content = bytearray(file.read_bytes())
    content[content.index(b"\x00\x10\x00\x00\x00") + 40] ^= 1                                 # within the features of a caption
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [lambda f: f.write_bytes(b"no database at all" * 99), lambda f: f.write_bytes(f.read_bytes()[:5000]), flip],
                         ids=["garbage", "cut", "one bit"])
def test_a_damaged_cache_is_set_aside_with_a_warning(folder, cache, damage, encoded):
    encoder = FrozenEncoder(folder, 40, width=16)
    fresh = bits(encoder, CAPTIONS[:20])
    file, = cache.iterdir()
    damage(file)
    with pytest.warns(UserWarning, match="is damaged .*: moved to .*damaged; features are computed anew"):
        assert bits(encoder, CAPTIONS[:20]) == fresh
    assert file.with_suffix(".damaged").is_file()
    count = len(encoded)
    assert bits(encoder, CAPTIONS[:20]) == fresh and len(encoded) == count


def test_a_full_disk_is_a_warning_and_the_features_are_there(folder, cache, tmp_path, monkeypatch):
    encoder = FrozenEncoder(folder, 40, width=16)
    fresh = bits(encoder, ["red"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sum(f.stat().st_size for f in cache.iterdir()), limits[1]))
    try:
        with pytest.warns(UserWarning, match="going on without the features kept in .*sqlite"):
            assert encoder(CAPTIONS[:30])[1].any(1).all()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert bits(encoder, ["red"]) == fresh
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.join(folder, "config.json"))                  # no folder at all
    with pytest.warns(UserWarning, match="going on without the features kept"):
        assert bits(encoder, ["red"]) == fresh
