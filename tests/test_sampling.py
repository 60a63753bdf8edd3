"""The one loop and its steps: equal to diffusers' schedulers draw for draw, right in the limit, and reversible."""
import math

import pytest
import torch
from torch.testing import assert_close
from toys import Toy, doubles, ideal, mixture, pixels

from t2ilab.diffusion.constraints import clip, dynamic_threshold
from t2ilab.diffusion.gaussian import variance_preserving
from t2ilab.diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from t2ilab.diffusion.guidance import constrained
from t2ilab.diffusion.sampling import SAMPLERS, ancestral, ddim, dpm_solver_pp_2m, invert, sample, trajectory
from t2ilab.diffusion.schedules import SCHEDULES, cosine, linear, timesteps
from t2ilab.tensors import generator, randn

SHAPE = (2, 3, 4, 6)
LINEAR, COSINE = variance_preserving(linear()), variance_preserving(cosine())
TABLES = {"linear": LINEAR, "cosine": COSINE}
VARIANCES = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}
UNEVEN = [1000, 950, 600, 599, 333, 40, 8, 1, 0]                # ends with 1, 0: from further up diffusers' DDPM adds noise even in its last step


def noise(seed, *shape):
    return randn(shape or SHAPE, generator(seed), dtype=torch.float64)


def last(denoise, diffusion, x, times, **options):
    *_, frame = trajectory(denoise, diffusion, x, times, **options)
    return frame.x


# ---------------------------------------------------------------------------------------------------------------------------- equal to diffusers
def scheduler(kind, diffusion, times, **options):
    """One of diffusers' schedulers with our float64 table in the place of its float32 one, set to visit our times (its index is our t - 1)."""
    theirs = getattr(pytest.importorskip("diffusers"), kind)(timestep_spacing="trailing", **options)
    theirs.alphas_cumprod = diffusion.alpha_bar[1:].clone()
    even = times == timesteps(diffusion.T, len(times) - 1)
    theirs.set_timesteps(**{"num_inference_steps": len(times) - 1} if even else {"timesteps": [t - 1 for t in times[:-1]]})
    assert [t + 1 for t in theirs.timesteps.tolist()] == times[:-1]
    return theirs


def run(theirs, net, x, **options):
    """Every x of their run, each network call at our clock."""
    for t in theirs.timesteps:
        answer = net(x, (t + 1).expand(len(x)), NO_CAPTION)
        x = theirs.step(answer, t, x, **options).prev_sample
        yield x


class NO_CAPTION:
    mask = None


def assert_same_run(ours, theirs, **tolerance):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for frame, x in zip(ours, theirs):
        assert_close(frame.x, x, **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("times", [timesteps(1000, 10)[:-1] + [1, 0], [*range(60, -1, -1)], UNEVEN], ids=["11", "last 60", "uneven"])
@pytest.mark.parametrize("constraints", [(), (clip,)], ids=["free", "clipped"])
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("table", TABLES)
def test_ancestral_sampling_equals_diffusers(table, variance, constraints, times):
    diffusion, net = TABLES[table], Toy(6 if variance == "learned" else 3)
    denoise = GaussianDenoiser(net, diffusion, ObjectiveConfig(variance=variance))
    theirs = scheduler("DDPMScheduler", diffusion, times, clip_sample=bool(constraints), variance_type=VARIANCES[variance])
    ours = trajectory(constrained(denoise, *constraints), diffusion, noise(0), times, generator=generator(1))
    assert_same_run(ours, run(theirs, net, noise(0), generator=generator(1)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [5, 50])
@pytest.mark.parametrize("constraints", [(), (clip,)], ids=["free", "clipped"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("table", TABLES)
def test_ddim_equals_diffusers(table, eta, constraints, n):
    diffusion, net, times = TABLES[table], Toy(), timesteps(1000, n)
    theirs = scheduler("DDIMScheduler", diffusion, times, clip_sample=bool(constraints))
    ours = trajectory(constrained(GaussianDenoiser(net, diffusion), *constraints), diffusion, noise(2), times, sampler=ddim(eta), generator=generator(3))
    given = dict(eta=eta, use_clipped_model_output=True, generator=generator(3))                # eps follows the clipped picture
    assert_same_run(ours, run(theirs, net, noise(2), **given), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("times", [timesteps(1000, 4), timesteps(1000, 20), UNEVEN], ids=["4", "20", "uneven"])
@pytest.mark.parametrize("table, bound", [("linear", None), ("linear", 1.0), ("linear", 1e9), ("cosine", 1.0)],
                         ids=["linear, free", "linear, clipped", "linear, thresholded", "cosine, clipped"])
@pytest.mark.filterwarnings("ignore:__array__")                     # inside diffusers
def test_dpm_solver_equals_diffusers(table, bound, times):
    """DPM-Solver++ Algorithm 2, first order into t = 0; their step computes in float32. Their threshold with an upper bound of 1 is clipping."""
    diffusion, net = TABLES[table], Toy()
    theirs = scheduler("DPMSolverMultistepScheduler", diffusion, times, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero",
                       lower_order_final=True, thresholding=bound is not None, dynamic_thresholding_ratio=0.9, sample_max_value=bound or 1.0)
    constraints = {None: (), 1.0: (clip,), 1e9: (dynamic_threshold(0.9),)}[bound]
    ours = trajectory(constrained(GaussianDenoiser(net, diffusion), *constraints), diffusion, noise(4), times, sampler=dpm_solver_pp_2m)
    scale = 100 if bound is None else 1                             # free, x0_hat starts at about 1 / sqrt(alpha_bar_T) = 157
    assert_same_run(ours, run(theirs, net, noise(4)), rtol=1e-4, atol=2e-5 * scale)


# ------------------------------------------------------------------------------------------------------------- a data set that is known is sampled
DATA = pixels(4, 1, 2, 3)
SHARE = doubles(0.4, 0.3, 0.2, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sampler, n", [("ancestral", 200), ("ddim", 40), ("dpm_solver_pp_2m", 25)])
@pytest.mark.parametrize("table", TABLES)
def test_the_best_denoiser_draws_the_data_set_with_its_frequencies(table, sampler, n):
    diffusion, B = TABLES[table], 3000
    x = last(ideal(diffusion, DATA, SHARE), diffusion, noise(5, B, 1, 2, 3), timesteps(1000, n), sampler=SAMPLERS[sampler], generator=generator(6))
    distance = (x[:, None] - DATA).abs().flatten(2).amax(2)         # [B 4]
    assert (distance.amin(1) < 0.01).double().mean() > 0.995
    counts = torch.bincount(distance.argmin(1), minlength=4)
    assert ((counts / B - SHARE).abs() < 4 * (SHARE * (1 - SHARE) / B).sqrt() + 0.01).all()


# ----------------------------------------------------------------------------------------------------------------------------- order of convergence
CENTRES, SPREAD, PARTS = doubles(-0.6, 0.5), 0.4, doubles(0.6, 0.4)


def cdf(x, scale, std):
    return (PARTS * torch.special.ndtr((x[:, None] - scale * CENTRES) / std)).sum(1)


def exact_end(diffusion, x_T):
    """Where the deterministic path from x_T ends: on a line paths cannot cross, so it keeps its rank among all others. By bisection."""
    a, s = diffusion.scales(CENTRES, diffusion.T)
    rank = cdf(x_T, a, (a ** 2 * SPREAD ** 2 + s ** 2).sqrt())
    low, high = torch.full_like(x_T, -9), torch.full_like(x_T, 9)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = torch.where(cdf(middle, 1, SPREAD) < rank, middle, low), torch.where(cdf(middle, 1, SPREAD) < rank, high, middle)
    return middle


@pytest.mark.parametrize("sampler, order", [("ddim", (0.9, 1.1)), ("dpm_solver_pp_2m", (1.9, 2.6))])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_ddim_is_of_first_and_dpm_solver_of_second_order(schedule, sampler, order):
    """The slope of log error over log steps, for a mixture of two Gaussians with its exact score; more steps are never worse."""
    diffusion, steps = variance_preserving(schedule(1024)), [16, 32, 64, 128]
    denoise, x_T = mixture(diffusion, CENTRES[:, None, None, None], SPREAD, PARTS), torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)
    ends = [last(denoise, diffusion, x_T[:, None, None, None], timesteps(1024, n), sampler=SAMPLERS[sampler]).flatten() for n in steps]
    errors = [(end - exact_end(diffusion, x_T)).square().mean().sqrt().item() for end in ends]
    assert errors == sorted(errors, reverse=True)
    x, y = doubles(*steps).log(), doubles(*errors).log()
    slope = -((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert order[0] < slope < order[1]


# ---------------------------------------------------------------------------------------------------------------------------------- there and back
def round_trip(n, refine, diffusion=COSINE):
    """The largest error of pixels that were encoded to x_T and drawn again in n steps each way."""
    denoise, x0 = mixture(diffusion, DATA, 0.3, SHARE), DATA + 0.2 * noise(7, 4, 1, 2, 3)
    x_T = invert(denoise, diffusion, x0, timesteps(1000, n), refine=refine)
    assert (x_T - x0).abs().max() > 0.5
    return (last(denoise, diffusion, x_T, timesteps(1000, n), sampler=ddim()) - x0).abs().max().item()


@pytest.mark.parametrize("table", TABLES)
def test_a_picture_comes_back_from_its_noise(table):
    assert round_trip(50, 15, TABLES[table]) < 1e-10


@pytest.mark.parametrize("table", TABLES)
def test_a_round_trip_gets_better_with_refinement_and_with_steps(table):
    by_refine = [round_trip(20, refine, TABLES[table]) for refine in (1, 2, 3, 6)]
    by_steps = [round_trip(n, 1, TABLES[table]) for n in (10, 20, 40, 80)]
    assert by_refine == sorted(by_refine, reverse=True) and by_refine[-1] < by_refine[0] / 1000
    assert by_steps == sorted(by_steps, reverse=True) and by_steps[-1] < by_steps[0] / 3


def test_encoded_pictures_look_like_noise():
    denoise, n = mixture(COSINE, DATA, 0.3, SHARE), 400
    x0 = DATA[torch.multinomial(SHARE, n, replacement=True, generator=generator(8))] + 0.3 * noise(9, n, 1, 2, 3)
    x_T = invert(denoise, COSINE, x0, timesteps(1000, 40))
    assert x_T.mean().abs() < 0.1 and abs(x_T.std() - 1) < 0.1 and abs(x0.std() - 1) > 0.2


# ---------------------------------------------------------------------------------------------------------------------------------------- the loop
def test_a_trajectory_ends_at_data_and_tells_what_the_network_thought():
    denoise, times = GaussianDenoiser(Toy(), LINEAR), [1000, 300, 20, 0]
    frames = list(trajectory(denoise, LINEAR, noise(10), times, generator=generator(11)))
    assert [frame.t for frame in frames] == times[1:]
    assert torch.equal(frames[0].x0, denoise(noise(10), 1000).x0) and torch.equal(frames[2].x0, denoise(frames[1].x, 20).x0)
    assert torch.equal(frames[2].x, frames[2].x0) and not frames[2].x.requires_grad


def test_ddim_with_eta_1_is_ancestral_sampling():
    denoise, times = GaussianDenoiser(Toy(), LINEAR), timesteps(1000, 20)
    runs = [last(denoise, LINEAR, noise(12), times, sampler=sampler, generator=generator(13)) for sampler in (ancestral, ddim(1.0), None)]
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_run_depends_on_its_seed_and_not_on_the_run_before(sampler):
    denoise = GaussianDenoiser(Toy().float(), LINEAR)
    first, other, again = (sample(denoise, LINEAR, SHAPE, timesteps(1000, 7), sampler=SAMPLERS[sampler], generator=generator(seed)) for seed in (0, 1, 0))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == SHAPE and first.isfinite().all()


def test_dpm_solver_needs_two_predictions_for_its_second_order():
    """One step is DDIM's; from the second step on it is not."""
    denoise = GaussianDenoiser(Toy(), LINEAR)
    runs = [list(trajectory(denoise, LINEAR, noise(14), [1000, 600, 200, 0], sampler=sampler)) for sampler in (dpm_solver_pp_2m, ddim())]
    assert_close(runs[0][0].x, runs[1][0].x)
    assert (runs[0][1].x - runs[1][1].x).abs().max() > 0.01 and not math.isclose(runs[0][2].x.norm(), runs[1][2].x.norm())
