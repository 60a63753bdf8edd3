"""Mask-and-replace diffusion over a grid of tokens: a token stays, becomes another at random,
or is masked, and a mask stays a mask.

VQ-Diffusion (Gu et al. 2022). Time is a real number from 0 (data) to T (all masks), so a sampling run may
take any number of steps, more than T as well. A state is one of K codes or [MASK], which is K itself. Left
out: everything about networks.
"""
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..tensors import Source, like, one_hot, rand
from .constraints import keep_codes


def mask_replace_tables(T: int = 100, *, replaced: float = 1e-6, masked: float = 0.99999,
                        early: float = 9e-6) -> tuple[Tensor, Tensor]:
    """alpha_bar (still the same) and gamma_bar (masked), [T+1] float64 each,
    both straight lines from t = 1 to T.

    replaced: share of tokens that are a random code at T.  1e-6 is what the published checkpoints were
    trained with, at every t: in effect masking alone.  0.1 with masked=0.9 is what the paper says; masked=0
    is replacing alone.  early: share that is masked after one step. ValueError for shares that add up to more
    than 1, or T below 2.  Lesson: notebooks/08_vq_diffusion.ipynb"""
    if not (0 <= replaced <= 1 and 0 <= masked <= 1 and 0 <= early < 1 and replaced + masked <= 1):
        raise ValueError(f"replaced={replaced}, masked={masked}, early={early}: choose shares that add up to "
                         "1 at most")
    if T < 2:
        raise ValueError(f"T={T}: choose 2 steps or more")
    line = torch.arange(T, dtype=torch.float64) / (T - 1)                            # 0 at t = 1, 1 at T
    constant = replaced if replaced <= 1e-6 else 0.0  # as trained: there from the first step on
    first = early if masked else 0.0
    gamma_bar = first + line * (masked - first)
    replace = constant + line * (replaced - constant)
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero + 1, 1 - gamma_bar - replace]), torch.cat([zero, gamma_bar])


class Shares(NamedTuple):
    """What becomes of a token between two times.  same + K * other + masked = 1."""
    same: Tensor                 # it is as it was (a random code that happens to be the same not counted)
    other: Tensor                # it is one particular code, by chance
    masked: Tensor               # it is [MASK]

    def like(self, x: Tensor) -> "Shares":
        """The same shares on x's device and dtype, shaped to broadcast against x [B ...]."""
        return Shares(*(like(share, x) for share in self))


@dataclass(frozen=True)
class MaskReplaceDiffusion:
    """The forward process of a schedule and its exact reverse, given x_0.  Tokens are [B N] int64,
    0..K-1 or K for [MASK]."""
    alpha_bar: Tensor            # [T+1] float64: share of tokens that are as they were, from 1 down
    gamma_bar: Tensor            # [T+1] float64: share that is masked, from 0 up
    K: int                       # codebook size

    @property
    def T(self) -> int:
        """Number of noising steps."""
        return len(self.alpha_bar) - 1

    def times(self, n: int) -> list[float]:
        """n+1 evenly spaced times from T down to 0.  ValueError for n below 1."""
        if n < 1:
            raise ValueError(f"steps={n}: choose 1 or more")
        return torch.linspace(self.T, 0, n + 1, dtype=torch.float64).tolist()

    def cumulative(self, t) -> Shares:
        """Shares(alpha_bar, beta_bar, gamma_bar) from 0 to t, float64.  t: number or [B], 0..T; tables are
        joined by straight lines."""
        t = torch.as_tensor(t, dtype=torch.float64).cpu()
        low = t.floor().long().clamp(0, self.T - 1)
        alpha_bar, gamma_bar = (table[low].lerp(table[low + 1], t - low)
                                for table in (self.alpha_bar, self.gamma_bar))
        return Shares(alpha_bar, _rest(1 - alpha_bar - gamma_bar) / self.K, gamma_bar)

    def between(self, t, s) -> Shares:
        """The same for the way from s to t, s < t, of a token that is a code at s."""
        at_t, at_s = self.cumulative(t), self.cumulative(s)
        not_masked = (1 - at_t.masked) / (1 - at_s.masked)
        same = at_t.same / at_s.same
        return Shares(same, _rest(not_masked - same) / self.K, 1 - not_masked)

    def prior(self, shape, *, device="cpu", generator: Source = None) -> Tensor:
        """x_T to begin with: nothing but masks, as in the published code;
        random codes where the schedule masks nothing.

        With masked=0.9 the forward chain ends in a tenth of random codes as well. Random codes carry no
        information about x_0, so starting from masks only gives the same distribution. A schedule that ends
        with alpha_bar[T] > 0 leaves a rest of the image there;
        what is sampled from here is then only close to what was learned."""
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
        hit = one_hot(x0, self.K).double()                                            # [B K N]
        return torch.cat([same * hit + other, masked + 0 * hit[:, :1]], dim=1)        # VQ-Diffusion Eq. 4

    def transition_matrix(self, t, s) -> Tensor:
        """Q [K+1 K+1] float64 with Q[i, j] = q(x_t = i | x_s = j): what `between` says,
        written out.  For lessons and tests.
        Lesson: notebooks/08_vq_diffusion.ipynb"""
        same, other, masked = self.between(t, s)
        K, Q = self.K, torch.zeros(self.K + 1, self.K + 1, dtype=torch.float64)
        Q[:K, :K] = same * torch.eye(K, dtype=torch.float64) + other  # VQ-Diffusion mask-and-replace matrix
        Q[K, :K] = masked
        Q[K, K] = 1                                                                   # a mask stays a mask
        return Q

    def posterior(self, x0: Tensor, x_t: Tensor, t, s) -> Tensor:
        """p(x_s | x_t) = sum over k of q(x_s | x_t, x_0 = k) p(x_0 = k), as probabilities [B K+1 N].

        x0: probabilities [B K N].  x_t: [B N].  t, s: number or [B], 0 <= s < t <= T.  K multiplications per
        token, not K^2, because every row of Q but one entry is constant.  Lesson:
        notebooks/08_vq_diffusion.ipynb"""
        at_t, at_s, step = self.cumulative(t), self.cumulative(s), self.between(t, s)    # float64
        # 1e-300: a schedule without masks
        stays_masked = like(at_s.masked / at_t.masked.clamp(min=1e-300), x0)
        unmasked = like(step.masked / at_t.masked.clamp(min=1e-300), x0)
        at_t, at_s, step = (shares.like(x0) for shares in (at_t, at_s, step))

        is_mask = (x_t == self.K)[:, None]                                            # [B 1 N]
        hit = one_hot(x_t, self.K).to(x0)  # [B K N], nothing where masked
        q_x_t = at_t.same * hit + at_t.other                                          # q(x_t | x_0 = k)
        w = torch.where(q_x_t > 0, x0 / q_x_t.clamp(min=torch.finfo(x0.dtype).tiny), 0.0)
        # an x_0 that cannot have led here (nothing is replaced): x_t stays
        lost = (x0 * (q_x_t == 0)).sum(1, keepdim=True)

        come_here = step.same * hit + step.other                                      # q(x_t | x_s = k)
        from_code = at_s.same * w + at_s.other * w.sum(1, keepdim=True)
        from_code = come_here * from_code + hit * lost                                # VQ-Diffusion Eq. 5
        from_mask = unmasked * (at_s.same * x0 + at_s.other * x0.sum(1, keepdim=True))
        return torch.cat([torch.where(is_mask, from_mask, from_code), is_mask * stays_masked], dim=1)

    def step(self, pred, x_t: Tensor, t, s, generator: Source = None) -> Tensor:
        """One draw of x_s ~ p(x_s | x_t): an x_0 from the network's answer, then x_s from q(x_s | x_t, x_0).

        pred: Prediction(x0 [B K N] log-probabilities, up to a constant).  The same distribution as
        `posterior`'s, without its table.
        Lesson: notebooks/08_vq_diffusion.ipynb"""
        return self.sample_posterior(self.sample_x0(pred.x0, generator), x_t, t, s, generator)

    def sample_x0(self, logits: Tensor, generator: Source = None) -> Tensor:
        """One draw of x_0 [B N] from log-probabilities [B K N], by the inverse of their running sum.  A code
        of probability 0 never comes."""
        total = logits.float().softmax(1).cumsum(1)                                   # [B K N], up to 1
        (u,) = self._uniform(1, total[:, 0], generator)
        return (total <= (u * total[:, -1])[:, None]).sum(1).clamp(max=self.K - 1)

    def sample_posterior(self, x0: Tensor, x_t: Tensor, t, s, generator: Source = None) -> Tensor:
        """One draw of x_s ~ q(x_s | x_t, x_0).  x0, x_t: [B N].

        A mask stays, shows x_0, or shows some code; a code stays, is x_0, or is some code."""
        u, v, other = self._uniform(3, x0, generator)
        random = self._random_code(other)
        at_t, at_s, step = self.cumulative(t), self.cumulative(s), self.between(t, s)

        stays_masked = like(at_s.masked / at_t.masked.clamp(min=1e-300), u)
        is_x0 = like(at_s.same / (1 - at_s.masked), u)  # of what is not masked at s
        from_mask = torch.where(u < stays_masked, self.K, torch.where(v < is_x0, x0, random))

        stays = like(step.same * at_s.other, u) + like(step.same * at_s.same, u) * (x_t == x0)
        turns_x0 = like(step.other * at_s.same, u)
        turns_any = like(self.K * step.other * at_s.other, u)
        v = v * (stays + turns_x0 + turns_any)
        impossible = stays + turns_x0 + turns_any == 0  # nothing is replaced, and x_t is not x_0: it stays
        from_code = torch.where((v < stays) | impossible, x_t, torch.where(v < stays + turns_x0, x0, random))
        return torch.where(x_t == self.K, from_mask, from_code)

    def keep(self, x0: Tensor, known: Tensor):
        """The constraint that puts known codes back.  x0: [B N].  known: [B 1 h w] bool with h w = N,
        True = keep."""
        return keep_codes(x0, known.flatten(1))

    def _random_code(self, u: Tensor) -> Tensor:
        return (u * self.K).long().clamp(max=self.K - 1)

    def _uniform(self, n: int, x: Tensor, generator: Source) -> list[Tensor]:
        """n tensors of x's shape with numbers in [0, 1), drawn on the CPU so that a seed means the same on
        every device."""
        return [rand(x.shape, generator, device=x.device) for _ in range(n)]


def _rest(share: Tensor) -> Tensor:
    """max(share, 0), with values below 1e-12 set to 0 (float rounding)."""
    return share.where(share > 1e-12, 0.0)
