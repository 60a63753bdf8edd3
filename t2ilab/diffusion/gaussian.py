"""Gaussian diffusion: q(x_t | x_0) in one jump, and draws from q(x_s | x_t, x_0) for any s < t.

DDPM (Ho et al. 2020), DDIM (Song et al. 2021), improved DDPM's learned variance and rectified flow
(Liu et al. 2023) are all this one posterior; they differ in two tables.
Left out: everything about networks.
"""
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors import Source, like, randn
from .constraints import keep_known
from .schedules import timesteps

# What a network may predict: x0_hat = skip * x_t + out * net(x_t, t).
# Each row gives (skip, out) for a = signal[t] and s = noise[t].
PREDICTS = {
    "x0": lambda a, s: (0 * a, 1 + 0 * s),
    "eps": lambda a, s: (1 / a, -s / a),                                        # DDPM Eq. 15
    "v": lambda a, s: (a, -s),                                                  # v-prediction
    "velocity": lambda a, s: (1 / (a + s), -s / (a + s)),                       # Rectified flow
}


@dataclass(frozen=True)
class GaussianDiffusion:
    """x_t = signal[t] * x_0 + noise[t] * eps, and its exact reverse, given x_0.

    Times between two entries of the tables are interpolated.
    Made by `variance_preserving` or `rectified_flow`."""
    signal: Tensor   # [T+1] float64, 1 at t = 0; DDPM: sqrt(alpha_bar), rectified flow: 1 - t / T
    noise: Tensor    # [T+1] float64, 0 at t = 0; DDPM: sqrt(1 - alpha_bar), rectified flow: t / T

    @property
    def T(self) -> int:
        """Number of noising steps; x_T is (almost) pure noise."""
        return len(self.signal) - 1

    @property
    def alpha_bar(self) -> Tensor:
        """[T+1] float64: the share of the signal's variance left, from 1 down to almost 0."""
        return self.signal.square()

    def times(self, n: int) -> list[int]:
        """n + 1 integers from T down to 0, evenly spaced: the times an n-step sampler visits.

        ValueError unless 1 <= n <= T."""
        return timesteps(self.T, n)

    def prior(self, shape, *, device="cpu", generator: Source = None) -> Tensor:
        """x_T: standard normal noise of the given shape."""
        return randn(shape, generator, device=device)

    def at(self, t) -> tuple[Tensor, Tensor]:
        """(signal, noise) at t, float64 on the CPU.

        t: number or [B], 0..T; whole numbers look the tables up."""
        t = torch.as_tensor(t).cpu()
        if not t.is_floating_point():
            return self.signal[t], self.noise[t]
        low = t.floor().long().clamp(0, self.T - 1)
        past = t.double() - low
        signal = self.signal[low].lerp(self.signal[low + 1], past)
        noise = self.noise[low].lerp(self.noise[low + 1], past)
        return signal, noise

    def scales(self, x: Tensor, t) -> tuple[Tensor, Tensor]:
        """(signal, noise) at t, shaped to broadcast against x.  t: number or [B], 0..T."""
        signal, noise = self.at(t)
        return like(signal, x), like(noise, x)

    def snr(self, t) -> Tensor:
        """Signal-to-noise ratio (signal / noise)^2, float64; infinite at t = 0."""
        signal, noise = self.at(t)
        return (signal / noise).square()

    def diffuse(self, x0: Tensor, t, generator: Source = None) -> Tensor:
        """One draw of x_t ~ q(x_t | x_0).  x0: [B C H W] in [-1, 1].  t: number or [B], 0..T.
        Lesson: notebooks/02_noising.ipynb"""
        signal, noise = self.scales(x0, t)
        eps = randn(x0.shape, generator, device=x0.device, dtype=x0.dtype)
        return signal * x0 + noise * eps                                # DDPM Eq. 4

    def posterior(self, x0: Tensor, x_t: Tensor, t, s, eta: float = 1.0) -> tuple[Tensor, Tensor]:
        """mean and std of q(x_s | x_t, x_0), s < t.

        eta=1: DDPM Eq. 6-7; eta=0: DDIM, no noise (rectified flow: an Euler step).
        x0: [B C H W] in [-1, 1], x_t: [B C H W].  t, s: number or [B], 0 <= s < t <= T.
        Lesson: notebooks/03_ddpm.ipynb"""
        (a_t, n_t), (a_s, n_s) = self.at(t), self.at(s)
        std = eta * n_s / n_t * self._fresh_noise(t, s)                 # DDIM Eq. 16
        # min=0: at eta = 1 rounding pushes the difference under 0 where no signal is left,
        # at the end of a table.
        from_x_t = (n_s ** 2 - std ** 2).clamp(min=0).sqrt() / n_t
        from_x0 = a_s - from_x_t * a_t
        mean = like(from_x0, x_t) * x0 + like(from_x_t, x_t) * x_t      # DDIM Eq. 12, DDPM Eq. 7
        return mean, like(std, x_t)

    def _fresh_noise(self, t, s) -> Tensor:
        """Std of the noise that is added from s to t: DDPM's sqrt(beta_t) for s = t - 1."""
        (a_t, n_t), (a_s, n_s) = self.at(t), self.at(s)
        return (n_t ** 2 - (a_t / a_s * n_s) ** 2).clamp(min=0).sqrt()  # DDPM Eq. 2

    def log_variance(self, var: Tensor, t, s) -> Tensor:
        """Log variance of p(x_s | x_t) for an interpolation var in [0, 1].

        0 = q's own given x_0, 1 = the whole step's noise.  q's own is 0 at s = 0, which has no log,
        so there the value at s = 1 stands in (as in improved DDPM)."""
        late, early = torch.as_tensor(t).clamp(min=2), torch.as_tensor(s).clamp(min=1)
        (_, n_late), (_, n_early) = self.at(late), self.at(early)
        largest = 2 * self._fresh_noise(t, s).log()
        smallest = 2 * (n_early / n_late * self._fresh_noise(late, early)).log()
        return var * like(largest, var) + (1 - var) * like(smallest, var)   # iDDPM Eq. 15

    def step(self, pred, x_t: Tensor, t, s, generator: Source = None, eta: float = 1.0) -> Tensor:
        """One draw of x_s ~ p(x_s | x_t): the posterior with the predicted x_0 for the true one.

        pred: Prediction(x0 [B C H W], var in [0, 1] or None).  A predicted variance counts for
        eta = 1 only.  No noise at s = 0.
        Lesson: notebooks/03_ddpm.ipynb"""
        mean, std = self.posterior(pred.x0, x_t, t, s, eta)
        if pred.var is not None and eta == 1 and s > 0:
            std = (0.5 * self.log_variance(pred.var, t, s)).exp()
        return mean + std * randn(x_t.shape, generator, device=x_t.device, dtype=x_t.dtype)

    def keep(self, x0: Tensor, known: Tensor):
        """Inpainting: the constraint that puts known pixels (or latents) back.

        x0: [B C H W].  known: [B 1 H W] bool, True = keep."""
        return keep_known(x0, known)


def variance_preserving(alpha_bar: Tensor) -> GaussianDiffusion:
    """DDPM's process: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.

    alpha_bar: [T+1] float64, as in schedules.py."""
    return GaussianDiffusion(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def rectified_flow(T: int = 1000) -> GaussianDiffusion:
    """Rectified flow's process (Liu et al. 2023): x_t lies on the line from x_0 to noise.

    t / T of the way, so x_t = (1 - t / T) x_0 + t / T eps."""
    noise = torch.linspace(0, 1, T + 1, dtype=torch.float64)                    # Rectified flow
    return GaussianDiffusion(1 - noise, noise)
