"""Checkers of lesson 02: noising."""
import torch

from ...diffusion.gaussian import variance_preserving
from ...diffusion.schedules import cosine
from ...tensors import generator
from .answers import call


def jumps(function):
    """A checker for (alpha_bar, s, t) -> (a, b): x_t = a x_s + b eps must end where one jump to t does."""
    alpha_bar = cosine(100)
    for s, t in ((0, 40), (39, 40), (10, 70)):
        pair = call(function, alpha_bar, s, t)
        if not isinstance(pair, tuple) or len(pair) != 2:
            return "return two numbers, a and b"
        a, b = map(float, pair)
        if abs(a * alpha_bar[s].sqrt() - alpha_bar[t].sqrt()) > 1e-9:
            return (f"from s={s} to t={t} the picture's weight is wrong: "
                    "first to s, then by a, must give sqrt(alpha_bar[t])")
        if abs(a**2 * (1 - alpha_bar[s]) + b**2 - (1 - alpha_bar[t])) > 1e-9:
            return (f"from s={s} to t={t} the variances do not add up: "
                    "a fades the noise already in x_s, and b**2 must fill up to 1 - alpha_bar[t]")


def quarters_the_snr(function):
    """A checker for a function table -> table [T+1] with a quarter of its SNR at every t >= 1."""
    before = cosine(100)
    after = call(function, before)
    if not isinstance(after, torch.Tensor) or after.shape != before.shape:
        return "return a table as long as the one you were given"
    if after[0] != 1 or not after.isfinite().all():
        return "entry 0 is data: alpha_bar[0] is 1, and its SNR is infinite"
    ratio = (after / (1 - after) / (before / (1 - before)))[1:]
    if not torch.allclose(ratio, torch.full_like(ratio, 0.25), rtol=1e-6):
        return "solve SNR = alpha_bar / (1 - alpha_bar) for alpha_bar"


def tells_the_time(function):
    """A checker for a function (x0, x_t, diffusion) -> t, right to 30 steps of 1000."""
    diffusion = variance_preserving(cosine())
    x0 = 2 * torch.rand(16, 3, 32, 32, generator=generator(2)) - 1
    for t in (50, 300, 500, 700, 950):
        answer = call(function, x0, diffusion.diffuse(x0, t, generator(2, t)), diffusion)
        if answer is None or abs(int(answer) - t) > 30:
            return (f"at t={t} it says {answer}: x0 . x_t / x0 . x0 is about sqrt(alpha_bar[t]); "
                    "which entry of the table is nearest?")


def noises_each_image(function):
    """A checker for (x0 [B 3 H W], alpha_bar [T+1], t [B], eps) -> x_t, each image at its own t."""
    alpha_bar, g = cosine(100), generator(4)
    for B, size in ((8, 8), (5, 8), (1, 4)):
        t = torch.randint(0, 101, (B,), generator=g)
        x0, eps = (torch.randn(B, 3, size, size, generator=g, dtype=torch.float64) for _ in range(2))
        try:
            x_t = call(function, x0, alpha_bar, t, eps)
        except RuntimeError as error:
            return f"with {B} images of {size} x {size} pixels it stops: {error}"
        if not isinstance(x_t, torch.Tensor) or x_t.shape != x0.shape:
            return "return a tensor as large as x0"
        wanted = [alpha_bar[k].sqrt() * x + (1 - alpha_bar[k]).sqrt() * e for k, x, e in zip(t, x0, eps)]
        if not torch.allclose(x_t, torch.stack(wanted)):
            return (f"with {B} images of {size} x {size} pixels some pixel gets another image's t: "
                    "along which axis does a tensor [B] line up with [B 3 H W]?")


EXERCISES = {
    "02a": jumps,
    "02b": quarters_the_snr,
    "02c": tells_the_time,
    "02d": noises_each_image,
}
