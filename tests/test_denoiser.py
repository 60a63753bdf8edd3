"""What stands between a network and the sampler: conditions, predictions, guidance, constraints. Every answer here is known."""
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from toys import Says, Toy, pixels, wave

from t2ilab.diffusion.cond import Cond, Prediction
from t2ilab.diffusion.constraints import clip, dynamic_threshold
from t2ilab.diffusion.gaussian import variance_preserving
from t2ilab.diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from t2ilab.diffusion.guidance import constrained, guided
from t2ilab.diffusion.schedules import cosine, linear
from t2ilab.tensors import generator

LINEAR = variance_preserving(linear())
SHAPE = (2, 3, 4, 6)
LABELS = Cond(torch.tensor([[1], [2]]), torch.ones(2, 1, dtype=torch.bool))
CAPTIONS = Cond(wave(2, 5, 8, seed=7), torch.tensor([[True] * 5, [True, True, False, False, False]]), low_res=wave(*SHAPE, seed=8))


class Recorder(nn.Module):
    """A network that remembers what it was shown and answers with zeros."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, t, cond):
        self.calls.append((x, t, cond))
        return torch.zeros_like(x)


def eps_of(x_t, pred, t):
    a, s = LINEAR.scales(x_t, t)
    return (x_t - a * pred.x0) / s


# ------------------------------------------------------------------------------------------------------------------------------------ conditions
def test_no_caption_is_an_all_false_mask():
    null = CAPTIONS.null()
    assert not null.mask.any() and null.text is CAPTIONS.text and null.low_res is CAPTIONS.low_res
    assert CAPTIONS.mask.any() and Cond().null() == Cond()


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_captions_are_dropped_at_the_stated_rate_and_whole(p):
    n = 20_000
    cond = Cond(torch.zeros(n, 3, 1), torch.tensor([True, True, False]).expand(n, 3)).drop(p, generator(1))
    kept = cond.mask.any(1)
    assert abs((~kept).double().mean() - p) < 4 * (p * (1 - p) / n) ** 0.5
    assert torch.equal(cond.mask, kept[:, None] & torch.tensor([True, True, False]))
    assert torch.equal(cond.mask, Cond(cond.text, torch.ones(n, 3, dtype=torch.bool)).drop(p, generator(1)).mask & torch.tensor([True, True, False]))


def test_nothing_is_dropped_where_there_is_nothing_to_drop():
    assert CAPTIONS.drop(0.0) is CAPTIONS
    assert Cond(low_res=CAPTIONS.low_res).drop(0.9).low_res is CAPTIONS.low_res


def test_a_loss_drops_captions_of_its_batch():
    model = GaussianDenoiser(Recorder(), LINEAR, ObjectiveConfig(cond_drop_prob=0.25))
    n = 2000
    model.loss(torch.zeros(n, 1, 2, 2), Cond(torch.zeros(n, 1, dtype=torch.int64), torch.ones(n, 1, dtype=torch.bool)), generator(0))
    dropped = (~model.net.calls[0][2].mask).double().mean()
    assert abs(dropped - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5


def test_two_conditions_stand_beside_each_other():
    both = CAPTIONS.beside(CAPTIONS.null())
    assert_close(both.text, torch.cat([CAPTIONS.text, CAPTIONS.text]))
    assert torch.equal(both.mask[:2], CAPTIONS.mask) and not both.mask[2:].any()
    assert both.low_res.shape == (4, 3, 4, 6) and CAPTIONS.map(lambda v: v[:1]).mask.shape == (1, 5)
    assert Cond().beside(Cond()) == Cond()


# ----------------------------------------------------------------------------------------------------------------------------------- predictions
@pytest.mark.parametrize("predict", ["x0", "eps", "v"])
def test_a_right_answer_is_the_right_picture(predict):
    x0, eps, t = pixels(*SHAPE), wave(*SHAPE, seed=1), torch.tensor([40, 900])
    a, s = LINEAR.scales(x0, t)
    answer = {"x0": x0, "eps": eps, "v": a * eps - s * x0}[predict]
    model = GaussianDenoiser(Says(answer), LINEAR, ObjectiveConfig(predict=predict))
    pred = model(a * x0 + s * eps, t)
    assert_close(pred.x0, x0)
    assert pred.var is None
    assert_close(model.loss_at(x0, a * x0 + s * eps, t, Cond()), torch.zeros(2).double(), rtol=0, atol=1e-20)


def test_the_variance_is_small_large_or_the_second_half_of_the_answer():
    answer, x_t = wave(2, 6, 4, 6), wave(*SHAPE, seed=1)
    learned = GaussianDenoiser(Says(answer), LINEAR, ObjectiveConfig(predict="x0", variance="learned"))(x_t, 5)
    assert_close(learned, Prediction(answer[:, :3], (answer[:, 3:] + 1) / 2))
    assert torch.equal(GaussianDenoiser(Says(answer[:, :3]), LINEAR, ObjectiveConfig(variance="large"))(x_t, 5).var, torch.ones_like(x_t))


@pytest.mark.parametrize("T, clock", [(1000, [1.0, 1000.0]), (4000, [0.25, 1000.0]), (50, [20.0, 1000.0])])
def test_the_clock_of_the_network_runs_to_1000_whatever_T_is(T, clock):
    model = GaussianDenoiser(Recorder(), variance_preserving(cosine(T)))
    model(wave(*SHAPE), torch.tensor([1, T]))
    model(wave(*SHAPE), T)
    assert_close(model.net.calls[0][1], torch.tensor(clock))
    assert_close(model.net.calls[1][1], torch.tensor([1000.0, 1000.0]))


@pytest.mark.parametrize("x0, found", [(255 * torch.ones(SHAPE), "255.00"), (wave(*SHAPE) - 0.2, "-1.20"), (1.002 * torch.ones(SHAPE), "1.00")])
def test_pixels_out_of_range_are_refused(x0, found):
    with pytest.raises(ValueError, match=rf"{found}.*wants pixels in \[-1, 1\]"):
        GaussianDenoiser(Toy(), LINEAR).loss(x0)


@pytest.mark.parametrize("wrong, message", [
    (dict(predict="score"), "predict='score': choose one of eps, v, velocity, x0"), (dict(variance="huge"), "variance='huge'"), (dict(loss="l1"), "loss='l1'"),
    (dict(loss_weighting="snr"), "loss_weighting='snr'.*min_snr.*p2"), (dict(timestep_sampler="soon"), "timestep_sampler='soon'.*importance, late"), (dict(cond_drop_prob=1.0), "cond_drop_prob=1.0"),
    (dict(cond_drop_prob=-0.1), "cond_drop_prob=-0.1"), (dict(loss="hybrid"), "set variance='learned'")])
def test_an_objective_that_does_not_exist_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**wrong)


# -------------------------------------------------------------------------------------------------------------------------------------- guidance
@pytest.mark.parametrize("cond", [LABELS, CAPTIONS], ids=["labels", "captions"])
@pytest.mark.parametrize("t", [1, 500, 1000])
def test_guidance_on_x0_equals_guidance_on_eps(cond, t):
    """CFG Eq. 6, with w = guidance_scale - 1; the same as GLIDE guidance, eps_0 + s (eps_c - eps_0)."""
    model, x_t = GaussianDenoiser(Toy(), LINEAR), wave(*SHAPE)
    eps_c, eps_0 = eps_of(x_t, model(x_t, t, cond), t), eps_of(x_t, model(x_t, t, cond.null()), t)
    assert (eps_c - eps_0).abs().max() > 0.1
    for scale in (0.5, 3.0, 7.5):
        w = scale - 1
        assert_close(eps_of(x_t, guided(model, cond, scale)(x_t, t), t), (1 + w) * eps_c - w * eps_0)
        assert_close(eps_0 + scale * (eps_c - eps_0), (1 + w) * eps_c - w * eps_0)


@pytest.mark.parametrize("nearly", [0.0, 1e-9])
def test_scale_one_is_conditional_and_scale_zero_unconditional(nearly):
    """Exactly at 1 and 0 there is a shortcut; beside them there is not, and both agree."""
    model, x_t = GaussianDenoiser(Toy(), LINEAR), wave(*SHAPE)
    assert_close(guided(model, CAPTIONS, 1 + nearly)(x_t, 300).x0, model(x_t, 300, CAPTIONS).x0)
    assert_close(guided(model, CAPTIONS, 0 + nearly)(x_t, 300).x0, model(x_t, 300, CAPTIONS.null()).x0)


def test_guidance_costs_one_call_on_a_doubled_batch_and_none_extra_when_off():
    model, x_t = GaussianDenoiser(Recorder(), LINEAR), wave(*SHAPE)
    for scale in (1.0, 0.0, 4.0):
        guided(model, CAPTIONS, scale)(x_t, 300)
    assert [len(x) for x, _, _ in model.net.calls] == [2, 2, 4]
    x, _, cond = model.net.calls[-1]
    assert torch.equal(x[:2], x[2:]) and torch.equal(cond.mask[:2], CAPTIONS.mask) and not cond.mask[2:].any()


def test_the_variance_of_a_guided_prediction_is_the_conditional_one():
    model, x_t = GaussianDenoiser(Toy(6), LINEAR, ObjectiveConfig(variance="learned")), wave(*SHAPE)
    conditional, unconditional = model(x_t, 300, LABELS).var, model(x_t, 300, LABELS.null()).var
    assert (conditional - unconditional).abs().max() > 0.1
    assert_close(guided(model, LABELS, 5.0)(x_t, 300).var, conditional)


def test_a_model_without_captions_is_not_guided():
    model, x_t = GaussianDenoiser(Recorder(), LINEAR), wave(*SHAPE)
    guided(model, Cond(), 7.0)(x_t, 300)
    assert len(model.net.calls) == 1 and len(model.net.calls[0][0]) == 2


# ----------------------------------------------------------------------------------------------------------------------------------- constraints
def test_constraints_act_on_the_predicted_picture_in_order():
    def denoise(x_t, t):
        return Prediction(x_t * t, x_t)
    pred = constrained(denoise, lambda x0: x0 + 1, clip)(wave(*SHAPE), 3)
    assert_close(pred.x0, (3 * wave(*SHAPE) + 1).clamp(-1, 1))
    assert_close(pred.var, wave(*SHAPE))
    assert pred.x0.max() == 1 and pred.x0.min() == -1


def test_dynamic_thresholding_squeezes_each_picture_by_its_own_brightest_pixels():
    """Imagen dynamic thresholding."""
    x0 = torch.stack([3 * wave(3, 8, 8), 0.5 * wave(3, 8, 8, seed=1), 1.5 * wave(3, 8, 8, seed=2)])
    out = dynamic_threshold(0.9)(x0)
    for b in range(3):
        brightest = x0[b].abs().flatten().sort().values
        k = 0.9 * (len(brightest) - 1)                          # linear interpolation between the two neighbours in order
        s = max(1.0, (brightest[int(k)] * (1 - k % 1) + brightest[int(k) + 1] * (k % 1)).item())
        assert_close(out[b], x0[b].clamp(-s, s) / s, rtol=1e-6, atol=1e-6)
    assert torch.equal(out[1], x0[1]) and out[0].max() == 1
    assert dynamic_threshold()(x0.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("percentile", [0, -0.5, 1.01, 99.5])
def test_an_impossible_percentile_is_refused(percentile):
    with pytest.raises(ValueError, match="choose a number above 0, at most 1"):
        dynamic_threshold(percentile)
