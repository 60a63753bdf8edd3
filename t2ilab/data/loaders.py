"""Training batches as a pure function of the step: nothing to save or restore when a run resumes.

Sample number n of a run is fixed by (seed, n) alone. Any batch can be built without the ones before
it, by any process, in any order.
Left out on purpose: bucketing by size, weighted sampling, shards of tar files.
"""
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..tensors import from_uint8, generator
from ..tensors import generator as seeded
from .example import ENDLESS, Example


class Batch(NamedTuple):
    """A batch of images, captions and labels for the trainer."""
    images: Tensor              # [B 3 H W] float32 in [-1, 1]
    captions: list[str]         # B
    labels: Tensor              # [B] int64, -1 = none
    repeats: bool = False       # the same pixels come again in other epochs: worth caching features


@lru_cache(maxsize=2)           # a batch over the border of two epochs needs both
def permutation(seed: int, epoch: int, length: int) -> Tensor:
    """Shuffled order of one epoch. [length] int64, every index 0..length-1 once."""
    return torch.randperm(length, generator=generator(seed, epoch, length))


@dataclass(frozen=True)
class StepDataset:
    """Map-style data set of batches: item k is this shard's part of batch k.

    Images are still uint8: a quarter of the bytes to pass between processes."""
    dataset: Any
    batch_size: int             # samples per step over all shards together
    seed: int
    shard: int
    shards: int

    def sample(self, n: int) -> Example:
        """Sample number n of the run: epoch n // len, place n % len in that epoch's order.

        Crop, flip and caption are drawn from (seed, n)."""
        length = len(self.dataset)
        epoch, i = divmod(n, length)
        index = n if length == ENDLESS else int(permutation(self.seed, epoch, length)[i])
        return self.dataset.example(index, generator(self.seed, n))

    def __getitem__(self, step: int) -> Batch:
        each = self.batch_size // self.shards
        first = step * self.batch_size + self.shard * each
        images, captions, labels = zip(*(self.sample(n) for n in range(first, first + each)))
        repeats = getattr(self.dataset, "repeats", False)
        labels = torch.tensor(labels, dtype=torch.int64)
        return Batch(torch.stack(images), list(captions), labels, repeats)


def stream(dataset, *, batch_size: int, seed: int = 0, start: int = 0, shard: int = 0,
           shards: int = 1, workers: int = 0) -> Iterator[Batch]:
    """Endless batches from step `start`, exactly those an uninterrupted run would see from there.

    Every batch is full: the stream runs over the border of an epoch.
    Shard k of K gives its batch_size // K samples of each step (one shard per process); the shards
    together are the batch of shards=1. `workers` processes only read ahead: they change no number.
    Raises ValueError for an empty data set or numbers that do not fit together.
    Lesson: notebooks/01_data_analysis.ipynb"""
    if len(dataset) == 0:
        raise ValueError("the data set is empty: there is nothing to stream")
    if batch_size < 1 or shards < 1 or batch_size % shards:
        raise ValueError(f"batch_size={batch_size}, shards={shards}: "
                         "batch_size must be a positive multiple of shards")
    if not 0 <= shard < shards or start < 0 or workers < 0:
        raise ValueError(f"shard={shard} of {shards}, start={start}, workers={workers}: "
                         f"shard must be in 0..{shards - 1}, the others 0 or more")
    steps = StepDataset(dataset, batch_size, seed, shard, shards)
    here = map(steps.__getitem__, count(start))
    return map(_to_float, _read_ahead(steps, start, workers) if workers else here)


def _read_ahead(steps: StepDataset, start: int, workers: int) -> Iterator[Batch]:
    """The same batches in the same order, each built by a worker process ahead of time."""
    own = torch.Generator()         # for DataLoader's seed: the run may use the global stream
    loader = DataLoader(_Caught(steps), batch_size=None, sampler=count(start), num_workers=workers,
                        collate_fn=_as_is, generator=own, worker_init_fn=_left_to_the_run)
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


def _left_to_the_run(_worker: int) -> None:
    """Ignore SIGINT in a worker: Ctrl-C reaches every process of a terminal.

    The run finishes its step with what workers read, then ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class _Caught:
    """Steps that return a data error, because a worker would raise it with a page of traceback."""
    steps: StepDataset

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            return self.steps[step]
        except (OSError, ValueError) as error:
            return error


def _as_is(batch):
    return batch


@dataclass(frozen=True)
class HoldoutSplit:
    """Training part of a data set, without every k-th example, or the validation part (held=True).

    An endless one has no k-th example: its validation part is drawn from three seeds, (the
    example's, k, 6), where training and evaluation draw from two, so that none of theirs draws the
    same."""
    dataset: Any
    every: int                  # k, 2 or more
    held: bool = False

    def __len__(self) -> int:
        n = len(self.dataset)
        if n == ENDLESS:
            return n
        held = -(-n // self.every)
        return held if self.held else n - held

    def example(self, index: int, generator: torch.Generator) -> Example:
        """Example number `index` of this part."""
        if self.held and len(self.dataset) == ENDLESS:
            generator = seeded(generator.initial_seed(), self.every, 6)
        return self.dataset.example(self._whole(index), generator)

    def __getitem__(self, index: int) -> str:
        """Text number `index` of this part, of a data set of texts."""
        return self.dataset[self._whole(index)]

    def _whole(self, index: int) -> int:
        return index * self.every if self.held else index + index // (self.every - 1) + 1

    @property
    def repeats(self) -> bool:
        """Whether the whole data set's pixels come again."""
        return getattr(self.dataset, "repeats", False)

    def texts(self) -> list[str]:
        """The captions of the whole data set: a vocabulary has all words."""
        return self.dataset.texts()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the whole data set."""
        return self.dataset.classes


def _to_float(batch: Batch) -> Batch:
    return batch._replace(images=from_uint8(batch.images))
