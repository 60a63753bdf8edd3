"""Ways to walk from masks to codes: the posterior itself, or a fixed number of masks shown each step, chosen evenly or the surest first.

VQ-Diffusion (Gu et al. 2022), Improved VQ-Diffusion (Tang et al. 2022). A sampler is a function diffusion -> step; how many steps there are, and so
how fast it is, is the list of times.
"""
import torch

from ..tensors import gumbel


def ancestral(diffusion):
    """Each token by itself: a draw from p(x_s | x_t), exact for steps of any length."""
    return diffusion.step


def shown(by_purity: bool, weight: float = 0.0):
    """Show exactly as many masks a step as the schedule says, and never touch what is shown.

    by_purity=False: any masks, evenly (high-quality inference).  True: rather those whose likeliest code is likely (purity prior); weight also
    sharpens what is drawn there: p^(1 + weight * purity).  The published code does so up to its last step, which it draws from the posterior.
    Lesson: notebooks/08_vq_diffusion.ipynb"""
    def sampler(diffusion):
        whole = None                                                                         # [B] tokens of which gamma_bar is the share of masks

        def step(pred, x_t, t, s, generator=None):
            nonlocal whole
            masked = x_t == diffusion.K
            if whole is None:                                                                # a run begins with masks alone, also where gamma_bar ends at 0.9
                whole = masked.sum(1) / diffusion.bars(t)[2].item() if masked.any() else masked.sum(1)
            log_p = pred.x0.log_softmax(1)                                                   # [B K N]
            purity = log_p.amax(1).exp()                                                     # [B N] in (0, 1]
            x0 = diffusion.guess((1 + weight * purity[:, None]) * log_p if by_purity else log_p, generator)    # Improved VQ-Diffusion purity prior
            stay = (whole * diffusion.bars(s)[2].item()).round()                             # Improved VQ-Diffusion high-quality inference
            noise = gumbel(x_t.shape, generator).to(purity)
            rank = ((purity.log() if by_purity else 0 * purity) + noise).masked_fill(~masked, -torch.inf).argsort(1, descending=True).argsort(1)
            return torch.where(masked & (rank < (masked.sum(1) - stay)[:, None]), x0, x_t)
        return step
    return sampler


def legacy_fast(diffusion):
    """What the original code does with few steps, for the lesson only: the posterior of a single step however far the next time is.

    Too few masks are shown all the way, and most are guessed at once at the end."""
    return lambda pred, x_t, t, s, generator=None: diffusion.step(pred, x_t, min(s + 1, t), s, generator)


TOKEN_SAMPLERS = {   # prior weight -> sampler
    "ancestral": lambda weight: ancestral,
    "even": lambda weight: shown(by_purity=False),
    "purity": lambda weight: shown(by_purity=True, weight=weight),
    "legacy_fast": lambda weight: legacy_fast,
}
