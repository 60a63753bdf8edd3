"""Mask-and-replace diffusion of tokens: each stays, becomes a random code, or is masked for good.

VQ-Diffusion (Gu et al. 2022). Time is a real number from 0 (data) to T (all masks), so a sampling
run may take any number of steps, more than T as well. A state is one of K codes or [MASK], which is
K itself. Left out: everything about networks.
"""
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..tensors import Source, like, one_hot, rand
from .constraints import keep_codes


def mask_replace_tables(T: int = 100, *, replaced: float = 1e-6, masked: float = 0.99999,
                        early: float = 9e-6) -> tuple[Tensor, Tensor]:
    """alpha_bar (still the same), gamma_bar (masked), [T+1] float64 each, linear from t = 1 to T.

    replaced: share of tokens that are a random code at T.  1e-6 is what the published checkpoints
    were trained with, at every t: in effect masking alone.  0.1 with masked=0.9 is what the paper
    says.
    masked: share that is masked at T; 0 is replacing alone.
    early: share that is masked after one step.
    ValueError for shares that add up to more than 1, or T below 2.
    Lesson: notebooks/08_vq_diffusion.ipynb"""
    in_range = 0 <= replaced <= 1 and 0 <= masked <= 1 and 0 <= early < 1
    if not (in_range and replaced + masked <= 1):
        raise ValueError(f"replaced={replaced}, masked={masked}, early={early}: "
                         "choose shares that add up to 1 at most")
    if T < 2:
        raise ValueError(f"T={T}: choose 2 steps or more")
    line = torch.arange(T, dtype=torch.float64) / (T - 1)               # 0 at t = 1, 1 at T
    constant = replaced if replaced <= 1e-6 else 0.0                    # as trained: from t = 1 on
    first = early if masked else 0.0
    gamma_bar = first + line * (masked - first)
    replace = constant + line * (replaced - constant)
    alpha_bar = 1 - gamma_bar - replace
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero + 1, alpha_bar]), torch.cat([zero, gamma_bar])


class Shares(NamedTuple):
    """What becomes of a token between two times.  same + K * other + masked = 1."""
    same: Tensor                 # it is as it was (the same code by chance not counted)
    other: Tensor                # it is one particular code, by chance
    masked: Tensor               # it is [MASK]

    def like(self, x: Tensor) -> "Shares":
        """The same shares on x's device and dtype, shaped to broadcast against x [B ...]."""
        return Shares(*(like(share, x) for share in self))

    def leading_to(self, is_mask: Tensor) -> tuple[Tensor, Tensor]:
        """How likely a later token is after the same code, and after any other, [B 1 N] each.

        is_mask: [B 1 N] bool, where the later token is [MASK]: all codes lead there alike."""
        same, other, masked = self
        return torch.where(is_mask, masked, same + other), torch.where(is_mask, masked, other)


@dataclass(frozen=True)
class MaskReplaceDiffusion:
    """The forward process of a schedule and its exact reverse, given x_0.

    Tokens are [B N] int64, 0..K-1 or K for [MASK]."""
    alpha_bar: Tensor            # [T+1] float64: share of tokens that are as they were, from 1 down
    gamma_bar: Tensor            # [T+1] float64: share that is masked, from 0 up
    K: int                       # codebook size

    @property
    def T(self) -> int:
        """Number of noising steps."""
        return len(self.alpha_bar) - 1

    def times(self, n: int) -> list[float]:
        """n + 1 evenly spaced times from T down to 0.  ValueError for n below 1."""
        if n < 1:
            raise ValueError(f"steps={n}: choose 1 or more")
        return torch.linspace(self.T, 0, n + 1, dtype=torch.float64).tolist()

    def cumulative(self, t) -> Shares:
        """Shares(alpha_bar, beta_bar, gamma_bar) from 0 to t, float64.

        t: number or [B], 0..T; tables are interpolated linearly."""
        t = torch.as_tensor(t, dtype=torch.float64).cpu()
        low = t.floor().long().clamp(0, self.T - 1)
        alpha_bar = self.alpha_bar[low].lerp(self.alpha_bar[low + 1], t - low)
        gamma_bar = self.gamma_bar[low].lerp(self.gamma_bar[low + 1], t - low)
        return Shares(alpha_bar, _rest(1 - alpha_bar - gamma_bar) / self.K, gamma_bar)

    def between(self, t, s) -> Shares:
        """Shares from s to t, s < t, of a token that is a code at s; float64.

        t, s: number or [B], 0..T."""
        at_t, at_s = self.cumulative(t), self.cumulative(s)
        not_masked = (1 - at_t.masked) / (1 - at_s.masked)
        same = at_t.same / at_s.same
        return Shares(same, _rest(not_masked - same) / self.K, 1 - not_masked)

    def prior(self, shape, *, device="cpu", generator: Source = None) -> Tensor:
        """x_T: all masks, as in the published code; random codes where the schedule masks nothing.

        With masked=0.9 the forward chain ends in a tenth of random codes as well. Random codes
        carry no information about x_0, so starting from masks only gives the same distribution.
        A schedule that ends with alpha_bar[T] > 0 leaves a rest of the image there; what is sampled
        from here is then only close to what was learned."""
        if self.gamma_bar[-1] > 0:
            return torch.full(shape, self.K, device=device)
        return self._random_code(rand(shape, generator)).to(device)

    def diffuse(self, x0: Tensor, t, generator: Source = None) -> Tensor:
        """One draw of x_t ~ q(x_t | x_0).  x0: [B N].  t: number or [B].
        Lesson: notebooks/08_vq_diffusion.ipynb"""
        u, other = self._uniform(2, x0, generator)
        same, _, masked = self.cumulative(t).like(u)
        unmasked = torch.where(u < masked + same, x0, self._random_code(other))
        return torch.where(u < masked, self.K, unmasked)

    def marginal(self, x0: Tensor, t) -> Tensor:
        """q(x_t | x_0) as probabilities [B K+1 N] float64.  x0: [B N]."""
        same, other, masked = (share.view(-1, 1, 1) for share in self.cumulative(t))
        hit = one_hot(x0, self.K).double()                                      # [B K N]
        return torch.cat([same * hit + other, masked + 0 * hit[:, :1]], dim=1)  # VQ-Diffusion Eq. 4

    def transition_matrix(self, t, s) -> Tensor:
        """Q [K+1 K+1] float64 with Q[i, j] = q(x_t = i | x_s = j): `between` written out.

        For lessons and tests.  Lesson: notebooks/08_vq_diffusion.ipynb"""
        same, other, masked = self.between(t, s)
        K, eye = self.K, torch.eye(self.K, dtype=torch.float64)
        Q = torch.zeros(K + 1, K + 1, dtype=torch.float64)
        Q[:K, :K] = same * eye + other                      # VQ-Diffusion mask-and-replace matrix
        Q[K, :K] = masked
        Q[K, K] = 1                                         # a mask stays a mask
        return Q

    def posterior(self, x0: Tensor, x_t: Tensor, t, s) -> Tensor:
        """p(x_s | x_t) = sum over k of q(x_s | x_t, x_0 = k) p(x_0 = k), [B K+1 N] probabilities.

        x0: probabilities [B K N].  x_t: [B N].  t, s: number or [B], 0 <= s < t <= T.
        K multiplications per token, not K^2, because all codes but x_t itself are alike to it.
        Lesson: notebooks/08_vq_diffusion.ipynb"""
        at_t, at_s, step = self.cumulative(t), self.cumulative(s), self.between(t, s)
        masked_at_t = at_t.masked.clamp(min=1e-300)             # 1e-300: a schedule without masks
        stays_masked = like(at_s.masked / masked_at_t, x0)
        at_t, at_s, step = (shares.like(x0) for shares in (at_t, at_s, step))

        is_mask = (x_t == self.K)[:, None]                      # [B 1 N]
        here = x_t[:, None].clamp(max=self.K - 1)               # [B 1 N]; of [MASK] any code
        p_here = x0.gather(1, here)                             # [B 1 N]: p(x_0 = x_t)
        p_else = x0.scatter(1, here, 0.0)                       # [B K N]: p(x_0 = k), k not x_t
        p_any_else = p_else.sum(1, keepdim=True)                # [B 1 N]
        q_here, q_else = at_t.leading_to(is_mask)               # q(x_t | x_0 = k)
        come_here, come_else = step.leading_to(is_mask)         # q(x_t | x_s = k)

        w_here, w_else = _inverse(q_here), _inverse(q_else)
        from_any = at_s.other * (w_here * p_here + w_else * p_any_else)
        s_here = come_here * (at_s.same * w_here * p_here + from_any)       # VQ-Diffusion Eq. 5
        s_else = come_else * at_s.same * w_else * p_else + come_else * from_any
        # An x_0 that cannot have led here (nothing is replaced): x_t stays.
        lost = p_here * (q_here == 0) + p_any_else * (q_else == 0)
        codes = s_else.scatter(1, here, s_here + lost)          # [B K N]
        return torch.cat([codes, is_mask * stays_masked], dim=1)

    def step(self, pred, x_t: Tensor, t, s, generator: Source = None) -> Tensor:
        """One draw of x_s ~ p(x_s | x_t): x_0 from the prediction, then x_s ~ q(x_s | x_t, x_0).

        pred: Prediction(x0 [B K N] log-probabilities, up to a constant).
        The same distribution as `posterior`'s, without its table.
        Lesson: notebooks/08_vq_diffusion.ipynb"""
        return self.sample_posterior(self.sample_x0(pred.x0, generator), x_t, t, s, generator)

    def sample_x0(self, logits: Tensor, generator: Source = None) -> Tensor:
        """One draw of x_0 [B N] from log-probabilities [B K N].

        By the inverse of their running sum.  A code of probability 0 never comes."""
        total = logits.float().softmax(1).cumsum(1)                             # [B K N], up to 1
        (u,) = self._uniform(1, total[:, 0], generator)
        reached = u * total[:, -1]                                              # [B N]
        return (total <= reached[:, None]).sum(1).clamp(max=self.K - 1)

    def sample_posterior(self, x0: Tensor, x_t: Tensor, t, s, generator: Source = None) -> Tensor:
        """One draw of x_s ~ q(x_s | x_t, x_0).  x0, x_t: [B N].

        A mask stays, shows x_0, or shows some code; a code stays, is x_0, or is some code."""
        u, v, other = self._uniform(3, x0, generator)
        random = self._random_code(other)
        at_t, at_s, step = self.cumulative(t), self.cumulative(s), self.between(t, s)

        stays_masked = like(at_s.masked / at_t.masked.clamp(min=1e-300), u)
        is_x0 = like(at_s.same / (1 - at_s.masked), u)          # of what is not masked at s
        unmasked = torch.where(v < is_x0, x0, random)
        from_mask = torch.where(u < stays_masked, self.K, unmasked)

        stays = like(step.same * at_s.other, u) + like(step.same * at_s.same, u) * (x_t == x0)
        turns_x0 = like(step.other * at_s.same, u)
        turns_any = like(self.K * step.other * at_s.other, u)
        total = stays + turns_x0 + turns_any
        v = v * total
        stays_put = (v < stays) | (total == 0)      # 0: nothing is replaced, and x_t is not x_0
        turned = torch.where(v < stays + turns_x0, x0, random)
        from_code = torch.where(stays_put, x_t, turned)
        return torch.where(x_t == self.K, from_mask, from_code)

    def keep(self, x0: Tensor, known: Tensor):
        """Inpainting: the constraint that puts known codes back.

        x0: [B N].  known: [B 1 h w] bool with h w = N, True = keep."""
        return keep_codes(x0, known.flatten(1))

    def _random_code(self, u: Tensor) -> Tensor:
        return (u * self.K).long().clamp(max=self.K - 1)

    def _uniform(self, n: int, x: Tensor, generator: Source) -> list[Tensor]:
        """n tensors of x's shape in [0, 1), drawn on the CPU, the same on every device."""
        return [rand(x.shape, generator, device=x.device) for _ in range(n)]


def _rest(share: Tensor) -> Tensor:
    """max(share, 0), with values below 1e-12 set to 0 (float rounding)."""
    return share.where(share > 1e-12, 0.0)


def _inverse(q: Tensor) -> Tensor:
    """1 / q, and 0 for 0."""
    return torch.where(q > 0, 1 / q.clamp(min=torch.finfo(q.dtype).tiny), 0.0)
