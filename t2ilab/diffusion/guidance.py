"""Classifier-free guidance, and constraints: two ways to bend a denoiser's answer before the sampler sees it.

Ho & Salimans 2022. guidance_scale = 1 is off, 0 is unconditional; on x_0 it is one lerp.
"""
import torch

from .denoiser import Cond


def guided(denoiser, cond: Cond, guidance_scale: float):
    """denoise(x_t, t) that pushes x0_hat from "any picture" towards "a picture of this caption", and past it for scales above 1.

    One network call on a doubled batch; the variance is the conditional half's.  guidance_scale: 1.0 = off, 0.0 = unconditional.
    Lesson: notebooks/03_ddpm.ipynb"""
    if guidance_scale in (0, 1) or cond.mask is None:
        only = cond if guidance_scale else cond.null()
        return lambda x_t, t: denoiser(x_t, t, only)
    both = cond.beside(cond.null())

    def denoise(x_t, t):
        pred = denoiser(torch.cat([x_t, x_t]), t, both)
        with_caption, without = pred.x0.chunk(2)
        x0 = without.lerp(with_caption, guidance_scale)                         # CFG Eq. 6
        return pred._replace(x0=x0, var=None if pred.var is None else pred.var.chunk(2)[0])
    return denoise


def constrained(denoise, *constraints):
    """denoise with every constraint (a function x0 -> x0) applied to its x0_hat, in order."""
    def constrained_denoise(x_t, t):
        pred = denoise(x_t, t)
        for constraint in constraints:
            pred = pred._replace(x0=constraint(pred.x0))
        return pred
    return constrained_denoise
