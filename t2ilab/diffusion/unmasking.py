"""Token samplers: ancestral; or unmask a fixed number per step, at random or most confident first.

VQ-Diffusion (Gu et al. 2022), Improved VQ-Diffusion (Tang et al. 2022). A sampler is a function
diffusion -> step; how many steps there are, and so how fast it is, is the list of times.
"""
import torch

from ..tensors import gumbel
from .sampling import ancestral


def scheduled_unmasking(*, by: str, weight: float = 0.0):
    """Unmask exactly as many tokens per step as the schedule says, and never touch what is shown.

    by="random": any masks, evenly (high-quality inference).  "confidence": rather those whose
    likeliest code is likely (purity prior); weight also sharpens what is drawn there:
    p^(1 + weight * purity).  Two differences to the published code: it divides each purity by its
    image's largest first, and draws its last step from the posterior.
    Lesson: notebooks/08_vq_diffusion.ipynb"""
    def sampler(diffusion):
        tokens = None       # [B] number of tokens n such that n * gamma_bar[t] are masked at t

        def step(pred, x_t, t, s, generator=None):
            nonlocal tokens
            masked = x_t == diffusion.K                                 # [B N]
            # A run begins with masks alone, also where gamma_bar ends at 0.9.
            if tokens is None:
                tokens = masked.sum(1)
                if masked.any():
                    tokens = tokens / diffusion.cumulative(t).masked.item()
            log_p = pred.x0.log_softmax(1)                              # [B K N]
            purity = log_p.amax(1).exp()                                # [B N] in (0, 1]
            sharper = 1 + weight * purity[:, None] if by == "confidence" else 1.0
            logits = sharper * log_p                    # Improved VQ-Diffusion purity prior
            x0 = diffusion.sample_x0(logits, generator)
            gamma_bar_s = diffusion.cumulative(s).masked.item()
            stay = (tokens * gamma_bar_s).round()       # Improved VQ-Diffusion high-quality inference
            score = purity.log() if by == "confidence" else torch.zeros_like(purity)
            score = score + gumbel(x_t.shape, generator).to(purity)
            score = score.masked_fill(~masked, -torch.inf)
            rank = score.argsort(1, descending=True).argsort(1)         # [B N], 0 = shown first
            shown = rank < (masked.sum(1) - stay)[:, None]
            return torch.where(masked & shown, x0, x_t)
        return step
    return sampler


def legacy_fast(diffusion):
    """The original code's sampler with few steps, for the lesson only.

    It takes the posterior of a single step, however far the next time is, so that too few tokens
    are unmasked all the way, and most are guessed at once at the end."""
    def step(pred, x_t, t, s, generator=None):
        return diffusion.step(pred, x_t, min(s + 1, t), s, generator)
    return step


TOKEN_SAMPLERS = {   # prior weight -> sampler
    "ancestral": lambda weight: ancestral,
    "even": lambda weight: scheduled_unmasking(by="random"),
    "purity": lambda weight: scheduled_unmasking(by="confidence", weight=weight),
    "legacy_fast": lambda weight: legacy_fast,
}
