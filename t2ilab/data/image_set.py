"""Images on disk as a data set: example number n is the same image for the whole run and every resumed one.

Left out on purpose: caching decoded pixels, sizes other than square.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from .decode import Fit, open_rgb
from .example import Example
from .image_check import BrokenFile
from .sets.listing import Listing


@dataclass(frozen=True)
class ImageSet:
    """Images on disk as a data set: crop, flip and choice of caption come from the generator alone."""
    listing: Listing                            # of good images only
    fit: Fit
    sizes: Sequence[tuple[int, int]]            # true (width, height) of each, before it is fitted
    bad: tuple[BrokenFile, ...] = ()            # what was left out

    @property
    def classes(self) -> tuple[str, ...]:
        return self.listing.classes

    @property
    def size(self) -> int:
        return self.fit.size

    @property
    def repeats(self) -> bool:
        """Whether an example has the same pixels in each epoch, or their mirror image."""
        return self.fit.crop != "random"

    def __len__(self) -> int:
        return len(self.listing.pictures)

    def texts(self) -> list[str]:
        """Every caption: what a vocabulary is learned from."""
        return [caption for captions in self.listing.captions for caption in captions]

    def example(self, index: int, generator: torch.Generator) -> Example:
        """Image number `index`, fitted to [3 S S] uint8, with one of its captions.

        A file that broke after the check is a ValueError."""
        picture, captions = self.listing.pictures[index], self.listing.captions[index]
        on_disk = isinstance(picture, Path)
        image = open_rgb(picture, self.size)[0] if on_disk else Image.fromarray(picture)
        image = self.fit(image, generator)
        caption = captions[int(torch.randint(len(captions), (), generator=generator))]
        return Example(image, caption, int(self.listing.labels[index]))
