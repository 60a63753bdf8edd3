"""q(x_t | x_0) and q(x_s | x_t, x_0) against the papers typed literally and against conditioning a joint Gaussian by brute force."""
import itertools

import pytest
import torch
from torch.testing import assert_close
from toys import doubles, pixels, wave

from t2ilab.diffusion.cond import Prediction
from t2ilab.diffusion.gaussian import PREDICTS, rectified_flow, variance_preserving
from t2ilab.diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from t2ilab.diffusion.schedules import SCHEDULES, cosine, from_betas, linear, timesteps
from t2ilab.tensors import generator, randn

LINEAR, COSINE = variance_preserving(linear()), variance_preserving(cosine())
SHORT = variance_preserving(linear(30))
SHAPE = (2, 3, 4, 6)


def betas_of(alpha_bar):
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


def eq7(betas, x0, x_t, t):
    """Mean and variance of q(x_{t-1} | x_t, x_0) as printed in DDPM, from betas whose index 0 is their beta_1."""
    beta, alpha = betas, 1 - betas
    bar = torch.cat([doubles(1), alpha.cumprod(0)])
    mean = bar[t - 1].sqrt() * beta[t - 1] / (1 - bar[t]) * x0 + alpha[t - 1].sqrt() * (1 - bar[t - 1]) / (1 - bar[t]) * x_t
    return mean, (1 - bar[t - 1]) / (1 - bar[t]) * beta[t - 1]


def conditioned(betas, t, s):
    """(weight of x_0, weight of x_t, variance) of x_s given x_0 and x_t, from the covariance matrix of the whole chain x_1..x_T."""
    T = len(betas)
    chain = torch.eye(T).double() - torch.diag((1 - betas[1:]).sqrt(), -1)          # chain @ x = first + noise
    covariance = torch.linalg.inv(chain) @ torch.diag(betas) @ torch.linalg.inv(chain).T
    first = torch.zeros(T).double()
    first[0] = (1 - betas[0]).sqrt()
    mean = torch.linalg.solve(chain, first)                                         # of x_1..x_T, for x_0 = 1
    gain = covariance[s - 1, t - 1] / covariance[t - 1, t - 1]
    return mean[s - 1] - gain * mean[t - 1], gain, covariance[s - 1, s - 1] - gain * covariance[t - 1, s - 1]


@pytest.mark.parametrize("diffusion", [LINEAR, COSINE, SHORT])
def test_one_step_of_the_chain_keeps_and_adds_what_ddpm_eq_2_says(diffusion):
    """DDPM Eq. 2: from t - 1 to t the old image is scaled by sqrt(1 - beta_t) and noise of std sqrt(beta_t) is added."""
    t = torch.arange(1, diffusion.T + 1)
    betas = betas_of(diffusion.alpha_bar)
    assert_close(diffusion.signal[t] / diffusion.signal[t - 1], (1 - betas).sqrt())
    assert_close(diffusion._fresh_noise(t, t - 1), betas.sqrt())
    noise = ((1 - betas) * diffusion.noise[t - 1] ** 2 + diffusion._fresh_noise(t, t - 1) ** 2).sqrt()
    assert_close(noise, diffusion.noise[t])                                         # the chain ends where the jump does



def test_noising_is_one_jump_draw_for_draw():
    """DDPM Eq. 4, with another t for each picture."""
    x0, t = wave(*SHAPE), torch.tensor([3, 700])
    eps = randn(SHAPE, generator(1), dtype=torch.float64)
    bar = LINEAR.alpha_bar
    want = torch.stack([bar[t[b]].sqrt() * x0[b] + (1 - bar[t[b]]).sqrt() * eps[b] for b in range(2)])
    assert_close(LINEAR.diffuse(x0, t, generator(1)), want)
    assert_close(LINEAR.diffuse(x0, 3, generator(1))[0], want[0])


def test_noising_has_the_stated_mean_and_variance():
    x_t = COSINE.diffuse(torch.full((200, 1, 20, 20), 0.7), 400, generator(2))
    bar = COSINE.alpha_bar[400].item()
    assert abs(x_t.mean().item() - 0.7 * bar ** 0.5) < 5 * ((1 - bar) / x_t.numel()) ** 0.5
    assert abs(x_t.var().item() / (1 - bar) - 1) < 5 * (2 / x_t.numel()) ** 0.5


def test_t_is_0_at_data_and_T_at_noise():
    x0 = wave(*SHAPE)
    assert_close(LINEAR.diffuse(x0, 0, generator(0)), x0)
    assert LINEAR.T == 1000 and LINEAR.snr(0) == float("inf") and LINEAR.snr(1000) < 1e-4
    prior = LINEAR.prior((50, 3, 20, 20), generator=generator(0))
    assert abs(prior.mean()) < 0.02 and abs(prior.std() - 1) < 0.02


@pytest.mark.parametrize("diffusion", [LINEAR, COSINE], ids=["linear", "cosine"])
@pytest.mark.parametrize("t", [1, 2, 500, 1000])
def test_the_posterior_of_one_step_is_printed_in_the_paper(diffusion, t):
    """DDPM Eq. 6 and DDPM Eq. 7."""
    x0, x_t = wave(*SHAPE), 2 * wave(*SHAPE, seed=1)
    mean, std = diffusion.posterior(x0, x_t, t, t - 1)
    want_mean, want_variance = eq7(betas_of(diffusion.alpha_bar), x0, x_t, t)
    assert_close(mean, want_mean, rtol=1e-8, atol=1e-8)
    assert_close((std ** 2).squeeze(), want_variance, rtol=1e-8, atol=0)


def test_the_posterior_of_any_two_times_is_the_conditioned_chain():
    """DDPM Eq. 6 for all 0 < s < t <= 30, by conditioning the joint Gaussian of x_1..x_30 numerically."""
    one, nothing = doubles(1), doubles(0)
    for s, t in itertools.combinations(range(1, 31), 2):
        from_x0, from_x_t, variance = conditioned(betas_of(SHORT.alpha_bar), t, s)
        mean, std = SHORT.posterior(one, nothing, t, s)
        assert_close((mean.item(), SHORT.posterior(nothing, one, t, s)[0].item(), std.item() ** 2),
                     (from_x0.item(), from_x_t.item(), variance.item()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [7, 27, 100])
def test_a_shorter_list_of_times_is_a_rebuilt_chain(n):
    """iDDPM respacing: new betas from the kept entries of alpha_bar, then DDPM Eq. 7 for that chain."""
    times = timesteps(1000, n)[::-1]
    betas = betas_of(COSINE.alpha_bar[times])
    assert_close(from_betas(betas), COSINE.alpha_bar[times])
    x0, x_t = wave(*SHAPE), wave(*SHAPE, seed=1)
    for i in (1, 2, n // 2, n):
        mean, std = COSINE.posterior(x0, x_t, times[i], times[i - 1])
        want_mean, want_variance = eq7(betas, x0, x_t, i)
        assert_close(mean, want_mean, rtol=1e-8, atol=1e-8)
        assert_close((std ** 2).squeeze(), want_variance, rtol=1e-8, atol=0)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("t, s", [(1000, 999), (900, 200), (30, 1), (1, 0)])
def test_a_posterior_draw_of_a_noised_picture_is_a_noised_picture(eta, t, s):
    """What DDIM Eq. 12 and DDIM Eq. 16 are made for: averaged over q(x_t | x_0), x_s has the mean and variance of q(x_s | x_0), for any eta."""
    one, nothing, bar = doubles(1), doubles(0), LINEAR.alpha_bar
    from_x0, std = LINEAR.posterior(one, nothing, t, s, eta)
    from_x_t, _ = LINEAR.posterior(nothing, one, t, s, eta)
    assert_close((from_x0 + from_x_t * bar[t].sqrt()).squeeze(), bar[s].sqrt())
    assert_close((from_x_t ** 2 * (1 - bar[t]) + std ** 2).squeeze(), 1 - bar[s], rtol=1e-8, atol=1e-12)
    assert_close((std ** 2).squeeze(), eta ** 2 * (1 - bar[s]) / (1 - bar[t]) * (1 - bar[t] / bar[s]))


def test_times_may_differ_from_picture_to_picture():
    x0, x_t, t, s = wave(*SHAPE), wave(*SHAPE, seed=1), torch.tensor([9, 800]), torch.tensor([8, 3])
    mean, std = LINEAR.posterior(x0, x_t, t, s, 0.5)
    for b in range(2):
        alone = LINEAR.posterior(x0[b:b + 1], x_t[b:b + 1], int(t[b]), int(s[b]), 0.5)
        assert_close((mean[b:b + 1], std[b:b + 1]), alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_step_returns_the_prediction_itself(dtype):
    x0, x_t = wave(*SHAPE).to(dtype), wave(*SHAPE, seed=1).to(dtype)
    for t in (1, 20, 1000):
        assert torch.equal(COSINE.step(Prediction(x0), x_t, t, 0, generator(0)), x0)


def test_noise_without_any_signal_still_has_a_posterior():
    """A table that ends at exactly 0: there rounding pushes the coefficient of x_T under 0, and its root would be NaN."""
    bare = variance_preserving(torch.cat([linear()[:-1], doubles(0)]))
    for s in range(1000):
        mean, std = bare.posterior(doubles(1), doubles(1), 1000, s)
        assert_close((mean.item(), std.item() ** 2), (bare.alpha_bar[s].sqrt().item(), 1 - bare.alpha_bar[s].item()), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("diffusion, first", [(LINEAR, -9.8167), (COSINE, -10.7341)], ids=["linear", "cosine"])
def test_the_variance_at_the_first_step_borrows_from_the_second(diffusion, first):
    """Its log would be minus infinity. The numbers are improved DDPM's."""
    own = diffusion.log_variance(doubles(0), 1, 0)
    assert_close(own.item(), first, rtol=0, atol=1e-4)
    assert_close(own, diffusion.log_variance(doubles(0), 2, 1))
    assert_close(diffusion.log_variance(doubles(1), 1, 0).item(), betas_of(diffusion.alpha_bar)[0].log().item())


@pytest.mark.parametrize("t, s", [(1000, 999), (2, 1), (400, 100)])
def test_a_learned_variance_lies_between_the_smallest_and_the_whole_steps_noise(t, s):
    """iDDPM Eq. 15, for any s < t."""
    bar, v = LINEAR.alpha_bar, doubles(0, 0.3, 1)
    beta = 1 - bar[t] / bar[s]
    beta_tilde = (1 - bar[s]) / (1 - bar[t]) * beta
    assert_close(LINEAR.log_variance(v, t, s), v * beta.log() + (1 - v) * beta_tilde.log())
    _, std = LINEAR.posterior(v, v, t, s)
    assert_close(LINEAR.log_variance(v[:1], t, s).exp(), (std ** 2).view(1))


def test_a_step_is_mean_plus_std_times_noise():
    x0, x_t, var, z = wave(*SHAPE), wave(*SHAPE, seed=1), pixels(*SHAPE, seed=2) / 2 + 0.5, randn(SHAPE, generator(4), dtype=torch.float64)
    for eta in (0.0, 0.5, 1.0):
        mean, std = LINEAR.posterior(x0, x_t, 70, 30, eta)
        assert_close(LINEAR.step(Prediction(x0), x_t, 70, 30, generator(4), eta), mean + std * z)
    learned = (LINEAR.log_variance(var, 70, 30) / 2).exp()
    assert_close(LINEAR.step(Prediction(x0, var), x_t, 70, 30, generator(4)), LINEAR.posterior(x0, x_t, 70, 30)[0] + learned * z)
    assert_close(LINEAR.step(Prediction(x0, var), x_t, 70, 30, generator(4), 0.0), LINEAR.posterior(x0, x_t, 70, 30, 0.0)[0])


@pytest.mark.parametrize("predict", PREDICTS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_one_formula_gives_every_target_and_finds_x0_again(predict, schedule):
    """DDPM Eq. 15 for eps, v-prediction for v, Rectified flow for velocity."""
    diffusion, t = variance_preserving(schedule()), torch.tensor([1, 10, 500, 999])
    x0, eps = wave(4, 3, 2, 3), 2 * wave(4, 3, 2, 3, seed=1)
    a, s = diffusion.scales(x0, t)
    target = {"x0": x0, "eps": eps, "v": a * eps - s * x0, "velocity": eps - x0}[predict]
    x_t = a * x0 + s * eps
    skip, out = PREDICTS[predict](a, s)
    assert_close((x0 - skip * x_t) / out, target, rtol=1e-6, atol=1e-6)
    assert_close(skip * x_t + out * target, x0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("predict", PREDICTS)
def test_float32_is_enough_for_every_target(predict):
    t = torch.arange(1, 1001)
    x0, eps = wave(1000, 1, 4, 4).float(), wave(1000, 1, 4, 4, seed=1).float()
    a, s = LINEAR.scales(x0, t)
    skip, out = PREDICTS[predict](a, s)
    error = (x0 - skip * (a * x0 + s * eps)) / out - {"x0": x0, "eps": eps, "v": a * eps - s * x0, "velocity": eps - x0}[predict]
    assert error.abs().max() < 1e-4


# Rectified flow, and times between the steps

def test_rectified_flow_is_a_straight_line_from_data_to_noise():
    """Rectified flow: x_t = (1 - t/T) x_0 + t/T eps, at whole times and between them."""
    flow, x0 = rectified_flow(10), wave(*SHAPE)
    eps = randn(SHAPE, generator(1), dtype=torch.float64)
    for t in (0, 3, 7.25, 10):
        assert_close(flow.diffuse(x0, t, generator(1)), (1 - t / 10) * x0 + t / 10 * eps)
    assert_close(flow.diffuse(x0, torch.tensor([3, 7.25]), generator(1))[1], (1 - 0.725) * x0[1] + 0.725 * eps[1])


def test_a_deterministic_step_of_rectified_flow_is_an_euler_step():
    """Rectified flow: dx/dt = eps - x_0, so x_s = x_t + (s - t) / T * velocity, whatever x_0 is predicted."""
    flow, x0, x_t = rectified_flow(100), wave(*SHAPE), 2 * wave(*SHAPE, seed=1)
    for t, s in ((100, 73), (40, 39), (12.5, 3.25), (7, 0)):
        velocity = (x_t - x0) / (t / 100)                   # x_t - x_0 = t / T * (eps - x_0)
        mean, std = flow.posterior(x0, x_t, t, s, eta=0)
        assert_close(mean, x_t + (s - t) / 100 * velocity)
        assert std.abs().max() == 0


@pytest.mark.parametrize("process", [LINEAR, COSINE, rectified_flow(1000)], ids=["linear", "cosine", "flow"])
def test_two_draws_of_the_posterior_end_where_one_jump_does(process):
    """q(x_s | x_0) is the marginal of q(x_s | x_t, x_0) q(x_t | x_0), in mean and variance, also between whole times."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for t, s in ((900, 500), (500, 499), (10.5, 2.25), (1000, 999)):
        (a_t, n_t), (a_s, n_s) = process.at(t), process.at(s)
        from_x0 = process.posterior(one, 0 * one, t, s)[0].item()
        from_x_t = process.posterior(0 * one, one, t, s)[0].item()
        std = process.posterior(one, one, t, s)[1].item()
        assert from_x0 + from_x_t * a_t.item() == pytest.approx(a_s.item(), abs=1e-9)
        assert std ** 2 + from_x_t ** 2 * n_t.item() ** 2 == pytest.approx(n_s.item() ** 2, abs=1e-9)


def test_a_large_variance_is_q_s_own_at_the_first_step_as_in_the_published_code():
    """DDPM's fixedlarge: the log variances are those of [posterior_variance[1], beta_2, ...], index 0 being t = 1."""
    beta = betas_of(LINEAR.alpha_bar)
    first = (1 - LINEAR.alpha_bar[1]) / (1 - LINEAR.alpha_bar[2]) * beta[1]
    net = lambda x, t, cond: 0 * x                                                       # noqa: E731
    denoiser = GaussianDenoiser(net, LINEAR, ObjectiveConfig(variance="large"))
    x_t, t = wave(2, 3, 4, 4), torch.tensor([1, 700])
    log_var = LINEAR.log_variance(denoiser(x_t, t).var, t, t - 1)[:, 0, 0, 0]
    assert_close(log_var.double(), torch.stack([first, beta[699]]).log())


def test_known_parts_are_put_back_by_the_process():
    known = torch.zeros(2, 1, 3, 5, dtype=torch.bool)
    known[:, :, 1] = True
    image, guess = wave(2, 3, 3, 5), 0.5 * wave(2, 3, 3, 5, seed=3)
    kept = LINEAR.keep(image, known)(guess)
    assert torch.equal(kept[:, :, 1], image[:, :, 1]) and torch.equal(kept[:, :, 0], guess[:, :, 0])
