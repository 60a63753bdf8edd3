"""Captions to ids and back: nothing a learner types is lost or breaks, the same captions give the same vocabulary, and a bad file is one line."""
import copy
import gzip
import pickle
import warnings
from dataclasses import replace

import pytest
import torch

from t2ilab.data.shapes import Scenes
from t2ilab.text.tokenizer import Tokenizer, learn_merges, read_merges

CAPTIONS = Scenes().texts(200)
MERGES = learn_merges(CAPTIONS, 400)
TOKENIZER = Tokenizer(MERGES, 400, 24)
BARE = Tokenizer((), 257, 40)                   # bytes and an end, no merges
END = 399
ODD = ["🎨🎨", "دائرة حمراء", "two\nlines\r\n", "tab\tand\x00nul", "  two  blanks ", "naïve ß Ωmega", "日本語", "'s 10% #!?\\\"", "\x7f\x80\xad\xa0ÿ", "\ufeff\u200d"]


def spelled(tokenizer, ids):
    """The text that ids stand for, by GPT-2's table of bytes typed literally: printable bytes first, the other 68 after them."""
    order = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    order += [b for b in range(256) if b not in order]
    letters = {chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255 else chr(256 + order.index(b) - 188): b for b in range(256)}
    tokens = [bytes([b]) for b in order] + [bytes(letters[c] for c in merge.replace(" ", "")) for merge in tokenizer.merges]
    return b"".join(tokens[i] for i in ids).decode("utf8")


def read(tokenizer, caption):
    """The ids of the real tokens of one caption."""
    ids, mask = tokenizer([caption])
    return ids[0][mask[0]].tolist()


def in_single_blanks(text):
    """As it is read: what does not show, NUL and soft hyphens and a joiner of nothing, is gone."""
    return " ".join(text.translate({0xfeff: " "} | dict.fromkeys([*b"\0\x7f\x80\xad", 0x200d])).split()).lower()


# Reading

def test_ids_fill_a_line_and_the_end_token_fills_the_rest():
    ids, mask = TOKENIZER(["a red circle", "a"])
    assert ids.shape == mask.shape == (2, 24) and (ids.dtype, mask.dtype) == (torch.int64, torch.bool)
    n = len(TOKENIZER.pieces("a red circle"))
    assert mask.sum(1).tolist() == [n, 1] and mask[0, :n].all() and mask[1, 0]
    assert (ids[~mask] == END).all() and (ids[mask] < END).all()
    assert ids[1, 0] == ids[0, 0] == 64                                     # "a" is byte 97, the 65th that prints


def test_any_text_comes_back_from_its_ids_in_single_blanks():
    wide = Tokenizer(MERGES, 400, 200)
    for text in [*CAPTIONS[:20], *ODD]:
        assert spelled(wide, read(wide, text)) == in_single_blanks(text)
    assert spelled(BARE, read(BARE, "🎨 red")) == "🎨 red" and len(read(BARE, "🎨 red")) == len("🎨 red".encode())


def test_pieces_are_the_caption_token_by_token():
    caption = "a large red circle on a white background"
    assert TOKENIZER.pieces(caption) == ["a", " large", " red", " circle", " on", " a", " white", " background"]
    for text in (*CAPTIONS[:20], "Unseen words, 42 of them!\n"):
        assert "".join(TOKENIZER.pieces(text)) == in_single_blanks(text) and len(TOKENIZER.pieces(text)) == len(read(Tokenizer(MERGES, 400, 99), text))
    assert BARE.pieces("red") == ["r", "e", "d"] and BARE.pieces("") == []


def test_words_that_training_saw_often_are_one_token_and_others_are_spelled():
    assert len(read(TOKENIZER, "a circle")) == 2 and len(read(TOKENIZER, "a quixotic")) > 4
    assert read(TOKENIZER, "a circle")[1] >= 256 and max(read(BARE, "a circle")) < 256


def test_captions_are_read_in_lower_case():
    assert read(TOKENIZER, "A Large RED circle") == read(TOKENIZER, "a large red circle") != []
    assert read(TOKENIZER, "ÄÖÜ") == read(TOKENIZER, "äöü") and learn_merges(["RED red Red"] * 3, 270) == learn_merges(["red red red"] * 3, 270)


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_caption_and_none_are_no_caption(nothing):
    ids, mask = TOKENIZER([nothing, "a"])
    assert not mask[0].any() and (ids[0] == END).all() and mask[1].sum() == 1


def test_no_captions_at_all_are_no_lines():
    assert [v.shape for v in TOKENIZER([])] == [(0, 24), (0, 24)]


def test_a_capital_sigma_at_the_end_of_a_word_is_read_as_the_small_one():
    assert read(BARE, "ΟΔΟΣ") == read(BARE, "οδος")


def test_one_blank_is_a_token_and_blanks_alone_are_no_caption():
    assert read(BARE, "a b") == [64, 220, 65] and read(BARE, " \t") == []


@pytest.mark.parametrize("text", ODD)
def test_odd_text_is_read_like_any_other(text, recwarn):
    assert len(read(BARE, text)) == len(in_single_blanks(text).encode()) and not len(recwarn)


def test_half_a_character_is_a_question_mark():
    """As a file name or a command line in a broken encoding holds: it has no bytes of its own."""
    assert read(BARE, "a\udcff") == read(BARE, "a?") and TOKENIZER.pieces("\ud800") == ["?"]
    assert learn_merges(["!\udcff"] * 3, 258) == ("! ?",)


def test_a_caption_that_is_too_long_is_cut_with_one_warning_that_names_it():
    text = "Red\nand " + "blue " * 2000
    tokenizer = replace(TOKENIZER)
    with pytest.warns(UserWarning, match=r"1 of 3 captions have over 24 tokens and were cut: 'Red\\nand blue ") as warned:
        ids, mask = tokenizer(["a circle", text, None])
    assert len(warned) == 1 and len(str(warned[0].message)) < 200 and "\n" not in str(warned[0].message)
    assert mask[1].all() and ids[1].tolist() == read(Tokenizer(MERGES, 400, 4000), text)[:24]
    with warnings.catch_warnings(action="error"):                           # a run of a thousand steps is told once
        assert tokenizer(["x" * 10_000, "🎨" * 10_000])[1].all()


def test_a_caption_that_just_fits_is_not_warned_about(recwarn):
    assert BARE(["r" * 40])[1].all() and not len(recwarn)


# Learning

def test_learning_twice_gives_the_same_merges_in_any_order_of_captions():
    assert learn_merges(CAPTIONS, 400) == learn_merges(iter(reversed(CAPTIONS)), 400) == MERGES
    assert len(set(MERGES)) == len(MERGES) > 50


def test_the_most_frequent_pair_is_merged_first_and_a_longer_vocabulary_goes_on_from_a_shorter_one():
    assert learn_merges(["ab ab ab cd"], 258) == ("a b",)
    assert learn_merges(CAPTIONS, 300) == MERGES[:43]


def test_a_vocabulary_holds_256_bytes_and_an_end_or_is_refused():
    assert learn_merges(["red red"], 257) == ()
    for size in (256, 0, -1):
        with pytest.raises(ValueError, match=f"vocabulary={size}: choose more than 256"):
            learn_merges(["red"], size)


def test_there_are_never_more_merges_than_fit_or_than_there_are_pairs():
    assert len(learn_merges(CAPTIONS, 280)) == 23
    few = learn_merges(["ab"], 50_000)
    assert few == ("a b",) and read(Tokenizer(few, 50_000, 4), "abb") == [256, ord("b") - 33]
    assert learn_merges([], 300) == () and learn_merges(["", " "], 300) == ()


def test_captions_in_any_script_can_be_learned():
    merges = learn_merges(["دائرة حمراء 🎨\n\x00"] * 5, 300)
    assert len(merges) > 10 and spelled(Tokenizer(merges, 300, 40), read(Tokenizer(merges, 300, 40), "حمراء 🎨")) == "حمراء 🎨"


def test_merges_that_do_not_fit_the_vocabulary_are_refused():
    assert Tokenizer(("a b", "c d"), 259, 4)(["ab"])[0][0].tolist() == [256, 258, 258, 258]
    with pytest.raises(ValueError, match="2 merges and vocabulary=258: 256 bytes, the merges and an end token must fit"):
        Tokenizer(("a b", "c d"), 258, 4)
    with pytest.raises(ValueError, match="0 merges and vocabulary=256"):
        Tokenizer((), 256, 4)


@pytest.mark.parametrize("merge", ["ab", "a b c", "ab c", "a \u2603"])
def test_merges_that_are_none_are_one_line(merge):
    with pytest.raises(ValueError, match="these merges are no byte-pair vocabulary") as error:
        Tokenizer((merge,), 300, 4)(["ab"])
    assert "\n" not in str(error.value)


# Files

@pytest.mark.parametrize("name, header", [("merges.txt", "#version: 0.2\n"), ("vocab.bpe", ""), ("vocab.bpe.gz", "#version: 0.2\n")])
def test_a_published_vocabulary_file_is_read(name, header, tmp_path):
    content = (header + "\n".join(MERGES) + "\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert read_merges(tmp_path / name) == read_merges(str(tmp_path / name)) == MERGES


@pytest.mark.parametrize("content", [b"", b"\n\n", b"#version: 0.2\n", b"\xff\xfe\x00\x01", b"hello\n", b"a b c\n", b"t h\nword\n", b'{"a": 1, "b": 2, "c": 3}',
                                     b"\x1f\x8bbroken", gzip.compress(b"t h\ni n\n")[:-9], gzip.compress(b"\xff\xff")], ids=repr)
def test_a_file_that_holds_no_merges_is_one_line(content, tmp_path):
    (tmp_path / "vocab.bpe").write_bytes(content)
    with pytest.raises(ValueError, match="vocab.bpe is no list of merges") as error:
        read_merges(tmp_path / "vocab.bpe")
    assert "\n" not in str(error.value)


def test_a_damaged_gzip_file_is_one_line_too(tmp_path):
    content = bytearray(gzip.compress(("\n".join(MERGES)).encode()))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "vocab.bpe").write_bytes(content)
    with pytest.raises(ValueError, match="vocab.bpe is no list of merges"):
        read_merges(tmp_path / "vocab.bpe")


def test_a_missing_vocabulary_file_is_named(tmp_path):
    for path in (tmp_path / "none.bpe", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path.name}: no such vocabulary file"):
            read_merges(path)


# A value like any other

@pytest.mark.parametrize("again", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_of_a_tokenizer_is_equal_and_reads_the_same(again, used):
    one = Tokenizer(MERGES, 400, 24)
    ids = one(["a red circle"])[0] if used else None
    two = again(one)
    assert two == one and hash(two) == hash(one) and torch.equal(two(["a red circle"])[0], TOKENIZER(["a red circle"])[0])
    assert ids is None or torch.equal(ids, two(["a red circle"])[0])


def test_tokenizers_are_equal_if_they_read_the_same():
    assert Tokenizer(MERGES, 400, 24) == TOKENIZER
    assert all(other != TOKENIZER for other in (Tokenizer(MERGES[:-1], 400, 24), Tokenizer(MERGES, 401, 24), Tokenizer(MERGES, 400, 23)))
