"""Numbers that need no random generator, and networks and denoisers whose answer is known."""
import math

import torch
from torch import nn

from t2ilab.diffusion.cond import Prediction


def wave(*shape, seed=0):
    """Float64 numbers in [-1, 1] that look random, and are the same in every version of every library."""
    k = torch.arange(math.prod(shape), dtype=torch.float64)
    return (0.37 * k * k + 1.9 * (seed + 1) * k + seed).sin().view(shape)


def pixels(*shape, seed=0):
    """Like wave, but on the 256 levels that a pixel can have; both ends occur."""
    return ((wave(*shape, seed=seed) + 1) * 127.5).round() / 127.5 - 1


def doubles(*values):
    """The given numbers as a float64 tensor, with all their digits."""
    return torch.tensor(values, dtype=torch.float64)


def alone(v):
    """What `gather` of after_step is where there is one process."""
    return v


class Says(nn.Module):
    """A network that always gives one answer, held as a parameter so that its gradient can be looked at."""

    def __init__(self, answer):
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, x, t, cond):
        return self.answer


class Toy(nn.Module):
    """A fixed smooth network: x [B 3 H W], t [B] in 0..1000, cond -> [B out H W].  A label or caption adds its mean where its mask is True."""

    def __init__(self, out=3):
        super().__init__()
        self.mix = nn.Parameter(wave(out, 3, seed=5))

    def forward(self, x, t, cond):
        h = torch.einsum("oc,bchw->bohw", self.mix, x).tanh() * (0.5 + t.to(x) / 2000)[:, None, None, None]
        if cond.mask is not None:
            text = cond.text.to(x).reshape(len(x), cond.mask.shape[1], -1).mean(2) * cond.mask
            h = h + text.sum(1)[:, None, None, None]
        return h


def ideal(diffusion, data, share):
    """The best possible denoiser for a data set of a few pictures [K C H W], of which each is drawn with its share [K]."""
    flat = data.flatten(1)

    def denoise(x_t, t):
        signal, noise = diffusion.scales(data, t)
        distance = torch.cdist(x_t.flatten(1), signal.flatten(1) * flat).square() / noise.flatten(1) ** 2
        return Prediction((share.log() - distance / 2).softmax(1).mm(flat).view_as(x_t))
    return denoise


def mixture(diffusion, means, std, share):
    """The best possible denoiser for a mixture of round Gaussians: means [K C H W], one std, shares [K].

    Its x0_hat is (x_t + (1 - alpha_bar) * score) / sqrt(alpha_bar), with the exact score."""
    flat = means.flatten(1)

    def denoise(x_t, t):
        signal, noise = (v.flatten(1) for v in diffusion.scales(means, t))
        x = x_t.flatten(1)
        variance = signal ** 2 * std ** 2 + noise ** 2                                          # of x_t within one Gaussian
        weight = (share.log() - torch.cdist(x, signal * flat).square() / variance / 2).softmax(1)
        score = (signal * weight.mm(flat) - x) / variance
        return Prediction(((x + noise ** 2 * score) / signal).view_as(x_t))
    return denoise
