"""Mask-and-replace diffusion over a grid of codes: a token stays, becomes another at random, or is masked, and a mask stays a mask.

VQ-Diffusion (Gu et al. 2022). Time is a real number from 0 (data) to T (all masks), so a sampling run may take any number of steps, more than T
as well. A state is one of K codes or [MASK], which is K itself. Left out: everything about networks.
"""
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors import like


def mask_replace_tables(T: int = 100, *, replaced: float = 1e-6, masked: float = 0.99999, early: float = 9e-6) -> tuple[Tensor, Tensor]:
    """alpha_bar (still the same) and gamma_bar (masked), [T+1] float64 each, both straight lines from t = 1 to T.

    replaced: share of tokens that are a random code at T.  1e-6 is what the published checkpoints were trained with, at every t: in effect masking
    alone.  0.1 with masked=0.9 is what the paper says; masked=0 is replacing alone.  early: share that is masked after one step.
    Lesson: notebooks/08_vq_diffusion.ipynb"""
    if not (0 <= replaced <= 1 and 0 <= masked <= 1 and 0 <= early < 1 and replaced + masked <= 1):
        raise ValueError(f"replaced={replaced}, masked={masked}, early={early}: choose shares that add up to 1 at most")
    if T < 2:
        raise ValueError(f"T={T}: choose 2 steps or more")
    at = torch.arange(T, dtype=torch.float64) / (T - 1)
    constant = replaced if replaced <= 1e-6 else 0.0                                 # as trained: there from the first step on
    gamma = early * (masked > 0) + at * (masked - early * (masked > 0))
    replace = constant + at * (replaced - constant)
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero + 1, 1 - gamma - replace]), torch.cat([zero, gamma])


@dataclass(frozen=True)
class MaskReplaceDiffusion:
    """The forward process of a schedule and its exact reverse, given x_0.  Tokens are [B N] int64, 0..K-1 or K for [MASK]."""
    alpha_bar: Tensor            # [T+1] float64: share of tokens that are as they were, from 1 down
    gamma_bar: Tensor            # [T+1] float64: share that is masked, from 0 up
    K: int                       # codes

    @property
    def T(self) -> int:
        """Number of noising steps."""
        return len(self.alpha_bar) - 1

    def times(self, n: int) -> list[float]:
        """n+1 evenly spaced times from T down to 0."""
        return torch.linspace(self.T, 0, n + 1, dtype=torch.float64).tolist()

    def bars(self, t) -> tuple[Tensor, Tensor, Tensor]:
        """(alpha_bar, beta_bar, gamma_bar) at t, float64: as it was, one particular other code, masked.  t: number or [B], 0..T; tables are joined
        by straight lines."""
        t = torch.as_tensor(t, dtype=torch.float64).cpu()
        low = t.floor().long().clamp(0, self.T - 1)
        alpha, gamma = (table[low].lerp(table[low + 1], t - low) for table in (self.alpha_bar, self.gamma_bar))
        return alpha, _rest(1 - alpha - gamma) / self.K, gamma

    def between(self, t, s) -> tuple[Tensor, Tensor, Tensor]:
        """The same three for the way from s to t, s < t: the share of codes at s that at t are as they were, one particular code, masked."""
        (a_t, _, g_t), (a_s, _, g_s) = self.bars(t), self.bars(s)
        stay = (1 - g_t) / (1 - g_s)                                                  # not masked in between
        alpha = a_t / a_s
        return alpha, _rest(stay - alpha) / self.K, 1 - stay

    def prior(self, shape, *, device="cpu", generator=None) -> Tensor:
        """x_T to begin with: nothing but masks, as in the published code; random codes where the schedule masks nothing.

        With masked=0.9 the forward chain ends in a tenth of random codes as well. They tell nothing of x_0, so beginning without them is right too:
        each mask is walked back by itself, from a state that the network has seen.  A schedule that ends with alpha_bar[T] > 0 leaves a rest of the
        picture there; what is drawn from here is then only close to what was learned."""
        if self.gamma_bar[-1] > 0:
            return torch.full(shape, self.K, device=device)
        return torch.randint(self.K, shape, generator=generator).to(device)

    def diffuse(self, x0: Tensor, t, generator=None) -> Tensor:
        """One draw of x_t ~ q(x_t | x_0).  x0: [B N].  t: number or [B].  Lesson: notebooks/08_vq_diffusion.ipynb"""
        alpha, _, gamma = (like(v, x0.float()) for v in self.bars(t))
        u, other = self._uniform(2, x0, generator)
        random = (other * self.K).long().clamp(max=self.K - 1)
        return torch.where(u < gamma, self.K, torch.where(u < gamma + alpha, x0, random))

    def marginal(self, x0: Tensor, t) -> Tensor:
        """q(x_t | x_0) as probabilities [B K+1 N] float64.  x0: [B N]."""
        alpha, beta, gamma = (v.view(-1, 1, 1) for v in self.bars(t))
        one = one_hot(x0, self.K).double()                                            # [B K N]
        return torch.cat([alpha * one + beta, (gamma + 0 * one[:, :1])], dim=1)       # VQ-Diffusion Eq. 4

    def transition_matrix(self, t, s) -> Tensor:
        """Q [K+1 K+1] float64 with Q[i, j] = q(x_t = i | x_s = j): what `between` says, written out.  For lessons and tests.
        Lesson: notebooks/08_vq_diffusion.ipynb"""
        alpha, beta, gamma = self.between(t, s)
        Q = torch.zeros(self.K + 1, self.K + 1, dtype=torch.float64)
        Q[:self.K, :self.K] = alpha * torch.eye(self.K, dtype=torch.float64) + beta   # VQ-Diffusion mask-and-replace matrix
        Q[self.K, :self.K], Q[self.K, self.K] = gamma, 1
        return Q

    def posterior(self, x0: Tensor, x_t: Tensor, t, s) -> Tensor:
        """p(x_s | x_t) = sum over k of q(x_s | x_t, x_0 = k) p(x_0 = k), as probabilities [B K+1 N].

        x0: probabilities [B K N].  x_t: [B N].  t, s: number or [B], 0 <= s < t <= T.  K multiplications a token, not K^2, because every row of Q but
        one entry is constant.  Lesson: notebooks/08_vq_diffusion.ipynb"""
        (a_t, b_t, g_t), (a_s, b_s, g_s), (a, b, g) = self.bars(t), self.bars(s), self.between(t, s)
        a_t, b_t, a_s, b_s, a, b, keep, unmask = (like(v, x0) for v in (a_t, b_t, a_s, b_s, a, b, g_s / g_t.clamp(min=1e-300), g / g_t.clamp(min=1e-300)))
        masked = (x_t == self.K)[:, None]                                             # [B 1 N]
        here = one_hot(x_t, self.K).to(x0)                                            # [B K N], nothing where masked
        seen = a_t * here + b_t                                                       # q(x_t | x_0 = k)
        w = torch.where(seen > 0, x0 / seen.clamp(min=torch.finfo(x0.dtype).tiny), 0.0)
        never = (x0 * (seen == 0)).sum(1, keepdim=True)                               # an x_0 that cannot be: where nothing is replaced, a code stays
        from_code = (a * here + b) * (a_s * w + b_s * w.sum(1, keepdim=True)) + here * never         # VQ-Diffusion Eq. 5
        from_mask = unmask * (a_s * x0 + b_s * x0.sum(1, keepdim=True))
        return torch.cat([torch.where(masked, from_mask, from_code), masked * keep], dim=1)

    def step(self, pred, x_t: Tensor, t, s, generator=None) -> Tensor:
        """One draw of x_s ~ p(x_s | x_t): an x_0 from the network's answer, then x_s from q(x_s | x_t, x_0).

        pred: Prediction(x0 [B K N] log-probabilities, up to a constant).  The same distribution as `posterior`'s, without its table.
        Lesson: notebooks/08_vq_diffusion.ipynb"""
        return self.back(self.guess(pred.x0, generator), x_t, t, s, generator)

    def guess(self, logits: Tensor, generator=None) -> Tensor:
        """One draw of x_0 [B N] from log-probabilities [B K N], by the inverse of their running sum."""
        total = logits.float().softmax(1).cumsum(1)                                   # [B K N], up to 1
        (u,) = self._uniform(1, total[:, 0], generator)
        return (total < (u * total[:, -1])[:, None]).sum(1).clamp(max=self.K - 1)

    def back(self, x0: Tensor, x_t: Tensor, t, s, generator=None) -> Tensor:
        """One draw of x_s ~ q(x_s | x_t, x_0).  x0, x_t: [B N].  Of a mask: it stays, shows x_0, or shows some code; of a code: it stays, is x_0, or
        is some code."""
        (_, _, g_t), (a_s, b_s, g_s), (a, b, _) = self.bars(t), self.bars(s), self.between(t, s)
        u, v, other = self._uniform(3, x0, generator)
        random = (other * self.K).long().clamp(max=self.K - 1)
        as_x0 = like(a_s / (1 - g_s), u)                                              # of what is not masked at s
        shown = torch.where(v < as_x0, x0, random)
        from_mask = torch.where(u < like(g_s / g_t.clamp(min=1e-300), u), self.K, shown)
        same = (x_t == x0).to(u)
        stays, turns, any_code = like(a * b_s, u) + like(a * a_s, u) * same, like(b * a_s, u), like(self.K * b * b_s, u)
        v = v * (stays + turns + any_code)
        cannot_be = stays + turns + any_code == 0                                     # nothing is replaced, and x_t is not x_0: it stays
        from_code = torch.where((v < stays) | cannot_be, x_t, torch.where(v < stays + turns, x0, random))
        return torch.where(x_t == self.K, from_mask, from_code)

    def _uniform(self, n: int, x: Tensor, generator) -> Tensor:
        """[n *x.shape] numbers in [0, 1), drawn on the CPU so that a seed means the same on every device."""
        return torch.rand((n, *x.shape), generator=generator).to(x.device)


def one_hot(x: Tensor, K: int) -> Tensor:
    """Where each code is: [B N] int64 -> [B K N] bool, in memory as probabilities are. (torch's own, turned around, makes all that follows slower.)"""
    return x[:, None] == torch.arange(K, device=x.device)[:, None]


def _rest(share: Tensor) -> Tensor:
    """What is left of 1, without what rounding leaves where nothing is."""
    return share.where(share > 1e-12, 0.0)
