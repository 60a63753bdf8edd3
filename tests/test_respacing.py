"""OpenAI's respacing, written out: the times that published GLIDE weights visit."""
import pytest

from t2ilab.diffusion.schedules import FAST27, sections
from t2ilab.families.glide import GLIDE
from t2ilab.pretrained.glide import with_their_times


def respaced(n):
    """OpenAI's respacing "n" of the times 0 to 999: one stride added up n - 1 times, each sum rounded."""
    times, at, stride = [], 0.0, 999 / (n - 1)
    for _ in range(n):
        times.append(round(at))
        at += stride
    return times


def shifted(n):
    """Our n times as theirs: rising, from 0, without the end."""
    return [t - 1 for t in sections(1000, (n,))[-2::-1]]


def test_a_respacing_of_one_number_visits_openais_times():
    """All even numbers, "100" among them; theirs are one less than ours, and end at 0.

    For odd ones a sum of theirs may miss a half by a rounding error: then a time is its neighbour."""
    for n in range(2, 1001, 2):
        assert shifted(n) == respaced(n), n
    for n in range(3, 1000, 2):
        assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(shifted(n), respaced(n), strict=True)), n


@pytest.mark.parametrize("steps, times", [(100, tuple(sections(1000, (100,)))), (FAST27, FAST27), (1, 1)])
def test_published_weights_visit_the_published_times(steps, times):
    assert with_their_times(GLIDE(sampling_steps=steps)) == GLIDE(sampling_steps=times)
