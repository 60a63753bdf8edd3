"""Checkers of lesson 08: VQ-Diffusion."""
from math import prod

import torch
import torch.nn.functional as F

from ...evaluation.alignment import alignment
from ...evaluation.caption_metrics import fresh_scenes
from ...tensors import generator
from .answers import call, near


def shows_masks(function):
    """A checker for (gamma_bar_s, gamma_bar_t) -> probability that a token masked at t is shown at s."""
    for at_s, at_t in ((0.0, 0.3), (0.5, 1.0), (0.6, 0.8)):
        answer = call(function, at_s, at_t)
        if answer is None or abs(float(answer) - (1 - at_s / at_t)) > 1e-9:
            return (f"at gamma_bar_s={at_s:g}, gamma_bar_t={at_t:g} it is {answer}: of 100 tokens, "
                    "how many are masked at t, and how many of *those* still at s?")


def trusts(function):
    """A checker for (alpha_bar, beta_bar, K) -> probability that a visible token is the true one."""
    for alpha_bar, beta_bar, K in ((0.4, 0.1, 3), (0.9, 0.0, 512), (0.0, 0.01, 9)):
        answer = call(function, alpha_bar, beta_bar, K)
        wanted = (alpha_bar + beta_bar) / (alpha_bar + K * beta_bar)
        if answer is None or abs(float(answer) - wanted) > 1e-9:
            return (f"at {alpha_bar:g}, {beta_bar:g}, {K} it is {answer}: how probable is x_t "
                    "from x_0 = x_t, and how probable from any x_0 at all?")


def masks_and_replaces(function):
    """A checker for (x0, alpha_bar, gamma_bar, K, u, other) -> x_t."""
    g, K = generator(8), 9
    x0, other = torch.randint(K, (2, 500), generator=g), torch.randint(K, (2, 500), generator=g)
    u = torch.rand(2, 500, generator=g)
    for alpha_bar, gamma_bar in ((1.0, 0.0), (0.0, 1.0), (0.3, 0.5)):
        x_t = call(function, x0, alpha_bar, gamma_bar, K, u, other)
        if not isinstance(x_t, torch.Tensor) or x_t.shape != x0.shape or x_t.dtype != torch.int64:
            return "return int64 tokens of the shape of x0"
        found = [(x_t == value).float().mean().item() for value in (K, x0)]
        kept_by_chance = (1 - alpha_bar - gamma_bar) / K
        wanted = [gamma_bar, alpha_bar + kept_by_chance]
        if any(abs(a - b) > 0.06 for a, b in zip(found, wanted)):
            return (f"at alpha_bar={alpha_bar:g}, gamma_bar={gamma_bar:g} a share of {found[0]:.2f} is "
                    f"masked and {found[1]:.2f} is x0: {wanted[0]:.2f} and {wanted[1]:.2f} are wanted")
        strange = (x_t != K) & (x_t != x0) & (x_t != other)
        if strange.any():
            return "a token is x0, or other, or K: some of yours are none of these"


def sees_every_token(function):
    """A checker for (log_p, x0, x_t, K) -> the loss of all tokens, visible ones too."""
    g, K = generator(8, 1), 9
    log_p = torch.randn(2, K, 64, generator=g).log_softmax(1)
    x0 = torch.randint(K, (2, 64), generator=g)
    x_t = torch.where(torch.rand(2, 64, generator=g) < 0.5, K, x0)
    answer = call(function, log_p, x0, x_t, K)
    if not isinstance(answer, torch.Tensor) or answer.numel() != 1:
        return "return one number, a tensor"
    if torch.allclose(answer, F.nll_loss(log_p, x0, reduction="none")[x_t == K].mean()):
        return ("this is the old one. Which tokens does it look at, "
                "and which must a model learn to doubt?")
    if not torch.allclose(answer, F.nll_loss(log_p, x0)):
        return f"it is {answer.item():.3f}, and should be {F.nll_loss(log_p, x0).item():.3f}"


def draws_well_in_six_steps(pipeline):
    """A checker for a pipeline of at most 6 steps that reaches 0.86 on captions with two objects."""
    stages = getattr(pipeline, "stages", ())
    if len(stages) != 1 or not isinstance(stages[0].steps, int):
        return 'give a pipeline of one stage: load("vq-shapes", sampling_steps=6)'
    if stages[0].steps > 6:
        return f"it takes {stages[0].steps} steps: 6 at most"
    captions = [caption for _, caption in fresh_scenes("two_objects", 48)]
    score = alignment(pipeline(captions, seed=8).cpu(), captions).score
    return None if score > 0.86 else (f"alignment {score:.2f}: with few steps each call decides many "
                                      "tokens at once. Which setting makes their draws surer?")


EXERCISES = {
    "08a": shows_masks,
    "08b": trusts,
    "08c": near(64 * prod(s / (s + 1) for s in range(90, 0, -10)), within=0.05,
                hint="by 08a, what does a step from s + 1 to s leave of the masks? "
                     "There are nine before the last"),
    "08d": masks_and_replaces,
    "08e": sees_every_token,
    "08f": draws_well_in_six_steps,
}
