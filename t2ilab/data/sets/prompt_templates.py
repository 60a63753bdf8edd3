"""What a picture may be called when only its class is known: the name, and a few true sentences made from it.

A model that reads text should not fall silent when you write "a photo of a rose" where it learned "rose"
(CLIP's prompt templates, Radford et al. 2021). Left out on purpose: words that may be false of a picture
(close-up, blurry, one, many).
"""
import re

AN = re.compile(r"(?!eu|uni|one\b)[aeiou]|hour|honest", re.IGNORECASE)  # sounds, as far as letters tell them
FLOWER = re.compile(r"flower|\b(lily|rose|orchid|daisy|tulip|poppy|bells|feathers)$", re.IGNORECASE)
DOG = re.compile(r"(dog|hound)$", re.IGNORECASE)
NO_ARTICLE = frozenset(("canterbury bells", "prince of wales feathers", "watercress", "ball moss"))


def flower_captions(name: str) -> tuple[str, ...]:
    """Captions of a flower, its bare name first: "pink primrose", "a pink primrose", "a photo of a pink
    primrose", "a pink primrose flower"."""
    return _captions(name, name if name.lower() in NO_ARTICLE else with_article(name),
                     "" if FLOWER.search(name) else "flower")


def dog_captions(breed: str) -> tuple[str, ...]:
    """Captions of a dog, its bare breed first: "Chihuahua", "a Chihuahua", "a photo of a Chihuahua", "a
    Chihuahua dog"."""
    return _captions(breed, with_article(breed), "" if DOG.search(breed) else "dog")


def _captions(name, one, kind):
    """The templates. one: the name as it stands in a sentence.  kind: what it is,
    or "" where the name says so already."""
    return tuple(dict.fromkeys((name, one, f"a photo of {one}",
                                *([with_article(f"{name} {kind}")] if kind else []))))


def with_article(words: str) -> str:
    """The words after "a" or "an"."""
    return f"{'an' if AN.match(words) else 'a'} {words}"
