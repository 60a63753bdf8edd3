"""Gaussian diffusion: add noise in one jump, and take one draw from q(x_s | x_t, x_0) for any s < t.

DDPM (Ho et al. 2020), DDIM (Song et al. 2021) and improved DDPM's learned variance are all this one posterior.
Left out: everything about networks.
"""
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors import like, randn

PREDICTS = {   # what a network may predict: x0_hat = skip * x_t + out * net(x_t, t), with a = sqrt(alpha_bar_t), s = sqrt(1 - alpha_bar_t)
    "x0": lambda a, s: (0 * a, 1 + 0 * s),
    "eps": lambda a, s: (1 / a, -s / a),                                        # DDPM Eq. 15
    "v": lambda a, s: (a, -s),                                                  # v-prediction
}


@dataclass(frozen=True)
class GaussianDiffusion:
    """The forward process of a schedule and its exact reverse, given x_0."""
    alpha_bar: Tensor            # [T+1] float64, from 1 (data) down to almost 0 (noise)

    @property
    def T(self) -> int:
        """Number of noising steps; x_T is (almost) pure noise."""
        return len(self.alpha_bar) - 1

    def prior(self, shape, *, device="cpu", generator=None) -> Tensor:
        """x_T: standard normal noise of the given shape."""
        return randn(shape, generator, device=device)

    def scales(self, x: Tensor, t) -> tuple[Tensor, Tensor]:
        """(sqrt(alpha_bar_t), sqrt(1 - alpha_bar_t)), shaped to broadcast against x.  t: int or [B] int on the CPU, 0..T."""
        alpha_bar = self.alpha_bar[t]
        return like(alpha_bar.sqrt(), x), like((1 - alpha_bar).sqrt(), x)

    def snr(self, t) -> Tensor:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t), float64; infinite at t = 0."""
        return self.alpha_bar[t] / (1 - self.alpha_bar[t])

    def diffuse(self, x0: Tensor, t, generator=None) -> Tensor:
        """One draw of x_t ~ q(x_t | x_0).  x0: [B C H W] in [-1, 1].  t: int or [B] int, 0..T.
        Lesson: notebooks/02_noising.ipynb"""
        signal, noise = self.scales(x0, t)
        return signal * x0 + noise * randn(x0.shape, generator, device=x0.device, dtype=x0.dtype)    # DDPM Eq. 4

    def posterior(self, x0: Tensor, x_t: Tensor, t, s, eta: float = 1.0) -> tuple[Tensor, Tensor]:
        """mean and std of q(x_s | x_t, x_0), s < t.  eta=1: DDPM Eq. 6-7; eta=0: DDIM, no noise.

        x0: [B C H W] in [-1, 1], x_t: [B C H W].  t, s: int or [B] int, 0 <= s < t <= T.
        Lesson: notebooks/03_ddpm.ipynb"""
        ab_t, ab_s = self.alpha_bar[t], self.alpha_bar[s]
        std = eta * ((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)).sqrt()        # DDIM Eq. 16
        # min=0: at eta = 1 rounding pushes the difference under 0 where alpha_bar_t is 0, at the end of a table without any signal.
        from_x_t = ((1 - ab_s - std ** 2).clamp(min=0) / (1 - ab_t)).sqrt()
        from_x0 = ab_s.sqrt() - from_x_t * ab_t.sqrt()
        mean = like(from_x0, x_t) * x0 + like(from_x_t, x_t) * x_t              # DDIM Eq. 12, DDPM Eq. 7
        return mean, like(std, x_t)

    def log_variance(self, var: Tensor, t, s) -> Tensor:
        """Log variance of p(x_s | x_t) for an interpolation var in [0, 1]: 0 = q's own given x_0, 1 = the whole step's noise.

        q's own is 0 at s = 0, which has no log, so there the value at s = 1 stands in (as in improved DDPM)."""
        ab_t, ab_s = self.alpha_bar[t], self.alpha_bar[s]
        late, early = self.alpha_bar[torch.as_tensor(t).clamp(min=2)], self.alpha_bar[torch.as_tensor(s).clamp(min=1)]
        largest = (1 - ab_t / ab_s).log()
        smallest = ((1 - early) / (1 - late) * (1 - late / early)).log()
        return var * like(largest, var) + (1 - var) * like(smallest, var)       # iDDPM Eq. 15

    def step(self, pred, x_t: Tensor, t: int, s: int, generator=None, eta: float = 1.0) -> Tensor:
        """One draw of x_s ~ p(x_s | x_t): the posterior with the predicted x_0 in place of the true one.

        pred: Prediction(x0 [B C H W], var in [0, 1] or None).  A predicted variance counts for eta = 1 only.  No noise at s = 0.
        Lesson: notebooks/03_ddpm.ipynb"""
        mean, std = self.posterior(pred.x0, x_t, t, s, eta)
        if pred.var is not None and eta == 1 and s > 0:
            std = (0.5 * self.log_variance(pred.var, t, s)).exp()
        return mean + std * randn(x_t.shape, generator, device=x_t.device, dtype=x_t.dtype)
