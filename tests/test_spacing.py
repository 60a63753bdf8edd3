"""Lists of times even in log-SNR: they fall from T to 0, and take equal steps in between."""
from itertools import pairwise

import pytest
import torch

from t2ilab.diffusion.gaussian import variance_preserving
from t2ilab.diffusion.schedules import cosine, linear
from t2ilab.diffusion.spacing import log_snr_timesteps


@pytest.mark.parametrize("schedule", [cosine, linear])
@pytest.mark.parametrize("n", [1, 2, 5, 10, 100])
def test_times_fall_from_T_to_0_in_at_most_n_steps(schedule, n):
    times = log_snr_timesteps(variance_preserving(schedule()), n)
    assert times[0] == 1000 and times[-1] == 0 and all(t > s for t, s in pairwise(times))
    assert 1 <= len(times) - 1 <= n


def test_steps_between_the_ends_are_equal_in_log_snr():
    diffusion = variance_preserving(cosine())
    times = log_snr_timesteps(diffusion, 10)[1:-1]
    assert len(times) == 9 and times[-1] == 20
    steps = diffusion.snr(torch.tensor(times)).log().diff()
    torch.testing.assert_close(steps, steps.mean().expand(8), rtol=0.15, atol=0)        # times are whole numbers


def test_impossible_lists_are_refused():
    diffusion = variance_preserving(cosine())
    for n, last in ((0, 20), (10, 0), (10, 999)):
        with pytest.raises(ValueError, match="choose 1 or more steps"):
            log_snr_timesteps(diffusion, n, last)
