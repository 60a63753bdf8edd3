"""Captions read as the published VQ-Diffusion models read them: filled up with token 0 and read to the last of CLIP's 77 positions, with no mask."""
import hashlib
import json
from dataclasses import replace
from string import ascii_lowercase
from types import SimpleNamespace

import pytest
import torch
from make_diffusers_fixtures import with_vq
from test_encoders import bits, cache, encoded  # noqa: F401
from tiny_vq import BASE, RUN, built
from torch.testing import assert_close

from t2ilab.families.vq_diffusion import VQDiffusionConfig
from t2ilab.presets import PRESETS
from t2ilab.runs.folder import read_preset
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.text.find_encoder import fingerprint
from t2ilab.text.frozen_encoder import FrozenEncoder

CAPTIONS = ["a red circle", "A Large blue square!", "x", "on"]
PUBLISHED = ["vq-coco", "vq-coco-tune", "vq-cub", "vq-cub-s", "vq-ithq"]


def clip_tokenizer(**options):
    """CLIP's tokenizer with letters for words: "!" is token 0, the end of a text is the last one, which also pads if not told otherwise."""
    from transformers import CLIPTokenizer
    words = ["!", *ascii_lowercase, "!</w>", *(f"{letter}</w>" for letter in ascii_lowercase), "on</w>", "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[("o", "n</w>")], model_max_length=77, **options)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(folder, model): CLIP's text half, 16 numbers a token, with random weights, and its tokenizer."""
    from transformers import CLIPTextConfig, CLIPTextModel
    folder, tokenizer = tmp_path_factory.mktemp("clip"), clip_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPTextModel(CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), model


def model_of(clip, **changes) -> VQDiffusionConfig:
    """A tiny VQ-Diffusion that reads with CLIP as the published ones do."""
    return replace(BASE, encoder=clip[0], encoder_normalised=True, attend_padding=True, text_length=77, **changes)


def by_hand(clip, captions):
    """What the original feeds its transformer: ids, then zeros, through CLIP with no mask, each position as long as 1: [B 77 16]."""
    ids = torch.zeros(len(captions), 77, dtype=torch.int64)
    for row, caption in zip(ids, captions):
        known = clip_tokenizer()(caption)["input_ids"]
        row[:len(known)] = torch.tensor(known)
    with torch.no_grad():
        x = clip[1](input_ids=ids).last_hidden_state
    return x / x.norm(dim=-1, keepdim=True)


def test_features_are_those_of_captions_filled_up_with_token_0_and_no_mask(clip):
    features, mask = model_of(clip).text_encoder(CAPTIONS)
    assert features.shape == (4, 77, 16) and mask.shape == (4, 77) and mask.all()
    assert_close(features, by_hand(clip, CAPTIONS), rtol=0, atol=1e-6)
    alone, _ = model_of(clip).text_encoder(CAPTIONS[2:3])
    assert_close(alone[0], features[2], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_features_are_those_of_diffusers_where_its_tokenizer_pads_with_token_0(clip):
    """As its published checkpoint's does, which therefore takes a "!" in a caption for padding; the original does not, and neither do we.

    CLIP's own tokenizer pads with the end of a text, which gives other features at every padding position."""
    pipeline = with_vq().VQDiffusionPipeline
    ours, _ = model_of(clip).text_encoder(CAPTIONS)
    with torch.no_grad():
        theirs, by_default = (pipeline._encode_prompt(SimpleNamespace(tokenizer=tokenizer, text_encoder=clip[1], device="cpu"), CAPTIONS, 1, False)
                              for tokenizer in (clip_tokenizer(pad_token="!"), clip_tokenizer()))
    same = [k for k, caption in enumerate(CAPTIONS) if "!" not in caption]
    assert_close(ours[same], theirs[same], rtol=0, atol=1e-6)
    assert len(same) == 3 and not torch.allclose(ours[1], theirs[1], atol=1e-3)
    n = len(clip_tokenizer()(CAPTIONS[0])["input_ids"])
    assert_close(ours[0, :n], by_default[0, :n], rtol=0, atol=1e-6)
    assert ((ours - by_default)[0, n:].abs().amax(1) > 1e-3).all()


def test_without_it_padding_has_no_features_and_is_masked(clip):
    features, mask = replace(model_of(clip), attend_padding=False).text_encoder(CAPTIONS)
    lengths = [len(clip_tokenizer()(caption)["input_ids"]) for caption in CAPTIONS]
    assert mask.sum(1).tolist() == lengths and features[~mask].abs().sum() == 0
    assert_close(features[mask], by_hand(clip, CAPTIONS)[mask], rtol=0, atol=1e-6)           # what comes after a word changes it in no way


def test_a_caption_that_is_too_long_ends_with_its_end(clip):
    with pytest.warns(UserWarning, match="1 of 1 captions have over 77 tokens"):
        features, mask = model_of(clip).text_encoder(["a" * 100])
    ids = clip_tokenizer()("a" * 100, truncation=True, max_length=77, return_tensors="pt")["input_ids"]
    assert mask.all() and ids[0, -1] == clip_tokenizer().eos_token_id
    with torch.no_grad():
        x = clip[1](input_ids=ids).last_hidden_state
    assert_close(features, x / x.norm(dim=-1, keepdim=True), rtol=0, atol=1e-6)


def test_kept_features_are_the_fresh_ones_and_never_those_without_padding(clip, encoded):
    padded, plain = (FrozenEncoder(clip[0], 77, width=16, attend_padding=attend) for attend in (True, False))
    assert padded != plain
    fresh, cut = bits(padded, CAPTIONS), bits(plain, CAPTIONS)
    assert len(encoded) == 8 and fresh != cut
    assert bits(padded, CAPTIONS) == fresh == bits(replace(padded, cache=False), CAPTIONS) and bits(plain, CAPTIONS) == cut
    assert len(encoded) == 12


def test_what_was_kept_before_padding_could_be_read_is_found(clip):
    encoder = FrozenEncoder(clip[0], 77, width=16)
    mark = fingerprint(encoder.folder)
    assert encoder._key("a") == hashlib.sha256(json.dumps([mark, "fp32", 77, "a"]).encode()).digest()


@pytest.mark.slow
def test_no_caption_is_learned_for_every_position_and_guides(clip, tmp_path):
    model = model_of(clip, guidance_scale=3.0)
    features, mask = model.text_encoder(["", *CAPTIONS])
    assert mask.any(1).tolist() == [False, True, True, True, True] and features[0].abs().sum() == 0
    pipeline = built(model)
    assert pipeline.model.net.null_embedding.shape == (77, 16)
    seen = pipeline.model.net.condition(pipeline._read(["", *CAPTIONS])).text
    assert torch.equal(seen[0], pipeline.model.net.null_embedding) and torch.equal(seen[1:], features[1:])
    for _ in train(replace(RUN, model=model), tmp_path / "run"):
        pass
    assert read_preset(tmp_path / "run").model.attend_padding
    assert load(tmp_path / "run")(CAPTIONS).isfinite().all() and load(tmp_path / "run", zero_shot=True)(CAPTIONS).isfinite().all()


def test_the_empty_caption_of_zero_shot_guidance_is_read_to_the_last_position_too(clip):
    features, mask = model_of(clip, zero_shot=True).text_encoder([""])
    assert mask.all()
    assert_close(features, by_hand(clip, [""]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in PRESETS if PRESETS[name].family == "vq_diffusion" and PRESETS[name].model.net.text_width])
def test_published_models_read_token_0_as_padding_and_ours_zeros(name):
    model = PRESETS[name].model
    assert model.attend_padding == (name in PUBLISHED)
    assert not model.attend_padding or (model.text_length, model.encoder_normalised, model.cache) == (77, True, False)
