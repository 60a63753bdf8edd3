"""Text-only pre-training: the paper's span corruption, texts that are true and hold nothing back for later tests, and an encoder others can read."""
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import digests, logged, names

from t2ilab.cli import commands as cli
from t2ilab.data.loaders import HoldoutSplit
from t2ilab.data.shapes import HELD_OUT, RELATIONS, parse_caption
from t2ilab.families.span_corruption import SceneTexts, SpanCorruptionConfig, fill_in, save_encoder
from t2ilab.presets import SaveConfig
from t2ilab.presets.span_corruption import T5_SHAPES
from t2ilab.runs.load import load
from t2ilab.runs.train import train
from t2ilab.tensors import generator
from t2ilab.text.frozen_encoder import FrozenEncoder
from t2ilab.text.span_corruption import corrupt, cut_out, masked_spans
from t2ilab.training.checkpoint import Checkpoints
from t2ilab.training.fit import FitConfig, fit

TEXTS = SceneTexts()
TINY = SpanCorruptionConfig(vocabulary=340, width=16, hidden=32, layers=1, heads=2, sentinels=6, share=0.15).fit_to_dataset(TEXTS)
TOKENIZER = TINY.tokenizer
FIT = FitConfig(steps=6, batch_size=4, lr=1e-2, warmup=1, precision="fp32", ema_decay=0.9)
RUN = replace(T5_SHAPES, model=TINY, fit=FIT)
MARKS = list(range(100, 150))
ODD = ["🎨🎨", "دائرة حمراء", "two\nlines\r\n", "tab\tand\x00nul", "  two  blanks ", "日本語", "unseen quixotic words, 42 of them!"]


def tiny(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TINY.build()


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
    wide = SpanCorruptionConfig().fit_to_dataset(TEXTS).tokenizer
    assert len(wide.tokenize("a large red circle on a white background")) == 8 and len(wide) <= SpanCorruptionConfig().vocabulary
    assert TOKENIZER.convert_tokens_to_ids(["<pad>", "</s>", "<extra_id_0>", "<extra_id_5>"]) == [0, 1, 2, 7]


def test_learning_twice_gives_the_same_tokenizer_and_fewer_texts_will_do():
    assert TINY.fit_to_dataset(TEXTS) == TINY
    assert len(TINY.fit_to_dataset(["red"]).tokenizer) < 340 and len(TINY.fit_to_dataset([]).tokenizer) == 256 + 8


@pytest.mark.parametrize("wrong", [dict(width=10), dict(vocabulary=270), dict(sentinels=1), dict(share=1.0), dict(span=0.5)])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="choose|must fit"):
        SpanCorruptionConfig(**wrong)


# Training

def test_the_loss_is_the_librarys_own_and_padding_changes_none_of_it():
    model, texts = tiny(), [TEXTS[k] for k in range(4)]
    together = model.loss(*TINY.to_training_pair(texts), generator(1))
    assert together.shape == (4,) and together.requires_grad
    g = generator(1)
    for text, loss in zip(texts, together):
        ids = TOKENIZER(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
        inputs, targets = (torch.cat([v, torch.tensor([1])])[None] for v in corrupt(ids, g, sentinels=[2, 3, 4, 5, 6, 7]))
        torch.testing.assert_close(loss, model.t5(input_ids=inputs, labels=targets).loss)


def trained(texts=TEXTS, **changed):
    """(Log, averaged model) of a little training, step by step."""
    config = FitConfig(**{"steps": 40, "batch_size": 8, "lr": 1e-2, "warmup": 2, "precision": "fp32", "ema_decay": 0.9} | changed)
    return fit(tiny(), map(TINY.to_training_pair, TINY.stream(texts, batch_size=config.batch_size)), config)


@pytest.mark.slow
def test_a_little_training_lowers_the_loss_the_same_way_every_time():
    one, two = ([log.loss for log, _ in trained()] for _ in range(2))
    assert one == two and sum(one[-5:]) < 0.75 * sum(one[:5])


def test_batches_are_drawn_by_seed_step_and_shard_and_begin_anywhere():
    whole, later = (TINY.stream(TEXTS, batch_size=4, seed=1, start=start, shard=1, shards=2) for start in (0, 1))
    assert [next(whole), next(whole)][1] == next(later) and len(next(whole)) == 2
    assert next(TINY.stream(TEXTS, batch_size=2)) != next(TINY.stream(TEXTS, batch_size=2, seed=1)) != next(TINY.stream(TEXTS, batch_size=4, seed=1, shard=1, shards=2))
    x0, cond = TINY.to_training_pair(["a red circle", "", "x" * 999])
    assert x0.shape == (3, 48) and cond.mask.sum(1).tolist()[1:] == [0, 48]


@pytest.mark.slow
def test_gaps_are_filled_with_words():
    config = replace(TINY, share=0.3, span=1.0)
    torch.manual_seed(0)
    batches = map(config.to_training_pair, config.stream(["a red circle on a white background"], batch_size=8))
    *_, (_, model) = fit(config.build(), batches, FitConfig(steps=80, batch_size=8, lr=1e-2, warmup=2, precision="fp32", ema_decay=0.9))
    assert fill_in(model, TOKENIZER, "a <extra_id_0> circle on a <extra_id_1> background") == "a red circle on a white background"
    assert fill_in(model, TOKENIZER, "no gap") == "no gap"


# Runs

def pretrain(out, *words):
    """The exit status of `t2ilab pretrain` at the size of TINY, for FIT's steps."""
    options = ("--vocabulary 340 --width 16 --hidden 32 --layers 1 --heads 2 --sentinels 6 --share 0.15 "
               "--steps 6 --batch-size 4 --lr 0.01 --warmup 1 --ema-decay 0.9").split()
    return cli.main(["pretrain", "--out", str(out), *options, *words])


@pytest.mark.slow
def test_a_training_killed_anywhere_ends_in_the_same_encoder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert pretrain("whole") == 0
    monkeypatch.setattr(Checkpoints, "due", lambda self, state: state.step % 2 == 0)
    for killed_after, goes_on_from in ((3, 1), (5, 4)):     # closed, it saves the step it has done
        steps = train(RUN, Path(".killed.unfinished"))
        assert next(steps)[0].step == goes_on_from and any(log.step == killed_after for log, _ in steps)
        steps.close()
    assert [row["step"] for row in logged(Path(".killed.unfinished"))] == [1, 2, 3, 4, 5]
    (tmp_path / "texts.txt").write_text("a dog\n")
    for words, said in ((("--steps", "3"), "5 steps are done.*choose --steps 5 or more"), (("--texts", "texts.txt"), "another model and data"),
                        (("--seed", "1"), "another seed"), (("--layers", "2"), "another model: choose another --out")):
        assert pretrain("killed", *words) == 1 and re.search(said, capsys.readouterr().err)
    assert pretrain("killed") == 0 and digests(Path("killed")) == digests(Path("whole"))
    assert len(list(train(RUN, Path(".late.unfinished")))) == 6                  # killed after the last step
    assert pretrain("late") == 0 and digests(Path("late")) == digests(Path("whole"))
    assert names(tmp_path) == ["killed", "late", "texts.txt", "whole"]


def test_a_folder_of_something_else_is_refused_before_the_first_step(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert pretrain(tmp_path / "out") == 1 and "something other than an encoder" in capsys.readouterr().err
    assert names(tmp_path) == ["out"]


def test_texts_are_held_back_and_measured(tmp_path):
    """By the driver, as pictures are: of a list every third, of endless ones others than those that are learned from."""
    rest, held = (HoldoutSplit("abcdefg", 3, held) for held in (False, True))
    assert [[part[k] for k in range(len(part))] for part in (rest, held)] == [list("bcef"), list("adg")]
    list(train(replace(RUN, fit=replace(FIT, steps=2), data=replace(RUN.data, validation=0.1)), tmp_path))
    assert ["validation" in row for row in logged(tmp_path)] == [False, True]


@pytest.mark.slow
def test_a_language_model_draws_nothing(tmp_path):
    with pytest.raises(ValueError, match="draws no images: .*sample_steps=0"):
        next(train(replace(RUN, save=SaveConfig()), tmp_path / "pictures"))
    list(train(RUN, tmp_path / "run"))
    with pytest.raises(ValueError, match="draws no images: .*--encoder"):
        load(tmp_path / "run")


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
    wide = SpanCorruptionConfig().fit_to_dataset(TEXTS)
    folder = save_encoder(wide.build(), wide.tokenizer, tmp_path / "t5")
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
