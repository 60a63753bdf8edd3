"""What training minimises, against the published formulas typed literally, and against numbers that improved DDPM's own code gave once.

Those numbers (ORACLE) came from running that code beside ours in float64 on the inputs made here by `setting`: its learned-range variance, its
rescaled hybrid loss and, at the first step, the normal distribution's exact CDF in the place of its tanh approximation.
"""
import math

import pytest
import torch
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close
from toys import Says, doubles, pixels, wave

from t2ilab.diffusion.cond import Cond, Prediction
from t2ilab.diffusion.gaussian import variance_preserving
from t2ilab.diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from t2ilab.diffusion.losses import WEIGHTS, bits_per_dim, decoder_nll, vlb_term
from t2ilab.diffusion.schedules import cosine, linear, timesteps
from t2ilab.tensors import generator

LINEAR, COSINE = variance_preserving(linear()), variance_preserving(cosine(4000))
SHAPE = (5, 3, 4, 6)
ORACLE = {      # diffusion: (t, bound in bits per dimension, hybrid loss, bound with the small variance)
    "linear": (LINEAR, [1, 2, 3, 501, 1000],
               [1.554235681146066, 0.0944134203345366, 0.040086955699527665, 0.00030326228748287106, 0.0006598375569800592],
               [1.6084991592999158, 0.13780934386039598, 0.08638268538754379, 0.03842694321851221, 0.045479733776385006],
               [1.3706741522625758, 0.037543684533598756, 0.021239106579579586, 0.0003033000698143238, 0.0006598378061420429]),
    "cosine": (COSINE, [1, 2, 3, 2001, 4000],
               [0.24632987579109794, 0.0794984390962182, 0.031557994938558286, 4.294916094292423e-05, 32.29839293994236],
               [1.0395829813182416, 0.3613896799107322, 0.17252770744224927, 0.03829547757480104, 129.23839165598883],
               [0.14536864940536143, 0.032267158723468706, 0.017456994277748626, 4.289818544432403e-05, 32.298395186275584])}


def setting(diffusion, t):
    """x0, x_t, the true eps, a network's answer [B 6 H W] (eps and variance) and the prediction that it means."""
    x0, eps, t = pixels(*SHAPE), wave(*SHAPE, seed=1), torch.tensor(t)
    answer = torch.cat([eps + 0.3 * wave(*SHAPE, seed=2), wave(*SHAPE, seed=3)], dim=1)
    a, s = diffusion.scales(x0, t)
    x_t = a * x0 + s * eps
    return t, x0, x_t, eps, answer, Prediction((x_t - s * answer[:, :3]) / a, (answer[:, 3:] + 1) / 2)


def denoiser(answer, diffusion=LINEAR, **config):
    return GaussianDenoiser(Says(answer), diffusion, ObjectiveConfig(**config))


# ------------------------------------------------------------------------------------------------------------------ squared error and its weights
@pytest.mark.parametrize("predict", ["x0", "eps", "v"])
def test_the_simple_loss_is_the_mean_squared_error_of_what_the_network_predicts(predict):
    """DDPM Eq. 14, and its like in x0 and v."""
    t, x0, x_t, eps, answer, _ = setting(LINEAR, [1, 100, 400, 999, 1000])
    a, s = LINEAR.scales(x0, t)
    target = {"x0": x0, "eps": eps, "v": a * eps - s * x0}[predict]
    want = torch.stack([(target[b] - answer[b, :3]).square().mean() for b in range(5)])
    assert_close(denoiser(answer[:, :3], predict=predict).loss_at(x0, x_t, t, Cond()), want)


PUBLISHED = {   # weight of the squared error in what is predicted, as printed
    ("min_snr", "x0"): lambda snr: min(snr, 5),
    ("min_snr", "eps"): lambda snr: min(snr, 5) / snr,
    ("min_snr", "v"): lambda snr: min(snr, 5) / (snr + 1),
    ("p2", "eps"): lambda snr: 1 / (1 + snr),
    ("p2", "x0"): lambda snr: snr / (1 + snr),
    ("p2", "v"): lambda snr: snr / (1 + snr) ** 2,
    ("v_clipped", "x0"): lambda snr: min(snr + 1, 5),
    ("x0", "eps"): lambda snr: 1 / snr,
    ("eps", "v"): lambda snr: snr / (snr + 1)}


@pytest.mark.parametrize("weight, predict", PUBLISHED)
def test_weights_are_the_published_ones_in_every_space(weight, predict):
    """min-SNR with gamma = 5, P2 with k = gamma = 1."""
    t, x0, x_t, _, answer, _ = setting(LINEAR, [5, 100, 200, 400, 999])
    plain = denoiser(answer[:, :3], predict=predict).loss_at(x0, x_t, t, Cond())
    weighted = denoiser(answer[:, :3], predict=predict, loss_weighting=weight).loss_at(x0, x_t, t, Cond())
    snr = (LINEAR.alpha_bar[t] / (1 - LINEAR.alpha_bar[t])).tolist()
    assert snr[0] > 5 > snr[-1]
    assert_close(weighted / plain, doubles(*[PUBLISHED[weight, predict](r) for r in snr]))


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_weight_means_the_same_however_the_prediction_is_put(weight):
    t, x0, x_t, _, _, pred = setting(LINEAR, [5, 100, 200, 400, 999])
    a, s = LINEAR.scales(x0, t)
    eps = (x_t - a * pred.x0) / s
    losses = [denoiser(answer, predict=predict, loss_weighting=weight).loss_at(x0, x_t, t, Cond())
              for predict, answer in {"x0": pred.x0, "eps": eps, "v": a * eps - s * pred.x0}.items()]
    assert_close(losses[1], losses[0])
    assert_close(losses[2], losses[0])


# ------------------------------------------------------------------------------------------------------------------------ the variational bound
@pytest.mark.parametrize("name", ORACLE)
def test_the_bound_and_the_hybrid_loss_equal_improved_diffusion(name):
    """iDDPM Eq. 15 and iDDPM Eq. 16: 0.001 of the bound's T terms is T/1000 of one."""
    diffusion, t, bound, hybrid, small = ORACLE[name]
    t, x0, x_t, _, answer, pred = setting(diffusion, t)
    double = dict(rtol=1e-7, atol=1e-12)
    assert_close(vlb_term(diffusion, x0, x_t, t, t - 1, pred), doubles(*bound), **double)
    assert_close(vlb_term(diffusion, x0, x_t, t, t - 1, Prediction(pred.x0)), doubles(*small), **double)
    learned = denoiser(answer, diffusion, variance="learned", loss="hybrid")
    assert_close(learned.loss_at(x0, x_t, t, Cond()), doubles(*hybrid), **double)
    assert_close(denoiser(answer, diffusion, variance="learned", loss="vlb").loss_at(x0, x_t, t, Cond()), doubles(*bound), **double)


def test_the_bound_for_a_shorter_list_of_times_equals_improved_diffusion():
    """The last pair of each column of its respacing "10,5"."""
    t, s = [56, 112, 389, 500, 1000], torch.tensor([1, 56, 334, 445, 875])
    bound = [5.100247703165002, 0.2098249027777342, 0.025134697228703536, 0.02170936425134394, 0.31289115772193715]
    t, x0, x_t, _, _, pred = setting(LINEAR, t)
    assert_close(vlb_term(LINEAR, x0, x_t, t, s, pred), doubles(*bound), rtol=1e-9, atol=0)


def test_terms_of_the_bound_are_divergences_between_normal_distributions():
    """DDPM Eq. 5, by torch.distributions; in bits, averaged over pixels and colours."""
    t, x0, x_t, _, _, pred = setting(LINEAR, [2, 3, 70, 500, 1000])
    s = torch.tensor([1, 1, 20, 499, 500])
    mean, std = LINEAR.posterior(x0, x_t, t, s)
    guess, _ = LINEAR.posterior(pred.x0, x_t, t, s)
    beta = (1 - LINEAR.alpha_bar[t] / LINEAR.alpha_bar[s]).view(-1, 1, 1, 1)
    guessed = (beta.log() * pred.var + 2 * std.log() * (1 - pred.var)).div(2).exp()
    want = kl_divergence(Normal(mean, std.expand_as(mean)), Normal(guess, guessed)).flatten(1).mean(1) / math.log(2)
    assert_close(vlb_term(LINEAR, x0, x_t, t, s, pred), want)


def test_with_a_fixed_variance_the_bound_is_a_weighted_error_in_eps():
    """DDPM Eq. 8, DDPM Eq. 11 and DDPM Eq. 12, with sigma^2 = beta_tilde; in nats, summed."""
    t, x0, x_t, eps, answer, pred = setting(LINEAR, [2, 3, 70, 500, 1000])
    bar, before = (LINEAR.alpha_bar[i].view(-1, 1, 1, 1) for i in (t, t - 1))
    alpha = bar / before
    beta, sigma2 = 1 - alpha, (1 - before) / (1 - bar) * (1 - alpha)
    eps_theta = answer[:, :3]
    mu_theta = (x_t - beta / (1 - bar).sqrt() * eps_theta) / alpha.sqrt()
    mu_tilde = before.sqrt() * beta / (1 - bar) * x0 + alpha.sqrt() * (1 - before) / (1 - bar) * x_t
    eq8 = ((mu_tilde - mu_theta).square() / (2 * sigma2)).flatten(1).sum(1)
    eq12 = (beta ** 2 / (2 * sigma2 * alpha * (1 - bar)) * (eps - eps_theta).square()).flatten(1).sum(1)
    ours = vlb_term(LINEAR, x0, x_t, t, t - 1, Prediction(pred.x0)) * math.log(2) * x0[0].numel()
    assert_close(LINEAR.posterior(pred.x0, x_t, t, t - 1)[0], mu_theta)
    assert_close(ours, eq8, rtol=1e-7, atol=0)
    assert_close(ours, eq12, rtol=1e-7, atol=0)


def test_in_the_hybrid_loss_the_bound_trains_the_variance_alone():
    """iDDPM Eq. 16: the mean is detached in the bound."""
    t, x0, x_t, eps, answer, pred = setting(LINEAR, [1, 2, 70, 500, 1000])
    model = denoiser(answer.clone(), variance="learned", loss="hybrid")
    model.loss_at(x0, x_t, t, Cond()).sum().backward()
    of_mean, of_variance = model.net.answer.grad.chunk(2, dim=1)
    assert_close(of_mean, 2 * (answer[:, :3] - eps) / x0[0].numel())
    var = pred.var.clone().requires_grad_()
    vlb_term(LINEAR, x0, x_t, t, t - 1, Prediction(pred.x0, var)).sum().backward()
    assert (of_variance.flatten(1).norm(dim=1) > 0).all()
    assert_close(of_variance, var.grad / 2)                     # T / 1000 = 1, and var = (answer + 1) / 2


def test_the_bound_alone_trains_both_halves():
    t, x0, x_t, _, answer, _ = setting(LINEAR, [1, 2, 70, 500, 1000])
    model = denoiser(answer, variance="learned", loss="vlb")
    model.loss_at(x0, x_t, t, Cond()).sum().backward()
    assert all((half.flatten(1).norm(dim=1) > 0).all() for half in model.net.answer.grad.chunk(2, dim=1))


@pytest.mark.parametrize("mean", [-1.2, -1.0, -0.301, 0.0, 0.9, 1.1])
@pytest.mark.parametrize("std", [0.002, 0.05, 1.0])
def test_probabilities_of_the_256_levels_sum_to_one(mean, std):
    """DDPM Eq. 13."""
    levels = torch.arange(-255, 256, 2).double() / 255
    nll = decoder_nll(levels, doubles(mean), doubles(std).log())
    likely = nll < 27                                           # the others are cut at 1e-12, see below
    assert_close((-nll[likely]).exp().sum().item(), 1.0, rtol=0, atol=1e-9)


def test_the_decoder_is_an_integral_over_one_level():
    """DDPM Eq. 13 by SciPy; the outermost levels are open to the outside."""
    x = doubles(-1, -253 / 255, -1 / 255, 1 / 255, 253 / 255, 1)
    mean, std = doubles(-0.9, -1, 0.1, -0.05, 1, 0.95), doubles(0.1, 0.02, 0.1, 0.3, 0.02, 0.04)
    lower, upper = x - 1 / 255, x + 1 / 255
    lower[0], upper[-1] = -torch.inf, torch.inf
    want = doubles(*[norm.cdf(u, m, s) - norm.cdf(v, m, s) for u, v, m, s in zip(upper, lower, mean, std)])
    assert_close(decoder_nll(x, mean, std.log()), -want.log())


def test_a_hopeless_mean_costs_much_and_not_infinitely_much():
    nll = decoder_nll(torch.tensor([0.5, -0.5]), torch.tensor([-0.5, 0.5]), torch.tensor(-5.0))
    assert nll.isfinite().all() and (nll > 20).all()


def gaussian_data(diffusion, spread):
    """The best denoiser for pixels ~ N(0, spread^2), with the exact variance of x_s given x_t as its interpolation."""
    def denoise(x_t, t, s):
        a, noise = (v.squeeze() for v in diffusion.scales(x_t, t))
        uncertain = 1 / (1 / spread ** 2 + a ** 2 / noise ** 2)                                 # variance of x_0 given x_t
        one, nothing = doubles(1), doubles(0)
        weight, std = diffusion.posterior(one, nothing, t, s)
        exact = (std ** 2 + weight ** 2 * uncertain).log()
        small, large = diffusion.log_variance(nothing, t, s), diffusion.log_variance(one, t, s)
        return Prediction(uncertain * a / noise ** 2 * x_t, ((exact - small) / (large - small)).expand_as(x_t))
    return denoise


@pytest.mark.parametrize("n", [50, 13])
def test_the_bits_of_a_perfect_model_are_the_surprise_of_the_data(n):
    """For Gaussian pixels the bound is tight, for any list of times: it meets -log2 of their true probabilities. A worse model pays more."""
    diffusion, spread = variance_preserving(linear(50)), 0.25
    times = timesteps(50, n)
    following = dict(zip(times, times[1:]))
    x0 = ((torch.randn(64, 1, 8, 8, generator=generator(0), dtype=torch.float64) * spread + 1) * 127.5).round() / 127.5 - 1
    perfect = gaussian_data(diffusion, spread)
    surprise = -torch.from_numpy(norm.cdf(x0 + 1 / 255, 0, spread) - norm.cdf(x0 - 1 / 255, 0, spread)).log2().mean()
    assert abs(surprise - math.log2(spread * math.sqrt(2 * math.pi * math.e) * 127.5)) < 0.05                  # 7.04 bits, the entropy

    def bits(denoise):
        return bits_per_dim(denoise, diffusion, x0, times, generator=generator(1))["total"].mean()
    assert abs(bits(lambda x, t: perfect(x, t, following[t])) - surprise) < 0.02
    assert bits(lambda x, t: perfect(x, t, following[t])._replace(var=None)) > surprise + 0.1
    assert bits(lambda x, t: Prediction(perfect(x, t, following[t]).x0 + 0.1, perfect(x, t, following[t]).var)) > surprise + 0.1


def test_bits_are_reported_term_by_term():
    times, x0 = [1000, 400, 30, 0], pixels(2, 3, 4, 4)
    seen = []

    def denoise(x_t, t):
        seen.append((x_t, t))
        return Prediction(x0 + t / 1000)
    bits = bits_per_dim(denoise, LINEAR, x0, times, generator=generator(5))
    bar = LINEAR.alpha_bar[1000]
    prior = 0.5 * (bar * x0 ** 2 + (1 - bar) - 1 - (1 - bar).log()) / math.log(2)               # KL(q(x_T | x_0) || N(0, 1))
    assert_close(bits["prior"], prior.flatten(1).mean(1), rtol=1e-6, atol=0)
    assert_close(bits["mse"], doubles(1, 0.16, 0.0009).expand(2, 3))
    for column, ((x_t, t), s) in enumerate(zip(seen, times[1:])):
        both = torch.ones(2, dtype=torch.int64)
        assert_close(bits["vlb"][:, column], vlb_term(LINEAR, x0, x_t, t * both, s * both, Prediction(x0 + t / 1000)))
    assert_close(bits["total"], bits["prior"] + bits["vlb"].sum(1))
    assert torch.equal(seen[0][0], LINEAR.diffuse(x0, 1000, generator(5))) and [t for _, t in seen] == times[:-1]
