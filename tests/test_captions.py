"""Captions made from class names are true and read like English."""
import pytest

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
