"""Losses: squared error weighted by SNR, or the variational bound in bits per dimension.

DDPM (Ho et al. 2020), improved DDPM (Nichol & Dhariwal 2021), min-SNR (Hang et al. 2023), P2
(Choi et al. 2022). Every weight is written for an error in x_0, so one table serves all
parameterisations.
"""
import math

import torch
from torch import Tensor

from ..tensors import like

# Weight of the squared error in x_0 as a function of snr = (signal / noise)^2.  A plain squared
# error in x0, eps, v or velocity has the weight of that name.
WEIGHTS = {
    "x0": lambda snr: torch.ones_like(snr),
    "eps": lambda snr: snr,
    "v": lambda snr: snr + 1,
    "velocity": lambda snr: (snr.sqrt() + 1).square(),                          # Rectified flow
    "v_clipped": lambda snr: (snr + 1).clamp(max=5),
    "min_snr": lambda snr: snr.clamp(max=5),                                    # min-SNR
    "min_snr_plus": lambda snr: snr.clamp(max=5) + 0.2,     # something for noise alone, too
    "p2": lambda snr: snr / (1 + snr),                                          # P2
}


def normal_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    """KL(N1 || N2) of two normal distributions per element, in nats.  All of one shape."""
    distance = (mean1 - mean2).square() * (-log_var2).exp()
    return 0.5 * (log_var2 - log_var1 - 1 + (log_var1 - log_var2).exp() + distance)


def decoder_nll(x0: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """-log p(x_0 | x_1) per element, in nats, for pixels that are really one of 256 levels.

    x0: [B C H W] in [-1, 1]."""
    def cdf(edge):
        return 0.5 * torch.erfc(-(edge - mean) * (-log_std).exp() / math.sqrt(2))
    upper = torch.where(x0 > 0.999, 1.0, cdf(x0 + 1 / 255))
    lower = torch.where(x0 < -0.999, 0.0, cdf(x0 - 1 / 255))
    # 1e-12: far from the mean both tails round to the same float32, and log(0) would end the run.
    return -(upper - lower).clamp(min=1e-12).log()                              # DDPM Eq. 13


def vlb_term(diffusion, x0: Tensor, x_t: Tensor, t, s, pred) -> Tensor:
    """One term of the variational bound, [B] in bits per dimension.

    KL(q || p) for s > 0, the decoder's NLL for s = 0.
    x0: [B C H W] in [-1, 1].  t, s: [B] int, s < t.  pred: Prediction.
    Lesson: notebooks/03_ddpm.ipynb"""
    true_mean, _ = diffusion.posterior(x0, x_t, t, s)
    mean, _ = diffusion.posterior(pred.x0, x_t, t, s)
    own = diffusion.log_variance(torch.zeros_like(x_t), t, s)
    log_var = own if pred.var is None else diffusion.log_variance(pred.var, t, s)
    kl = normal_kl(true_mean, own, mean, log_var)                               # DDPM Eq. 5
    nll = decoder_nll(x0, mean, 0.5 * log_var)
    nats = torch.where(like(s == 0, x_t).bool(), nll, kl)
    return nats.flatten(1).mean(1) / math.log(2)


@torch.no_grad()
def bits_per_dim(denoise, diffusion, x0: Tensor, times: list[int], *,
                 generator=None) -> dict[str, Tensor]:
    """Bits per dimension: an upper bound on -log2 p(x_0) for a sampler that visits `times`.

    x0: [B C H W] in [-1, 1].  times: from T down to 0.  Returns total [B], prior [B], vlb [B n],
    mse [B n] (of x0_hat), one column per pair of times.
    Lesson: notebooks/03_ddpm.ipynb"""
    B, vlb, mse = len(x0), [], []
    for t, s in zip(times, times[1:]):
        x_t = diffusion.diffuse(x0, t, generator)
        pred = denoise(x_t, t)
        vlb.append(vlb_term(diffusion, x0, x_t, torch.full((B,), t), torch.full((B,), s), pred))
        mse.append((pred.x0 - x0).square().flatten(1).mean(1))
    signal, noise = diffusion.scales(x0, times[0])
    zero = torch.zeros_like(x0)
    prior = normal_kl(signal * x0, zero + 2 * noise.log(), zero, zero)
    prior = prior.flatten(1).mean(1) / math.log(2)
    terms = torch.stack(vlb, 1)                                                 # [B n]
    return {"total": terms.sum(1) + prior, "prior": prior, "vlb": terms, "mse": torch.stack(mse, 1)}
