"""Ways from masks to codes against arithmetic: how many tokens appear in a step, which ones, and what truncation leaves."""
import math
from itertools import pairwise

import pytest
import torch
from test_mask_replace import Guess, K, close_to, diffusion, ideal

from t2ilab.diffusion.cond import Prediction
from t2ilab.diffusion.constraints import keep_codes, top_k, top_r
from t2ilab.diffusion.sampling import sample, trajectory
from t2ilab.diffusion.token_denoiser import TokenDenoiser
from t2ilab.diffusion.unmasking import TOKEN_SAMPLERS, legacy_fast, scheduled_unmasking
from t2ilab.tensors import generator


def test_tokens_appear_as_evenly_as_the_schedule_says():
    """10.34 of 1,024 tokens in the first step of 100, k times as many with k times fewer steps."""
    d = diffusion("as trained", T=100)
    for n in (100, 50, 10):
        left = [1024 * float(d.cumulative(t)[2]) for t in d.times(n)]
        placed = [a - b for a, b in pairwise(left)]
        assert abs(sum(placed) - 0.99999 * 1024) < 1e-6 and max(placed[1:-1]) - min(placed[1:-1]) < 1e-6
        assert placed[1] == pytest.approx(10.343 * 100 / n, abs=0.01)


def drawn_a_step(sampler, n, tokens=1024, codebook_size=4):
    """How many tokens a sampling run shows in each step, on average over a few pictures."""
    d = diffusion("as trained", T=100, codebook_size=codebook_size)
    frames = trajectory(lambda x, t: Prediction(torch.zeros(len(x), codebook_size, tokens)), d, d.prior((16, tokens)), d.times(n), sampler=sampler, generator=generator(0))
    left = [tokens, *[(frame.x == codebook_size).sum(1).double().mean().item() for frame in frames]]
    return [a - b for a, b in pairwise(left)]


def test_the_originals_fast_sampling_guesses_most_tokens_at_once_and_ours_does_not():
    theirs, ours = drawn_a_step(legacy_fast, 10), drawn_a_step(None, 10)
    assert max(ours) < 125 and sum(ours) == 1024
    assert theirs[-1] > 600 and theirs[-1] == max(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ancestral", "even", "purity"])
@pytest.mark.parametrize("n", [100, 50, 10])
def test_fast_sampling_decides_so_many_times_as_many_tokens_a_step(sampler, n):
    """10.34 of 1,024 a step, k times as many with k times fewer steps: counted while a sampler runs, within 5 standard deviations of 16 pictures."""
    shown_so = drawn_a_step(TOKEN_SAMPLERS[sampler](0.0), n)
    expected = 10.343 * 100 / n
    assert max(abs(found - expected) for found in shown_so[:-1]) < 5 * (expected / 16) ** 0.5              # nothing is masked at t = 1: less is left for the last


@pytest.mark.slow
@pytest.mark.parametrize("by", ["random", "confidence"])
@pytest.mark.parametrize("n", [1, 7, 100, 250])
@pytest.mark.parametrize("T, tokens", [(100, 1), (100, 100), (100, 1024), (25, 64), (7, 9)])
@pytest.mark.parametrize("shares", ["as trained", "paper"])
def test_a_fixed_number_of_masks_is_shown_a_step_and_none_is_left(by, n, T, tokens, shares):
    """Improved VQ-Diffusion high-quality inference: also with more steps than T, with more steps than tokens, and where the schedule masks nine of ten at last."""
    d = diffusion(shares, T=T, codebook_size=4)
    x, seen = d.prior((2, tokens)), []
    for frame in trajectory(lambda x, t: Prediction(torch.randn(2, 4, tokens, generator=generator(int(t * 10)))), d, x, d.times(n),
                            sampler=scheduled_unmasking(by=by), generator=generator(0)):
        was_shown = x != 4
        assert torch.equal(frame.x[was_shown], x[was_shown])                                 # what is shown stays
        x = frame.x
        assert ((x == 4).sum(1) == round(float(d.cumulative(frame.t)[2] / d.cumulative(T)[2]) * tokens)).all()
        seen.append(frame.t)
    assert (x < 4).all() and len(seen) == n


def test_purity_shows_sure_tokens_first_and_sharpens_them():
    """Improved VQ-Diffusion purity prior: positions by how likely their likeliest code is, codes from p^(1 + r purity)."""
    d, tokens = diffusion("as trained", T=100, codebook_size=4), 2000
    sure = torch.arange(tokens) < tokens // 2
    log_p = torch.where(sure, torch.tensor([0.97, 0.01, 0.01, 0.01])[:, None], torch.full((4, 1), 0.25)).log()[None]
    x_s = scheduled_unmasking(by="confidence")(d)(Prediction(log_p), d.prior((1, tokens)), 100, 90, generator(0))[0]
    assert (x_s[sure] < 4).sum() > 3 * (x_s[~sure] < 4).sum() > 0
    flat = torch.tensor([0.6, 0.4, 0.0, 0.0]).clamp(min=1e-9).log()[None, :, None].expand(1, 4, tokens)
    firsts = [(scheduled_unmasking(by="confidence", weight=weight)(d)(Prediction(flat), d.prior((1, tokens)), 100, 0, generator(1)) == 0).double().mean().item() for weight in (0.0, 5.0)]
    sharp = 0.6 ** 4 / (0.6 ** 4 + 0.4 ** 4)                                                 # 1 + 5 * 0.6 = 4
    assert firsts[0] == pytest.approx(0.6, abs=0.06) and firsts[1] == pytest.approx(sharp, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ancestral", "even", "purity"])
@pytest.mark.parametrize("n", [1, 3, 20, 137, 1500])
def test_any_number_of_steps_ends_in_codes(sampler, n):
    """Speeds between 1 and 2 and below 0.1 are numbers of steps like others."""
    d = diffusion("as trained", T=100)
    steps = []

    def denoise(x, t):
        steps.append(t)
        return Prediction(torch.zeros(len(x), K, 16))
    x = sample(denoise, d, (2, 16), d.times(n), sampler=TOKEN_SAMPLERS[sampler](1.0), generator=generator(0))
    assert len(steps) == n and x.min() >= 0 and x.max() < K


def test_the_network_is_asked_for_whole_times():
    net = Guess(16)
    model = TokenDenoiser(net, diffusion("as trained", T=100))
    sample(lambda x, t: model(x, t), model.diffusion, (2, 16), [100, 99.5, 0.25, 0], generator=generator(0))
    assert net.clock.tolist() == [1, 1] and net.clock.dtype == torch.int64


@pytest.mark.slow
def test_a_perfect_model_draws_the_data_whatever_the_number_of_steps():
    """Tokens that are independent come out in their own shares, from a schedule that replaces as well as masks."""
    d = diffusion("paper", T=20)
    denoise, p = ideal(d)
    for n in (1, 4, 20, 33):
        x = sample(lambda x, t: denoise(x, t), d, (6000, 2), d.times(n), generator=generator(n))
        for position in range(2):
            assert close_to(torch.bincount(x[:, position], minlength=K).double(), p[:, position])


# ---------------------------------------------------------------------------------------------------------------------------- constraints

def test_truncation_keeps_the_likeliest_codes_until_they_reach_r():
    """VQ-Diffusion truncation: a code stays if those likelier than it are worth less than r; the likeliest always stays."""
    p = torch.tensor([[0.1, 0.5, 0.15, 0.25]])[:, :, None]
    kept = {r: [k for k in range(4) if top_r(r)(p.log())[0, k, 0] > -math.inf] for r in (0.01, 0.5, 0.51, 0.75, 0.8, 0.95)}
    assert kept == {0.01: [1], 0.5: [1], 0.51: [1, 3], 0.75: [1, 3], 0.8: [1, 2, 3], 0.95: [0, 1, 2, 3]}
    assert torch.equal(top_r(1.0)(p.log()), p.log()) and torch.equal(top_r(0.8)(p.log())[0, 1], p.log()[0, 1])
    with pytest.raises(ValueError, match="truncation=0"):
        top_r(0)


def test_top_k_keeps_k_codes():
    p = torch.tensor([[0.1, 0.5, 0.15, 0.25]])[:, :, None].log()
    assert [(top_k(k)(p) > -math.inf).sum().item() for k in (1, 2, 4, 9)] == [1, 2, 4, 4] and top_k(1)(p)[0, 1] > -math.inf
    with pytest.raises(ValueError, match="top_k=0"):
        top_k(0)


def test_known_codes_are_what_they_are():
    codes, known = torch.tensor([[2, 0, 1]]), torch.tensor([[True, False, True]])
    logits = torch.randn(1, K, 3, generator=generator(0))
    kept = keep_codes(codes, known)(logits)
    assert kept.softmax(1)[0, [2, 1], [0, 2]].tolist() == [1, 1] and torch.equal(kept[0, :, 1], logits[0, :, 1])
