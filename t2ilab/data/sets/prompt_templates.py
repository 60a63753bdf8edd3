"""Prompt templates: captions for an image of which only the class is known (CLIP, Radford et al. 2021).

A model that reads text should not fall silent when you write "a photo of a rose" where it learned "rose".
Left out on purpose: words that may be false of an image (close-up, blurry, one, many).
"""
import re

# Vowels by sound, as far as letters tell it.
AN = re.compile(r"(?!eu|uni|one\b)[aeiou]|hour|honest", re.IGNORECASE)
FLOWER = re.compile(r"flower|\b(lily|rose|orchid|daisy|tulip|poppy|bells|feathers)$", re.IGNORECASE)
DOG = re.compile(r"(dog|hound)$", re.IGNORECASE)
NO_ARTICLE = frozenset(("canterbury bells", "prince of wales feathers", "watercress", "ball moss"))


def flower_captions(name: str) -> tuple[str, ...]:
    """Captions of a flower, its bare name first.

    "pink primrose", "a pink primrose", "a photo of a pink primrose", "a pink primrose flower"."""
    one = name if name.lower() in NO_ARTICLE else with_article(name)
    return _captions(name, one, "" if FLOWER.search(name) else "flower")


def dog_captions(breed: str) -> tuple[str, ...]:
    """Captions of a dog, its bare breed first.

    "Chihuahua", "a Chihuahua", "a photo of a Chihuahua", "a Chihuahua dog"."""
    return _captions(breed, with_article(breed), "" if DOG.search(breed) else "dog")


def _captions(name, one, kind):
    """The templates. one: the name as it stands in a sentence.  kind: what it is, "" if the name says so."""
    long = [with_article(f"{name} {kind}")] if kind else []
    return tuple(dict.fromkeys((name, one, f"a photo of {one}", *long)))


def with_article(words: str) -> str:
    """The words after "a" or "an"."""
    return f"{'an' if AN.match(words) else 'a'} {words}"
