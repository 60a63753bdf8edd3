"""The stream is a pure function of (seed, step): resuming, sharding and reading ahead change nothing."""
import random
from itertools import islice

import pytest
import torch

from t2ilab.data.example import ENDLESS, Example
from t2ilab.data.loaders import StepDataset, permutation, stream


class Numbers:
    """A data set whose picture shows its own index (first pixel) and what the generator drew (second pixel)."""
    classes = ("even", "odd")
    size = 4

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def example(self, index, generator):
        image = torch.zeros(3, 4, 4, dtype=torch.uint8)
        image[0, 0, 0] = index % 256
        image[0, 0, 1] = int(torch.randint(256, (), generator=generator))
        return Example(image, f"number {index}", index % 2)


def take(n, *args, **options):
    return list(islice(stream(*args, **options), n))


def assert_same(left, right):
    assert len(left) == len(right) > 0
    for a, b in zip(left, right):
        assert torch.equal(a.images, b.images) and a.captions == b.captions and torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("length", [10, ENDLESS])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_equals_the_uninterrupted_one(length, workers):
    whole = take(9, Numbers(length), batch_size=4, seed=3)
    assert_same(take(4, Numbers(length), batch_size=4, seed=3, start=5, workers=workers), whole[5:])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shards", [2, 3])
def test_the_shards_of_a_step_put_together_are_the_whole_batch(shards, workers):
    whole = take(4, Numbers(10), batch_size=6, seed=1)
    parts = [take(4, Numbers(10), batch_size=6, seed=1, shard=k, shards=shards, workers=workers) for k in range(shards)]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([p[step].images for p in parts]), batch.images)
        assert sum((p[step].captions for p in parts), []) == batch.captions


def test_every_epoch_shows_each_example_once_in_a_new_order():
    captions = sum((b.captions for b in take(10, Numbers(12), batch_size=6)), [])
    epochs = [captions[k:k + 12] for k in range(0, 60, 12)]
    assert all(sorted(e) == sorted(epochs[0]) and len(set(e)) == 12 for e in epochs)
    assert len({tuple(e) for e in epochs}) == 5


def test_batches_stay_full_over_the_border_of_epochs_and_when_larger_than_the_data():
    assert [len(b.captions) for b in take(5, Numbers(7), batch_size=4)] == [4] * 5
    (batch,) = take(1, Numbers(3), batch_size=10)
    assert batch.images.shape == (10, 3, 4, 4) and len(set(batch.captions[:3])) == 3


def test_augmentation_differs_between_visits_of_the_same_example():
    drawn = [float(b.images[0, 0, 0, 1]) for b in take(8, Numbers(1), batch_size=1)]
    assert len(set(drawn)) > 4


def test_an_endless_set_is_asked_for_its_samples_in_turn():
    captions = sum((b.captions for b in take(3, Numbers(ENDLESS), batch_size=2, start=5)), [])
    assert captions == [f"number {n}" for n in range(10, 16)]


def test_another_seed_gives_another_order_and_other_augmentation():
    a, b = (take(1, Numbers(50), batch_size=50, seed=s)[0] for s in (0, 1))
    assert a.captions != b.captions and sorted(a.captions) == sorted(b.captions)
    assert not torch.equal(permutation(0, 0, 50), permutation(0, 1, 50))


def test_images_are_floats_between_minus_one_and_one_and_labels_are_integers():
    (batch,) = take(1, Numbers(256), batch_size=256)
    assert batch.images.dtype == torch.float32 and batch.labels.dtype == torch.int64
    assert batch.images.min() == -1 and batch.images.max() == 1
    assert batch.captions[7] == f"number {round((float(batch.images[7, 0, 0, 0]) + 1) * 127.5)}"


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_leaves_the_global_random_numbers_alone(workers):
    torch.manual_seed(5), random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    take(3, Numbers(10), batch_size=2, workers=workers)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


def test_a_step_is_rebuilt_alone_without_the_steps_before_it():
    late = StepDataset(Numbers(1000), 8, 4, 0, 1)[123_456]
    assert late.images.dtype == torch.uint8
    assert late.captions == take(1, Numbers(1000), batch_size=8, seed=4, start=123_456)[0].captions


@pytest.mark.parametrize("options, said", [
    (dict(batch_size=5, shards=2), "multiple of shards"), (dict(batch_size=0), "positive"),
    (dict(batch_size=4, shards=2, shard=2), "0..1"), (dict(batch_size=4, start=-1), "start=-1"),
])
def test_numbers_that_do_not_fit_are_refused_before_the_first_batch(options, said):
    with pytest.raises(ValueError, match=said):
        stream(Numbers(10), **options)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="empty"):
        stream(Numbers(0), batch_size=4)
