"""Checkers of lesson 01: data analysis."""
import torch

from ...data.loaders import stream
from ...data.shapes import Scenes
from ...evaluation.alignment import alignment
from ...tensors import generator
from .answers import call


def names_colours(function):
    """A checker for a function images [B 3 32 32] -> B names of colours: right on 95 of 100 scenes."""
    scenes = next(stream(Scenes(size=32, objects=(1,)), batch_size=200, seed=12))
    names = call(function, scenes.images)
    if names is None or len(names) != 200 or not all(isinstance(name, str) for name in names):
        return "return one name of a colour for each image"
    right = sum(name == caption.split()[2] for name, caption in zip(names, scenes.captions)) / 200
    if right < 0.95:
        return (f"{right:.0%} are right, and 95 % are wanted: most pixels show the background. "
                "Which pixels are the object's?")


def normalises(function):
    """A checker for a function uint8 -> float32 in [-1, 1]."""
    u = torch.arange(256, dtype=torch.uint8)
    x = call(function, u)
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
        return "return a float32 tensor: make floats of u before you divide"
    if not torch.allclose(x, torch.linspace(-1, 1, 256), atol=1e-6):
        return "0 must become -1, 255 must become 1, evenly in between"


def swapped_captions():
    """24 scenes [24 3 32 32] and their captions, some of which belong to another one of the scenes."""
    batch, g = next(stream(Scenes(size=32), batch_size=24, seed=9)), generator(9)
    chosen = torch.randperm(24, generator=g)[:int(torch.randint(3, 7, (), generator=g))].tolist()
    captions = list(batch.captions)
    for i, j in zip(chosen, chosen[1:] + chosen[:1]):
        captions[i] = batch.captions[j]
    return batch.images, captions


def finds_swapped_captions(answer):
    """A checker for the indices, in order, of the pictures in swapped_captions with a false caption."""
    wanted = (alignment(*swapped_captions()).per_image < 1).nonzero().flatten().tolist()
    if answer != wanted:
        return ("a caption that is wholly true scores 1: collect the indices "
                "of the pictures that score less, smallest first, in a list")


EXERCISES = {
    "01a": normalises,
    "01b": names_colours,
    "01c": finds_swapped_captions,
}
