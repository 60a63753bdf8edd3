"""OpenAI's respacing, written out: the times that published GLIDE weights visit."""
import pytest

from t2ilab.diffusion.schedules import FAST27, sections
from t2ilab.families.glide import GLIDE
from t2ilab.pretrained.glide import with_their_times


def respaced(n):
    """OpenAI's respacing "n" of 1000 times, written out: one stride added up n - 1 times, each sum rounded.  Theirs run from 0 to 999."""
    times, at, stride = [], 0.0, 999 / (n - 1)
    for _ in range(n):
        times.append(round(at))
        at += stride
    return times


def test_a_respacing_of_one_number_visits_openais_times():
    """All even numbers, "100" among them.  For odd ones a sum of theirs may miss a half by a rounding error: then one time is its neighbour."""
    for n in range(2, 1001, 2):
        assert [t - 1 for t in sections(1000, (n,))[-2::-1]] == respaced(n), n
    for n in range(3, 1000, 2):
        assert all(abs(t - 1 - their) <= 1 for t, their in zip(sections(1000, (n,))[-2::-1], respaced(n), strict=True)), n


@pytest.mark.parametrize("steps, times", [(100, tuple(sections(1000, (100,)))), (FAST27, FAST27), (1, 1)])
def test_published_weights_visit_the_published_times(steps, times):
    assert with_their_times(GLIDE(sampling_steps=steps)) == GLIDE(sampling_steps=times)
