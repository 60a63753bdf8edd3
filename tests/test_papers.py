"""The papers' algorithms typed as they are printed, letter for letter, and the package beside them with the same draws of noise.

Letters are each paper's own: in DDPM alpha_bar is the product of alphas, in DDIM that same product is called alpha.
"""
import pytest
import torch
from torch.testing import assert_close
from toys import Toy, doubles, pixels

from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.gaussian import variance_preserving
from t2ilab.diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from t2ilab.diffusion.sampling import ddim, dpm_solver_pp_2m, sample, trajectory
from t2ilab.diffusion.schedules import cosine, linear, timesteps
from t2ilab.tensors import generator, randn

SHAPE = (3, 3, 4, 6)
T = 100
LINEAR, COSINE = variance_preserving(linear(T)), variance_preserving(cosine(T))
NET = Toy()


def eps_theta(x, t):
    return NET(x, torch.as_tensor(t).expand(len(x)) * 10.0, Cond())              # the network's clock runs to 1000


def draw(noise):
    return randn(SHAPE, noise, dtype=torch.float64)


def algorithm_1(x_0, alpha_bar, noise):
    """The loss of one turn of the loop; x_0 ~ q(x_0) is given."""
    t = torch.randint(1, T + 1, (len(x_0),), generator=noise)                   # t ~ Uniform({1, ..., T})
    eps = draw(noise)                                                           # eps ~ N(0, I)
    a = alpha_bar[t].view(-1, 1, 1, 1)
    return (eps - eps_theta(a.sqrt() * x_0 + (1 - a).sqrt() * eps, t)).square()


def algorithm_2(x, beta, sigma, noise):
    """x_T -> x_0."""
    alpha = 1 - beta
    alpha_bar = alpha.cumprod(0)
    for t in range(T, 0, -1):
        z = draw(noise) if t > 1 else 0
        i = t - 1                                                               # beta_1 is the list's first
        x = 1 / alpha[i].sqrt() * (x - (1 - alpha[i]) / (1 - alpha_bar[i]).sqrt() * eps_theta(x, t)) + sigma[i] * z
    return x


def ddim_update(x, alpha, tau, eta, noise):
    """x_{tau_S} -> x_0 along tau_0 = 0 < tau_1 < ... < tau_S, with sigma by Eq. 16 and each step by Eq. 12."""
    for i in range(len(tau) - 1, 0, -1):
        t, s = tau[i], tau[i - 1]
        sigma = eta * ((1 - alpha[s]) / (1 - alpha[t])).sqrt() * (1 - alpha[t] / alpha[s]).sqrt()
        eps = eps_theta(x, t)
        predicted_x_0 = (x - (1 - alpha[t]).sqrt() * eps) / alpha[t].sqrt()
        direction = (1 - alpha[s] - sigma ** 2).sqrt() * eps
        x = alpha[s].sqrt() * predicted_x_0 + direction + sigma * draw(noise)
    return x


def dpm_solver_pp_2m_literal(x, alpha_bar, times):
    """x_{t_0} -> x_{t_M}, data-prediction form; Q is the buffer of past x_theta."""
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    lam, Q = (alpha / sigma).log(), []

    def x_theta(x, t):
        return (x - sigma[t] * eps_theta(x, t)) / alpha[t]
    for i in range(1, len(times)):
        s, t = times[i - 1], times[i]
        h = lam[t] - lam[s]
        Q.append(x_theta(x, s))
        D = Q[-1]
        if i > 1:
            r = (lam[s] - lam[times[i - 2]]) / h
            D = (1 + 1 / (2 * r)) * Q[-1] - 1 / (2 * r) * Q[-2]
        x = sigma[t] / sigma[s] * x - alpha[t] * ((-h).exp() - 1) * D
    return x


@pytest.mark.parametrize("diffusion", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_training_is_ddpm_algorithm_1(diffusion):
    """DDPM Algorithm 1: the same loss and the same gradient. The paper adds up the squares, the package takes their mean."""
    x_0 = pixels(*SHAPE)
    ours = GaussianDenoiser(NET, diffusion).loss(x_0, generator=generator(1))
    literal = algorithm_1(x_0, diffusion.alpha_bar, generator(1)).flatten(1).mean(1)
    assert_close(ours, literal)
    ours, literal = (torch.autograd.grad(loss.sum(), NET.mix)[0] for loss in (ours, literal))
    assert literal.norm() > 0.01
    assert_close(ours, literal)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_sampling_is_ddpm_algorithm_2(variance):
    """DDPM Algorithm 2, with either sigma of its Section 3.2: sigma_t^2 = beta_t (large) or beta_tilde_t (small)."""
    beta = torch.linspace(1e-3, 0.2, T, dtype=torch.float64)
    alpha_bar = torch.cat([doubles(1), (1 - beta).cumprod(0)])
    sigma2 = {"large": beta, "small": (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * beta}[variance]
    denoise = GaussianDenoiser(NET, variance_preserving(alpha_bar), ObjectiveConfig(variance=variance))
    x_T, noise = draw(generator(2)), generator(3)
    *_, last = trajectory(denoise, denoise.diffusion, x_T, timesteps(T, T), generator=noise)
    assert_close(last.x, algorithm_2(x_T, beta, sigma2.sqrt(), generator(3)), rtol=1e-6, atol=1e-6)


def test_sample_draws_x_T_first_and_then_the_noise_of_each_step():
    denoise = GaussianDenoiser(Toy().float(), LINEAR)
    noise = generator(4)
    x_T = randn(SHAPE, noise)
    *_, last = trajectory(denoise, LINEAR, x_T, timesteps(T, 20), generator=noise)
    assert torch.equal(sample(denoise, LINEAR, SHAPE, timesteps(T, 20), generator=generator(4)), last.x)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n", [5, 33])
def test_a_ddim_run_is_the_papers_update(eta, n):
    """DDIM Eq. 12 and DDIM Eq. 16."""
    denoise, x_T, times = GaussianDenoiser(NET, LINEAR), draw(generator(5)), timesteps(T, n)
    *_, last = trajectory(denoise, LINEAR, x_T, times, sampler=ddim(eta), generator=generator(6))
    assert_close(last.x, ddim_update(x_T, LINEAR.alpha_bar, times[::-1], eta, generator(6)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("diffusion", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_dpm_solver_is_the_papers_algorithm(diffusion):
    """DPM-Solver++ Algorithm 2, down to t = 4; at t = 0 its lambda is infinite."""
    denoise, x_T, times = GaussianDenoiser(NET, diffusion), draw(generator(7)), [100, 90, 70, 60, 30, 10, 4]
    *_, last = trajectory(denoise, diffusion, x_T, times, sampler=dpm_solver_pp_2m)
    assert_close(last.x, dpm_solver_pp_2m_literal(x_T, diffusion.alpha_bar, times), rtol=1e-6, atol=1e-6)
