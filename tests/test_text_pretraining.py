"""Text-only pre-training: the paper's span corruption, texts that are true and hold nothing back for later tests, and an encoder others can read."""
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2ilab.data.shapes import HELD_OUT, RELATIONS, parse_caption
from t2ilab.diffusion.cond import Cond
from t2ilab.tensors import generator
from t2ilab.text.frozen_encoder import FrozenEncoder
from t2ilab.text.pretraining import (
    PretrainConfig,
    SceneTexts,
    SpanCorruption,
    fill_in,
    learn_tokenizer,
    pretrain,
    save_encoder,
)
from t2ilab.text.span_corruption import corrupt, cut_out, masked_spans
from t2ilab.training.checkpoint import Checkpoints
from t2ilab.training.fit import FitConfig

TINY = PretrainConfig(vocabulary=340, width=16, hidden=32, layers=1, heads=2, sentinels=6, share=0.15)
TEXTS = SceneTexts()
TOKENIZER = learn_tokenizer(TEXTS, TINY)
MARKS = list(range(100, 150))
ODD = ["🎨🎨", "دائرة حمراء", "two\nlines\r\n", "tab\tand\x00nul", "  two  blanks ", "日本語", "unseen quixotic words, 42 of them!"]


def tiny(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpanCorruption(TOKENIZER, TINY)


def batch(texts, length=40):
    codes = TOKENIZER(texts, add_special_tokens=False, padding="max_length", max_length=length, return_tensors="pt")
    return codes["input_ids"], Cond(mask=codes["attention_mask"].bool())


# Span corruption

def test_figure_2_of_the_paper():
    words = "Thank you for inviting me to your party last week .".split()
    inputs, targets = cut_out(torch.arange(11), [(2, 4), (8, 9)], [100, 101, 102])
    spelled = dict(enumerate(words)) | {100: "<X>", 101: "<Y>", 102: "<Z>"}
    assert " ".join(spelled[i] for i in inputs.tolist()) == "Thank you <X> me to your party <Y> week ."
    assert " ".join(spelled[i] for i in targets.tolist()) == "<X> for inviting <Y> last <Z>"


def restored(inputs, targets, marks):
    """The text that was corrupted: every sentinel replaced by what follows it in the targets."""
    spans, current = {}, None
    for token in targets.tolist():
        if token in marks:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [token for i in inputs.tolist() for token in (spans[i] if i in marks else [i])], list(spans)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 14, 30, 99])
@pytest.mark.parametrize("share, span", [(0.15, 3.0), (0.5, 1.0), (0.99, 9.0)])
def test_putting_the_spans_back_gives_the_text_and_sentinels_come_in_order(n, share, span):
    for seed in range(20):
        inputs, targets = corrupt(torch.arange(n), generator(seed), sentinels=MARKS, share=share, span=span)
        text, order = restored(inputs, targets, MARKS)
        assert text == list(range(n)) and order == MARKS[:len(order)] == [*(i for i in inputs.tolist() if i in MARKS), order[-1]]
        assert inputs.dtype == targets.dtype == torch.int64


def test_15_percent_are_masked_in_spans_of_3():
    """The paper's own example (3.3.4): of 500 tokens 75 are masked, in 25 spans."""
    for seed in range(20):
        spans = masked_spans(500, generator(seed), share=0.15, span=3.0, most=99)
        assert len(spans) == 25 and sum(end - start for start, end in spans) == 75
    assert [sum(e - s for s, e in masked_spans(n, generator(0), share=0.15, span=3.0, most=9)) for n in (0, 1, 2, 10, 14, 31)] == [0, 1, 1, 2, 2, 5]


@pytest.mark.slow
def test_spans_lie_apart_and_anywhere():
    """All ways of masking 4 of 8 tokens in 2 spans come up equally often: 3 ways to split 4, times 10 places for spans that do not touch."""
    seen = {}
    for seed in range(6000):
        spans = tuple(masked_spans(8, generator(seed), share=0.5, span=2.0, most=9))
        seen[spans] = seen.get(spans, 0) + 1
    every = {((a, b), (c, d)) for a, b, c, d in combinations(range(9), 4) if b - a + d - c == 4}
    assert set(seen) == every and len(every) == 30
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 58.3                  # chi-square with 29 degrees of freedom: 99.9 %


def test_there_are_never_more_spans_than_sentinels_or_than_fit():
    assert len(masked_spans(500, generator(0), share=0.15, span=3.0, most=5)) == 5
    assert masked_spans(4, generator(0), share=0.99, span=1.0, most=9) == [(0, 4)]
    assert corrupt(torch.arange(30), generator(3), sentinels=MARKS)[0].tolist() == corrupt(torch.arange(30), generator(3), sentinels=MARKS)[0].tolist()


# Texts and tokens

def test_texts_are_true_and_show_no_pair_that_is_held_out():
    both = 0
    for n in range(400):
        first, *second = (parse_caption(sentence.removesuffix(".")) for sentence in TEXTS[n].split(". "))
        assert not {(o.colour, o.shape) for o in first.objects} & set(HELD_OUT)
        if second:
            other, = second
            both += 1
            (axis, sign), turned = RELATIONS.get(other.relation, (None, None)), RELATIONS.get(first.relation, (None, None))
            assert other.objects == first.objects[::-1] and other.background == first.background
            assert (axis, sign) == (turned[0], turned[1] and -turned[1]) and not (first.position and other.position)
    assert 270 < both < 330 and TEXTS[5] == SceneTexts()[5] != SceneTexts(seed=1)[5]
    assert all(". " not in text for text in map(SceneTexts(twice=0.0).__getitem__, range(50)))


def test_any_text_comes_back_from_its_tokens():
    for text in [TEXTS[0], *ODD]:
        ids = TOKENIZER(text)["input_ids"]
        assert ids[-1] == TOKENIZER.eos_token_id and TOKENIZER.decode(ids[:-1], clean_up_tokenization_spaces=False) == " " + text.removeprefix(" ")
    assert TOKENIZER("A RED Circle")["input_ids"] == TOKENIZER("a red circle")["input_ids"]


def test_words_of_captions_and_sentinels_are_one_token_each():
    wide = learn_tokenizer(TEXTS)
    assert len(wide.tokenize("a large red circle on a white background")) == 8 and len(wide) <= PretrainConfig().vocabulary
    assert TOKENIZER.convert_tokens_to_ids(["<pad>", "</s>", "<extra_id_0>", "<extra_id_5>"]) == [0, 1, 2, 7]


def test_learning_twice_gives_the_same_tokenizer_and_fewer_texts_will_do():
    assert learn_tokenizer(TEXTS, TINY).get_vocab() == TOKENIZER.get_vocab()
    assert len(learn_tokenizer(["red"], TINY)) < 340 and len(learn_tokenizer([], TINY)) == 256 + 8


@pytest.mark.parametrize("wrong", [dict(width=10), dict(heads=0), dict(hidden=0), dict(layers=0), dict(vocabulary=270), dict(sentinels=1), dict(share=0.0), dict(share=1.0), dict(span=0.5)])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="choose|must fit"):
        PretrainConfig(**wrong)


# Training

def test_the_loss_is_the_librarys_own_and_padding_changes_none_of_it():
    model, texts = tiny(), [TEXTS[k] for k in range(4)]
    together = model.loss(*batch(texts), generator(1))
    assert together.shape == (4,) and together.requires_grad
    g = generator(1)
    for text, loss in zip(texts, together):
        ids = TOKENIZER(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
        inputs, targets = (torch.cat([v, torch.tensor([1])])[None] for v in corrupt(ids, g, sentinels=[2, 3, 4, 5, 6, 7]))
        torch.testing.assert_close(loss, model.t5(input_ids=inputs, labels=targets).loss)


@pytest.mark.slow
def test_a_little_training_lowers_the_loss_the_same_way_every_time():
    fit = FitConfig(steps=40, batch_size=8, lr=1e-2, warmup=2, precision="fp32", ema_decay=0.9)
    one, two = ([log.loss for log, _ in pretrain(TEXTS, TOKENIZER, TINY, fit)] for _ in range(2))
    assert one == two and sum(one[-5:]) < 0.75 * sum(one[:5])


def test_texts_in_shards_are_the_same_in_number_and_finite_lists_will_do():
    fit = FitConfig(steps=2, batch_size=4, accumulate=2, precision="fp32")
    assert [log.step for log, _ in pretrain(["a red circle", "", "x" * 999], TOKENIZER, TINY, fit)] == [1, 2]
    with pytest.raises(ValueError, match="no texts"):
        next(pretrain([], TOKENIZER, TINY, fit))


@pytest.mark.slow
def test_gaps_are_filled_with_words():
    fit = FitConfig(steps=80, batch_size=8, lr=1e-2, warmup=2, precision="fp32", ema_decay=0.9)
    *_, (_, model) = pretrain(["a red circle on a white background"], TOKENIZER, replace(TINY, share=0.3, span=1.0), fit)
    assert fill_in(model, TOKENIZER, "a <extra_id_0> circle on a <extra_id_1> background") == "a red circle on a white background"
    assert fill_in(model, TOKENIZER, "no gap") == "no gap"


@pytest.mark.slow
def test_a_training_killed_anywhere_ends_in_the_same_encoder(tmp_path, monkeypatch):
    fit = FitConfig(steps=6, batch_size=4, lr=1e-2, warmup=1, precision="fp32", ema_decay=0.9)
    assert [log.step for log, _ in pretrain(TEXTS, TOKENIZER, TINY, fit, out=tmp_path / "whole")] == [1, 2, 3, 4, 5, 6]
    monkeypatch.setattr(Checkpoints, "due", lambda self, state: state.step in (2, 4))
    for killed_after, goes_on_from in ((3, 1), (5, 3)):
        steps = pretrain(TEXTS, TOKENIZER, TINY, fit, out=tmp_path / "killed")
        assert next(steps)[0].step == goes_on_from and any(log.step == killed_after for log, _ in steps)
        steps.close()
    assert [p.name for p in tmp_path.iterdir() if "killed" in p.name] == [".killed.unfinished"]
    with pytest.raises(ValueError, match="4 are done .*choose more"):
        next(pretrain(TEXTS, TOKENIZER, TINY, replace(fit, steps=4), out=tmp_path / "killed"))
    for texts, other in ((["a dog"], fit), (TEXTS, replace(fit, lr=9.0))):
        with pytest.raises(FileExistsError, match="unfinished training of other texts or with other options"):
            next(pretrain(texts, TOKENIZER, TINY, other, out=tmp_path / "killed"))
    assert [log.step for log, _ in pretrain(TEXTS, TOKENIZER, TINY, fit, out=tmp_path / "killed")] == [5, 6]
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and all(torch.equal(whole[k], killed[k]) for k in whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "whole"]


def test_a_folder_of_something_else_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something other than an encoder"):
        next(pretrain(TEXTS, TOKENIZER, TINY, FitConfig(steps=1), out=tmp_path))


# Saving

def test_a_saved_encoder_is_the_encoder_half_bit_for_bit_for_us_and_for_the_library(tmp_path, monkeypatch):
    from transformers import AutoTokenizer, T5EncoderModel
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, captions = tiny(), ["a red circle", TEXTS[1], "🎨"]
    folder = save_encoder(model, TOKENIZER, tmp_path / "deep" / "tiny")
    theirs, tokenizer = T5EncoderModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    features, mask = FrozenEncoder(str(folder), 48, width=16)(captions)
    for caption, f, m in zip(captions, features, mask):
        ids = TOKENIZER(caption, return_tensors="pt")["input_ids"]
        assert tokenizer(caption)["input_ids"] == ids[0].tolist() and int(m.sum()) == ids.shape[1]
        with torch.no_grad():
            assert torch.equal(theirs(ids).last_hidden_state, model.t5.encoder(ids).last_hidden_state)
            torch.testing.assert_close(f[m], model.t5.encoder(ids).last_hidden_state[0], rtol=0, atol=1e-5)
    assert not any("decoder" in name for name in load_file(folder / "model.safetensors"))


@pytest.mark.slow
def test_an_encoder_of_the_default_size_is_under_2_mb(tmp_path):
    wide = learn_tokenizer(TEXTS)
    folder = save_encoder(SpanCorruption(wide), wide, tmp_path / "t5")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2e6


def test_saving_replaces_an_encoder_and_nothing_else(tmp_path):
    folder = save_encoder(tiny(0), TOKENIZER, tmp_path / "t5")
    old = (folder / "model.safetensors").read_bytes()
    save_encoder(tiny(1), TOKENIZER, folder)
    assert (folder / "model.safetensors").read_bytes() != old and [p.name for p in tmp_path.iterdir()] == ["t5"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something other than an encoder"):
        save_encoder(tiny(0), TOKENIZER, folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_save_that_fails_leaves_the_old_encoder_and_nothing_beside_it(tmp_path, monkeypatch):
    folder = save_encoder(tiny(0), TOKENIZER, tmp_path / "t5")
    old = (folder / "model.safetensors").read_bytes()
    full = type("Full", (), {"save_pretrained": lambda self, path: Path("/dev/full").write_text("x" * 9999)})()
    with pytest.raises(OSError, match="could not write .*t5 .*No space left"):
        save_encoder(tiny(1), full, folder)
    assert (folder / "model.safetensors").read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["t5"]
