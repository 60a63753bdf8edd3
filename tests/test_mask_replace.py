"""Mask-and-replace: tables, matrices and posteriors against brute force, draws against their tables, the bound against -log p."""
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from make_diffusers_fixtures import with_vq
from torch.testing import assert_close

from t2ilab.diffusion.cond import Cond, Prediction
from t2ilab.diffusion.mask_replace import MaskReplaceDiffusion, mask_replace_tables
from t2ilab.diffusion.token_denoiser import TokenDenoiser, TokenObjectiveConfig, bound_term
from t2ilab.tensors import generator

K = 3
SHARES = {"as trained": {}, "paper": dict(replaced=0.1, masked=0.9), "masking alone": dict(replaced=0.0, masked=1.0), "replacing alone": dict(replaced=1.0, masked=0.0)}


def diffusion(shares="paper", T=6, codebook_size=K):
    return MaskReplaceDiffusion(*mask_replace_tables(T, **SHARES[shares]), codebook_size)


def probabilities(n, seed=0, codebook_size=K):
    """[B K 1] float64 that add up to 1."""
    return torch.rand(n, codebook_size, 1, generator=generator(seed), dtype=torch.float64).log().softmax(1)


# ---------------------------------------------------------------------------------------------------------------------------- tables

def test_tables_are_those_of_the_published_models():
    alpha, gamma = mask_replace_tables(100)
    assert_close(gamma[[1, 2, 51, 99, 100]], torch.tensor([9e-6, .0101098, .5050499, .9898892, .99999], dtype=torch.float64), atol=1e-7, rtol=0)
    assert_close(1 - alpha[1:] - gamma[1:], torch.full((100,), 1e-6, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (alpha[0], gamma[0]) == (1, 0)
    one_step = [MaskReplaceDiffusion(alpha, gamma, 2887).between(t + 1, t) for t in (0, 1, 50, 98, 99)]
    assert_close(torch.stack([g for _, _, g in one_step]), torch.tensor([9e-6, .0101009, .0199996, .4997526, .9990110], dtype=torch.float64), atol=1e-7, rtol=0)
    assert_close(2887 * torch.stack([one_step[k][1] for k in (1, 2, 4)]), torch.tensor([1.01e-8, 3.96e-8, 9.88e-5], dtype=torch.float64), atol=0, rtol=5e-3)


def test_the_papers_tables_end_in_nine_masks_and_one_random_code_of_ten():
    alpha, gamma = mask_replace_tables(100, replaced=0.1, masked=0.9)
    assert_close(torch.stack([alpha[-1], gamma[-1]]), torch.tensor([0.0, 0.9], dtype=torch.float64), atol=1e-9, rtol=0)
    assert (alpha.diff() <= 0).all() and (gamma.diff() >= 0).all() and 1 - alpha[50] - gamma[50] < 0.06


@pytest.mark.parametrize("options", [dict(replaced=-0.1), dict(masked=1.1), dict(replaced=0.6, masked=0.6), dict(early=1.0)])
def test_shares_that_are_none_are_refused(options):
    with pytest.raises(ValueError, match="add up to 1"):
        mask_replace_tables(10, **options)


# ---------------------------------------------------------------------------------------------------------------------------- matrices

@pytest.mark.parametrize("shares", SHARES)
def test_a_product_of_steps_is_the_closed_form(shares):
    """VQ-Diffusion Eq. 4 and VQ-Diffusion mask-and-replace matrix: Q_t ... Q_1 written out equals what the tables say at once, for any two times."""
    d = diffusion(shares)
    for s, t in product(range(d.T), range(1, d.T + 1)):
        if s < t:
            Q = torch.linalg.multi_dot([d.transition_matrix(r, r - 1) for r in range(t, s, -1)]) if t - s > 1 else d.transition_matrix(t, s)
            assert_close(Q, d.transition_matrix(t, s), atol=1e-12, rtol=0)
    Q = d.transition_matrix(4, 0)
    assert_close(d.marginal(torch.arange(K)[None], 4)[0], Q[:, :K], atol=1e-12, rtol=0)
    assert_close(Q.sum(0), torch.ones(K + 1, dtype=torch.float64))


def test_between_two_whole_times_the_tables_are_straight():
    d = diffusion()
    (a, _, g), (a3, _, g3), (a4, _, g4) = d.cumulative(3.25), d.cumulative(3), d.cumulative(4)
    assert_close(torch.stack([a, g]), torch.stack([0.75 * a3 + 0.25 * a4, 0.75 * g3 + 0.25 * g4]))
    assert [float(v) for v in d.cumulative(d.T)] == [float(v) for v in d.cumulative(torch.tensor([d.T]))]


@pytest.mark.slow
@pytest.mark.parametrize("shares", SHARES)
def test_the_posterior_is_bayes_by_brute_force(shares):
    """VQ-Diffusion Eq. 5: for small K and T, every t, every s below it (halves too), every x_t and every x_0 that can lead there."""
    seen = 0
    for codes, T in product((2, 3, 4), (2, 3, 6)):
        d, halves = diffusion(shares, T, codes), [n / 2 for n in range(2 * T + 1)]
        for t, s in [(t, s) for t in halves for s in halves if s < t]:
            from_0, step = d.transition_matrix(s, 0) if s else torch.eye(codes + 1, dtype=torch.float64), d.transition_matrix(t, s)
            to_t = d.transition_matrix(t, 0)[:, :codes]
            x_t, x0 = (to_t > 0).nonzero().T                                                                  # every pair that there is
            bayes = step[x_t].T * from_0[:, x0] / to_t[x_t, x0]                                               # [codes + 1, pairs]
            ours = d.posterior(F.one_hot(x0, codes).T[None].double(), x_t[None], t, s)[0]
            assert_close(ours, bayes, atol=1e-12, rtol=1e-9)
            seen += len(x0)
    assert seen > 1500


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("t, s", [(6, 5), (6, 1), (3, 0), (2.5, 1.25)])
def test_the_posterior_of_a_guess_is_its_average_over_x0(shares, t, s):
    """VQ-Diffusion x0 reparameterisation: p(x_s | x_t) is the mean of q(x_s | x_t, x_0) over the network's guess of x_0; its rows add up to 1."""
    d = diffusion(shares)
    n = K + (shares != "replacing alone")                                                     # without masks there is no x_t = [MASK]
    p, x_t = probabilities(n), torch.arange(n)[:, None]
    one = [F.one_hot(torch.full((n, 1), k), K).movedim(-1, 1).double() for k in range(K)]
    mean = sum(p[:, k, None] * d.posterior(one[k], x_t, t, s) for k in range(K))
    assert_close(d.posterior(p, x_t, t, s), mean)
    assert_close(mean.sum(1), torch.ones(n, 1, dtype=torch.float64))


@pytest.mark.parametrize("shares", SHARES)
def test_rows_add_up_to_one_in_float32_at_full_size(shares):
    d = diffusion(shares, T=100, codebook_size=2887)
    p = torch.randn(1, 2887, 64, generator=generator(0)).mul(4).softmax(1)
    x_t = torch.randint(2887, (1, 64), generator=generator(1))
    x_t[:, :32] = 2887 if shares != "replacing alone" else x_t[:, :32]
    for t, s in [(1, 0), (2, 1), (51, 50), (99, 98), (100, 99), (100, 10)]:
        assert_close(d.posterior(p, x_t, t, s).sum(1), torch.ones(1, 64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shares", ["as trained", "paper", "replacing alone"])
def test_two_steps_are_one_long_step(shares):
    """Going from t to r and from r to s, x_0 being known, is going from t to s: what makes fast sampling exact."""
    d = diffusion(shares)
    for x0, x_t in product(range(K), range(K + 1)):
        if d.transition_matrix(6, 0)[x_t, x0] == 0:
            continue
        one = F.one_hot(torch.tensor([[x0]]), K).movedim(-1, 1).double()
        for r, s in [(3, 1), (5, 0), (2.5, 0.5)]:
            to_r = d.posterior(one, torch.tensor([[x_t]]), 6, r)[0, :, 0]
            two = sum(to_r[x_r] * d.posterior(one, torch.tensor([[x_r]]), r, s)[0, :, 0] for x_r in range(K + 1) if to_r[x_r] > 0)
            assert_close(two, d.posterior(one, torch.tensor([[x_t]]), 6, s)[0, :, 0], atol=1e-10, rtol=1e-7)


@pytest.mark.slow
def test_one_step_equals_diffusers_scheduler():
    """VQ-Diffusion Eq. 5 as diffusers computes it in logarithms (its time is ours minus 1; its step to 0 has a case of its own)."""
    theirs = with_vq().VQDiffusionScheduler(num_vec_classes=12)
    d = diffusion("as trained", T=100, codebook_size=11)
    x_t, log_p = torch.randint(12, (3, 20), generator=generator(0)), torch.randn(3, 11, 20, generator=generator(1)).log_softmax(1)
    for t in (2, 3, 50, 99, 100):
        assert_close(d.posterior(log_p.exp(), x_t, t, t - 1), theirs.q_posterior(log_p, x_t, torch.tensor(t - 1)).exp(), atol=2e-5, rtol=1e-3)
    assert_close(d.posterior(log_p.exp(), x_t, 1, 0)[:, :11], log_p.exp(), atol=2e-5, rtol=1e-3)             # of what is seen as well


# ---------------------------------------------------------------------------------------------------------------------------- draws

def close_to(counts, p):
    """Whether counts are draws from p, within 5 standard deviations."""
    n = counts.sum()
    return bool(((counts - n * p).abs() <= 5 * (n * p * (1 - p)).sqrt() + 1e-9).all())


@pytest.mark.parametrize("shares", SHARES)
def test_diffusing_draws_from_the_marginal(shares):
    d, x0 = diffusion(shares), torch.ones(1, 20_000, dtype=torch.int64)
    for t in (1, 3, 4.5, 6):
        counts = torch.bincount(d.diffuse(x0, t, generator(1))[0], minlength=K + 1).double()
        assert close_to(counts, d.marginal(x0[:, :1], t)[0, :, 0])


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("t, s", [(6, 3), (2, 0), (4.5, 4)])
def test_a_step_draws_from_the_posterior(shares, t, s):
    d = diffusion(shares)
    for x_t in range(K + 1):
        p = probabilities(1, seed=x_t)
        many = torch.full((1, 20_000), x_t)
        x_s = d.step(Prediction(p.log().expand(-1, -1, 20_000)), many, t, s, generator(x_t, 1))
        if x_t < K or shares != "replacing alone":
            assert close_to(torch.bincount(x_s[0], minlength=K + 1).double(), d.posterior(p, many[:, :1], t, s)[0, :, 0])


def test_draws_are_the_same_for_the_same_seed():
    d, p = diffusion(), Prediction(torch.randn(2, K, 50, generator=generator(0)))
    x = torch.full((2, 50), K)
    one, two, other = (d.step(p, x, 5, 2, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_distribution_draw_no_code(wrong):
    logits = torch.zeros(2, 6, 3)
    logits[1, :, 2] = wrong
    with pytest.raises(FloatingPointError, match="^the logits are NaN: are the model's weights damaged\\?$"):
        MaskReplaceDiffusion(*mask_replace_tables(10), K=6).sample_x0(logits, generator(0))


def test_where_nothing_is_masked_the_walk_starts_from_random_codes():
    assert diffusion("replacing alone").prior((1, 3000), generator=generator(0)).unique().tolist() == [0, 1, 2]
    assert diffusion().prior((1, 3000)).unique().tolist() == [K]


# ---------------------------------------------------------------------------------------------------------------------------- training

PAIRS = torch.tensor([[0, 1], [2, 2], [1, 0]])
SHARE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def ideal(d):
    """The exact p(x_0 | x_t) of each token by itself, for data whose tokens are independent: a denoiser without a network."""
    p = torch.stack([sum(share * F.one_hot(pair[n], K).double() for pair, share in zip(PAIRS, SHARE)) for n in range(2)], dim=1)       # [K N]

    def denoise(x_t, t, cond=None):
        B = len(x_t)
        likely = torch.stack([d.marginal(torch.full((B, 2), k), torch.as_tensor(t).expand(B)).gather(1, x_t[:, None])[:, 0] for k in range(K)], dim=1)
        joint = likely * p                                                                   # [B K N]
        return Prediction((joint / joint.sum(1, keepdim=True)).log())
    return denoise, p


@pytest.mark.slow
@pytest.mark.parametrize("shares", ["paper", "as trained"])
def test_the_bound_of_a_perfect_model_is_minus_log_p(shares):
    """VQ-Diffusion bound, every term, weighted by every x_t that can occur: for the exact posterior the bound is no bound but -log p(x_0) itself."""
    d = diffusion(shares, T=4)
    denoise, p = ideal(d)
    for x0 in product(range(K), repeat=2):
        x0 = torch.tensor([x0])
        terms = torch.zeros((), dtype=torch.float64)
        for t in range(1, d.T + 1):
            q = d.marginal(x0, t)[0]                                                          # [K+1 N]
            for x_t in product(range(K + 1), repeat=2):
                share = q[x_t[0], 0] * q[x_t[1], 1]
                if share > 0:
                    x = torch.tensor([x_t])
                    terms = terms + share * 2 * bound_term(d, x0, x, t, t - 1, denoise(x, t).x0)[0]
        end = d.marginal(x0, d.T)[0]                                                          # KL(q(x_T | x_0) || p(x_T)), p(x_T) the data's own
        prior = torch.stack([sum(p[k, n] * d.marginal(torch.full((1, 2), k), d.T)[0, :, n] for k in range(K)) for n in range(2)], dim=1)
        terms = terms + (end * (end / prior).log().nan_to_num(0)).sum()
        assert_close(terms, -(p[x0[0, 0], 0] * p[x0[0, 1], 1]).log(), atol=1e-6, rtol=1e-6)


class Guess(torch.nn.Module):
    """A network that always says the same."""

    def __init__(self, n=2):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.linspace(-1, 1, K * n).view(K, n))

    def forward(self, x, t, cond):
        self.clock = t
        return self.logits.expand(len(x), -1, -1)


def test_the_loss_is_a_term_of_the_bound_and_the_guess_of_x0():
    """VQ-Diffusion auxiliary loss: 5e-4 times -log p(x_0 | x_t), twice in the first step and nearly once in the last; all of it times T."""
    d = diffusion(T=10)
    x0, t = torch.tensor([[0, 1], [2, 0]]), torch.tensor([3, 10])
    model = TokenDenoiser(Guess(), d)
    x_t = d.diffuse(x0, t, generator(1))
    log_p = model(x_t, t).x0
    nll = -log_p.gather(1, x0[:, None])[:, 0].mean(1)
    assert_close(model.loss_at(x0, x_t, t, Cond()), 10 * bound_term(d, x0, x_t, t, t - 1, log_p) + 10 * 5e-4 * torch.tensor([1.8, 1.1]) * nll)
    plain = TokenDenoiser(Guess(), d, TokenObjectiveConfig(bound=0.0, auxiliary=0.1, adaptive=False))
    assert_close(plain.loss_at(x0, x_t, t, Cond()), nll)


def test_important_times_are_learned_in_training_only():
    d, x0 = diffusion(T=10), torch.randint(K, (8, 2), generator=generator(3))
    model = TokenDenoiser(Guess(), d)
    model.eval().loss(x0, generator=generator(1))
    assert model.importance.seen.sum() == 0
    seen = []
    for k in range(12):                                                          # enough to choose by; two validations in between are the same all the same
        model.importance.update(torch.arange(1, 11), 100.0 ** torch.arange(1, 11).remainder(2 + k % 2))
        seen.append(model.eval().loss(x0, generator=generator(1)))
        assert torch.equal(seen[-1], seen[0])
    model.importance.seen.zero_()
    model.train().loss(x0, generator=generator(1))
    model.importance.after_step(lambda v: v)
    assert model.importance.seen.sum() == 8


def test_an_uneven_choice_of_times_is_weighed_in_training():
    d, x0 = diffusion(T=10), torch.randint(K, (8, 2), generator=generator(3))
    model = TokenDenoiser(Guess(), d).train()
    for _ in range(10):
        model.importance.update(torch.arange(1, 11), torch.arange(1.0, 11.0))
    draw = generator(1)
    t, weight = model.importance.draw(10, 8, draw)
    x_t = d.diffuse(x0, t, draw)
    assert weight.std() > 0.1
    assert_close(model.loss(x0, generator=generator(1)), model.loss_at(x0, x_t, t, Cond()) * weight.float())


@pytest.mark.parametrize("wrong", [-1, K])
def test_codes_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=r"codes in 0\.\.2"):
        TokenDenoiser(Guess(), diffusion()).loss(torch.tensor([[0, wrong]]))
