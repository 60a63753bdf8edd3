"""Guidance and constraints: changes to a denoiser's prediction before the sampler sees it.

Classifier-free guidance (Ho & Salimans 2022): guidance_scale = 1 is off, 0 is unconditional; on x_0
it is one lerp. CLIP guidance (GLIDE, Nichol et al. 2022) follows the gradient of any function that
scores noisy images.
"""
import torch

from .cond import Cond


def guided(denoiser, cond: Cond, guidance_scale: float, *, negative: Cond | None = None):
    """Classifier-free guidance: moves x0_hat from unconditional to conditional.

    Returns denoise(x_t, t).  Scales above 1 move x0_hat further.
    One network call on a doubled batch; the variance is the conditional half's.
    guidance_scale: 1.0 = off, 0.0 = unconditional.
    negative: a condition to push away from, in the place of the null condition.
    Lesson: notebooks/05_glide.ipynb"""
    other = cond.null() if negative is None else negative
    if guidance_scale in (0, 1) or cond.mask is None:
        only = denoiser.condition(cond if guidance_scale else other)
        return lambda x_t, t: denoiser(x_t, t, only)
    both = denoiser.condition(cond.beside(other))

    def denoise(x_t, t):
        pred = denoiser(torch.cat([x_t, x_t]), t, both)
        with_caption, without = pred.x0.chunk(2)
        x0 = without.lerp(with_caption, guidance_scale)                 # CFG Eq. 6, GLIDE guidance
        var = None if pred.var is None else pred.var.chunk(2)[0]
        return pred._replace(x0=x0, var=var)
    return denoise


def score_guided(denoise, diffusion, score, scale: float):
    """CLIP or classifier guidance: denoise with its x0_hat moved up the gradient of a score.

    score(x_t [B C H W], t) -> [B], higher = better, with gradients; it sees noisy images, so it
    should know them (GLIDE's noised CLIP: the logit scale times the cosine of image and caption).
    scale: 0 = off.  Lesson: notebooks/05_glide.ipynb"""
    def scored_denoise(x_t, t):
        pred = denoise(x_t, t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            uphill = torch.autograd.grad(score(x, t).sum(), x)[0]
        signal, noise = diffusion.scales(x_t, t)
        x0 = pred.x0 + scale * noise ** 2 / signal * uphill             # GLIDE CLIP guidance
        return pred._replace(x0=x0)
    return scored_denoise


def constrained(denoise, *constraints):
    """denoise with every constraint (a function x0 -> x0) applied to its x0_hat, in order."""
    def constrained_denoise(x_t, t):
        pred = denoise(x_t, t)
        for constraint in constraints:
            pred = pred._replace(x0=constraint(pred.x0))
        return pred
    return constrained_denoise
