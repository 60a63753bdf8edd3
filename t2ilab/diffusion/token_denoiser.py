"""Token denoiser: a network as p(x_0 | x_t) of tokens, trained by bound and auxiliary loss.

VQ-Diffusion (Gu et al. 2022); the auxiliary loss is the cross-entropy of x_0 itself. The same verbs
as GaussianDenoiser's. Left out: what the network is, and what a token stands for.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ranges import check_ranges
from ..tensors import one_hot
from .cond import Cond, Prediction, conditioned
from .mask_replace import MaskReplaceDiffusion
from .timestep_samplers import ImportanceTimes, uniform_times


@dataclass(frozen=True)
class TokenObjectiveConfig:
    """The loss that trains a token denoiser."""
    bound: float = 1.0                    # weight of the variational bound
    auxiliary: float = 5e-4               # weight of -log p(x_0 | x_t)
    adaptive: bool = True                 # auxiliary loss counts twice at t = 1, nearly once at T
    timestep_sampler: str = "importance"  # how training picks t: uniform or importance (loss-aware)
    cond_drop_prob: float = 0.0           # share of captions or labels dropped, for guidance

    def __post_init__(self):
        check_ranges(self)
        if self.timestep_sampler not in ("uniform", "importance"):
            raise ValueError(f"timestep_sampler={self.timestep_sampler!r}: "
                             "choose one of importance, uniform")


class TokenDenoiser(nn.Module):
    """A network and a diffusion as one function (x_t, t, cond) -> Prediction, with its loss.

    The prediction's x0 holds log-probabilities."""

    def __init__(self, net: nn.Module, diffusion: MaskReplaceDiffusion,
                 config: TokenObjectiveConfig = TokenObjectiveConfig()):
        super().__init__()
        self.net, self.diffusion, self.config = net, diffusion, config
        by_importance = config.timestep_sampler == "importance"
        self.importance = ImportanceTimes(diffusion.T) if by_importance else None

    def forward(self, x_t: Tensor, t, cond: Cond = Cond()) -> Prediction:
        """log p(x_0 | x_t) [B K N] in float32.  x_t: [B N] int64, 0..K.

        t: number or [B], above 0, up to T.  cond: as `condition` returns it."""
        step = torch.as_tensor(t, dtype=torch.float64).ceil().long()    # the net knows whole steps
        logits = self.net(x_t, step.expand(len(x_t)).to(x_t.device), cond)
        return Prediction(logits.float().log_softmax(1))

    def condition(self, cond: Cond) -> Cond:
        """The condition as the network wants it at every step.

        What can be computed once per run, such as a caption's features, is."""
        return conditioned(self.net, cond)

    def loss(self, x0: Tensor, cond: Cond = Cond(), generator=None) -> Tensor:
        """Training loss [B] at one random time per example, in nats per token.

        x0: [B N] int64, 0..K-1; ValueError outside.  Lesson: notebooks/08_vq_diffusion.ipynb"""
        K, T = self.diffusion.K, self.diffusion.T
        if x0.numel() and not 0 <= int(x0.min()) <= int(x0.max()) < K:
            raise ValueError(f"x0 runs from {int(x0.min())} to {int(x0.max())}: "
                             f"training wants codes in 0..{K - 1}")
        # By importance in training alone, so that validation losses can be compared.
        chooser = self.importance if self.training else None
        draw = uniform_times if chooser is None else chooser.draw
        t, importance = draw(T, len(x0), generator)
        x_t = self.diffusion.diffuse(x0, t, generator)
        cond = self.condition(cond.drop(self.config.cond_drop_prob, generator))
        loss = self.loss_at(x0, x_t, t, cond)
        if chooser is not None:
            chooser.note(t, loss)
        return loss * importance.to(loss)

    def loss_at(self, x0: Tensor, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """The loss [B] at given times: T times a term of the bound, and of the auxiliary loss.

        x0, x_t: [B N].  t: [B] in 1..T.  cond: as `condition` returns it."""
        c, T = self.config, self.diffusion.T
        log_p = self(x_t, t, cond).x0
        loss = T * c.bound * bound_term(self.diffusion, x0, x_t, t, t - 1, log_p) if c.bound else 0.0
        weight = c.auxiliary * (2 - (t - 1) / T if c.adaptive else torch.ones(len(t)))
        nll = F.nll_loss(log_p, x0, reduction="none").mean(1)                   # [B]
        return loss + T * weight.to(log_p) * nll                       # VQ-Diffusion auxiliary loss


def bound_term(diffusion: MaskReplaceDiffusion, x0: Tensor, x_t: Tensor, t, s,
               log_p: Tensor) -> Tensor:
    """One term of the bound: KL(q(x_s | x_t, x_0) || p(x_s | x_t)) [B] in nats per token.

    At s = 0 that is -log p(x_0 | x_t), with no special case.
    x0, x_t: [B N].  t, s: [B], s < t.  log_p: [B K N] = log p(x_0 | x_t).
    Lesson: notebooks/08_vq_diffusion.ipynb"""
    q = diffusion.posterior(one_hot(x0, diffusion.K).to(log_p), x_t, t, s)
    p = diffusion.posterior(log_p.exp(), x_t, t, s)             # VQ-Diffusion x0 reparameterisation
    tiny = torch.finfo(p.dtype).tiny
    log_ratio = q.clamp(min=tiny).log() - p.clamp(min=tiny).log()
    return (q * log_ratio).sum(1).mean(1)                       # VQ-Diffusion bound
