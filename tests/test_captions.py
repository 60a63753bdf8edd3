"""Captions made from class names are true and read like English."""
import pytest
from tiny_data import one_line

from t2ilab.data.captions import clean, lines, read_captions, read_text
from t2ilab.data.sets.prompt_templates import dog_captions, flower_captions, with_article


def test_a_flower_has_its_bare_name_first_and_three_ways_to_say_it():
    assert flower_captions("pink primrose") == ("pink primrose", "a pink primrose", "a photo of a pink primrose", "a pink primrose flower")
    assert flower_captions("azalea") == ("azalea", "an azalea", "a photo of an azalea", "an azalea flower")


@pytest.mark.parametrize("name", ["balloon flower", "sunflower", "purple coneflower", "globe-flower", "tiger lily", "desert-rose", "moon orchid", "Oxeye Daisy"])
def test_a_name_that_says_flower_already_does_not_say_it_twice(name):
    assert len(flower_captions(name)) == 3 and all(caption.endswith(name) for caption in flower_captions(name))


@pytest.mark.parametrize("name, captions", [
    ("canterbury bells", ("canterbury bells", "a photo of canterbury bells")),
    ("prince of wales feathers", ("prince of wales feathers", "a photo of prince of wales feathers")),
    ("watercress", ("watercress", "a photo of watercress", "a watercress flower"))])
def test_plurals_and_what_nobody_counts_stand_without_an_article(name, captions):
    assert flower_captions(name) == captions


def test_every_flower_of_oxford_102_is_said_in_different_captions():
    from torchvision.datasets import Flowers102
    said = [flower_captions(name.rstrip("?")) for name in Flowers102.classes]
    assert len({caption for captions in said for caption in captions}) == sum(map(len, said)) and min(map(len, said)) == 2
    assert not any("flower flower" in caption or " a a" in caption for captions in said for caption in captions)


def test_a_dog_is_a_dog_unless_its_breed_says_so():
    assert dog_captions("Airedale") == ("Airedale", "an Airedale", "a photo of an Airedale", "an Airedale dog")
    assert dog_captions("Old English sheepdog") == ("Old English sheepdog", "an Old English sheepdog", "a photo of an Old English sheepdog")
    assert dog_captions("Afghan hound")[-1] == "a photo of an Afghan hound" and dog_captions("keeshond")[-1] == "a keeshond dog"


@pytest.mark.parametrize("words, said", [
    ("orange dahlia", "an"), ("Irish setter", "an"), ("umbrella", "an"), ("hour glass", "an"), ("hibiscus", "a"), ("European holly", "a"),
    ("unicorn", "a"), ("one-eyed pug", "a"), ("onerous task", "an"), ("yellow iris", "a"), ("", "a")])
def test_an_stands_before_the_sound_of_a_vowel(words, said):
    assert with_article(words) == f"{said} {words}"


# Captions, wherever they come from

ODD = {"two blanks": "a  red  circle", "no-break": "a\u00a0red circle", "tab": "a\tred circle", "newline": "a red\r\ncircle\n", "mark": "\ufeffa red circle",
       "no width": "a\u200bred circle", "line separator": "a red\u2028circle", "ideographic": "a\u3000red circle",
       "soft hyphen": "a red cir\u00adcle", "direction": "\u200ea red circle\u200f", "control": "a red\x07 cir\x7fcle", "between blanks": "a \u00ad red circle",
       "joiner": "a red cir\u200dcle\u200c", "two joiners": "a red cir\u200d\u200d\u200dcle"}


@pytest.mark.parametrize("caption", ODD.values(), ids=ODD)
def test_blanks_of_any_kind_are_one_blank(caption):
    assert clean(caption) == "a red circle"


def test_a_letter_of_two_characters_is_one_and_half_a_character_is_a_question_mark():
    assert clean("cafe\u0301") == "caf\u00e9" and clean("caf\udce9") == "caf?" and clean(None) == "" == clean(" \u200b\0\n")


@pytest.mark.parametrize("text", ["\u0645\u06cc\u200c\u062e", "\u0915\u094d\u200d\u0937", "\U0001f468\u200d\U0001f469\u200d\U0001f467"])
def test_joiners_stay_where_they_shape_what_is_seen(text):
    assert clean(text) == text == clean(text + "\u200d") == clean(f"\u200d{text}\u00ad")       # Persian, Devanagari, a family of emoji


@pytest.mark.parametrize("caption", ODD.values(), ids=ODD)
def test_every_reader_of_captions_reads_the_same(caption, tmp_path):
    from t2ilab.families.ddpm import Labels
    from t2ilab.text.frozen_encoder import _texts
    from t2ilab.text.tokenizer import Tokenizer
    tokenizer = Tokenizer((), 257, 16)
    assert tokenizer.pieces(caption) == tokenizer.pieces("a red circle") and _texts([caption]) == ["a red circle"]
    assert Labels(("a blue one", "A red circle"), 2).find(caption) == 1
    one_line = caption.replace("\r\n", " ")
    (tmp_path / "a.txt").write_text(f"{one_line}\r\n\r\nsecond\n", "utf-8", newline="")
    assert read_captions(tmp_path / "a.txt") == ["a red circle", "second"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_says_its_own_encoding(encoding, tmp_path, caplog):
    (tmp_path / "a.txt").write_bytes("the dog\u2019s caf\u00e9 \U0001f600".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "the dog\u2019s caf\u00e9 \U0001f600" and caplog.records == []


def test_other_bytes_are_read_as_windows_wrote_them_with_a_warning(tmp_path, caplog):
    (tmp_path / "a.txt").write_bytes("the dog\u2019s caf\u00e9".encode("cp1252"))
    assert read_text(tmp_path / "a.txt") == "the dog\u2019s caf\u00e9"
    said, = [record.getMessage() for record in caplog.records]
    assert said == f"{tmp_path}: not UTF-8, so read as cp1252 (1): a.txt"


@pytest.mark.parametrize("content, said", [
    (b"\x89PNG\0", "a.txt is no text file"), ("a dog".encode("utf-16-le"), "is no text file, or UTF-16 without its mark: save it as UTF-8"),
    ("a dog".encode("utf-16-be"), "is no text file"), ("a dog".encode("utf-32-be"), "is no text file"),
    (b"\xff\xfea", "a.txt: begins like UTF-16 and is none"), (b"\xff\xfe\0\0a", "begins like UTF-32 and is none")])
def test_bytes_that_are_no_text_are_refused_in_one_line(content, said, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    with one_line(ValueError, said):
        read_text(tmp_path / "a.txt")


def test_lines_end_at_line_ends_alone():
    assert lines("a\fb\u2028c\x85d\r\ne\rf\n") == ["a\fb\u2028c\x85d", "e", "f", ""]
