"""Which noise level training picks: evenly, late or by importance, and what it remembers of the losses it saw."""
import torch
from torch.testing import assert_close
from toys import Says, alone, doubles, pixels, wave

from t2ilab.diffusion.cond import Cond
from t2ilab.diffusion.gaussian import variance_preserving
from t2ilab.diffusion.gaussian_denoiser import GaussianDenoiser, ObjectiveConfig
from t2ilab.diffusion.schedules import linear
from t2ilab.diffusion.timestep_samplers import ImportanceTimes, late_times, middle_times, uniform_times
from t2ilab.tensors import generator

SHAPE = (5, 3, 4, 6)


def denoiser(answer, diffusion, **config):
    return GaussianDenoiser(Says(answer), diffusion, ObjectiveConfig(**config))


def test_uniform_times_reach_both_ends():
    t, weight = uniform_times(20, 20_000, generator(0))
    counts = torch.bincount(t, minlength=22)
    assert counts[0] == counts[21] == 0 and (weight == 1).all()
    assert (counts[1:21] - 1000).abs().max() < 5 * 1000 ** 0.5


def warmed(T=5, rounds=13):
    times = ImportanceTimes(T)
    for k in range(rounds):
        times.update(torch.arange(1, T + 1), torch.tensor([(1 + k % 4) * (1 + j) ** 0.5 + 0.1 * k * j for j in range(T)]))
    return times


def test_importance_is_the_root_of_the_mean_squared_loss():
    """iDDPM importance sampling, from the last 10 losses; the numbers below are what its own code gives for the same float32 losses."""
    theirs = [0.09173430126364283, 0.1522585632867289, 0.2046851617178679, 0.25289815126825793, 0.29842382246350235]
    assert_close(warmed().probabilities(), doubles(*theirs))


def test_times_are_even_until_each_was_seen_ten_times():
    times = warmed(rounds=9)
    assert_close(times.probabilities(), doubles(*[0.2] * 5))
    times.update(torch.tensor([1, 2, 3, 4, 4, 4, 4]), torch.ones(7))
    assert_close(times.probabilities(), doubles(*[0.2] * 5))
    times.update(torch.tensor([5]), torch.ones(1))
    assert times.probabilities().std() > 0.01


def test_an_uneven_choice_of_t_leaves_the_expected_loss_as_it_was():
    times, loss = warmed(), doubles(3, -1, 4, 1, 5)
    t, weight = times.draw(5, 50_000, generator(3))
    p = times.probabilities()
    assert_close(weight, 1 / (5 * p[t - 1]))
    assert (torch.bincount(t - 1, minlength=5) / 50_000 - p).abs().max() < 0.01
    weighted = weight * loss[t - 1]
    assert abs(weighted.mean() - loss.mean()) < 5 * weighted.std() / 50_000 ** 0.5
    assert abs(loss[t - 1].mean() - loss.mean()) > 0.2                                          # without the weights it would be another loss


def test_a_checkpoint_carries_the_seen_losses():
    old = denoiser(wave(5, 3, 4, 6), variance_preserving(linear(25)), timestep_sampler="importance")
    for k in range(12):
        old.importance.update(torch.arange(1, 26), wave(25, seed=k) + 2)
    new = denoiser(wave(5, 3, 4, 6), variance_preserving(linear(25)), timestep_sampler="importance")
    new.load_state_dict(old.state_dict(), strict=True)
    assert_close(new.importance.probabilities(), old.importance.probabilities())
    assert new.importance.probabilities().std() > 0.001
    old.importance.update(torch.tensor([3]), torch.tensor([50.0]))
    new.importance.update(torch.tensor([3]), torch.tensor([50.0]))
    assert_close(new.importance.probabilities(), old.importance.probabilities())


def test_training_remembers_its_losses_and_evaluation_does_not():
    model = denoiser(wave(*SHAPE), variance_preserving(linear(25)), timestep_sampler="importance")
    model.eval().loss(pixels(*SHAPE), generator=generator(0))
    assert model.importance.seen.sum() == 0
    for round in range(12):
        model.importance.update(torch.arange(1, 26), torch.arange(1.0, 26.0))
    t, weight = model.eval().times(20_000, generator(1))
    assert abs(torch.bincount(t, minlength=26)[1:] / 800 - 1).max() < 0.15 and bool((weight == 1).all())          # evenly, whatever was learned
    model.train()
    t, weight = model.importance.draw(25, 5, generator(0))
    draw = generator(0)
    model.importance.draw(25, 5, draw)
    plain = model.loss_at(pixels(*SHAPE), model.diffusion.diffuse(pixels(*SHAPE), t, draw), t, Cond())
    assert_close(model.loss(pixels(*SHAPE), generator=generator(0)), plain * weight)
    assert model.importance.seen.sum() == 12 * 25                                               # later shards of the step choose alike
    model.importance.after_step(alone)
    assert model.importance.seen.sum() == 12 * 25 + 5 and plain[0].float().item() in model.importance.history[t[0] - 1].tolist()


def test_a_history_remembers_one_loss_after_the_other_however_often_a_time_comes():
    times, history, seen = ImportanceTimes(3), torch.zeros(3, 10), [0, 0, 0]
    for k, batch in enumerate((40, 1, 7, 33)):
        t, loss = torch.randint(1, 4, (batch,), generator=generator(k)), torch.rand(batch, generator=generator(k, 1))
        times.update(t, loss)
        for i, value in zip((t - 1).tolist(), loss):                            # as one would by hand
            history[i, seen[i] % 10] = value
            seen[i] += 1
    assert torch.equal(times.history, history) and times.seen.tolist() == seen and min(seen) >= 20


def test_a_step_is_remembered_once_with_the_losses_of_all_its_shards_in_order():
    one, two = ImportanceTimes(2), ImportanceTimes(2)
    t, loss = torch.tensor([1, 2, 1, 1]), torch.tensor([3.0, 1.0, 4.0, 5.0])
    one.note(t, loss)
    for part in (slice(0, 2), slice(2, 4)):
        two.note(t[part], loss[part])
    assert two.seen.sum() == 0
    for times in (one, two):
        times.after_step(alone)
        times.after_step(alone)                                           # a step without a loss changes nothing
    assert torch.equal(one.history, two.history) and two.history[0, :4].tolist() == [3, 4, 5, 0] and two.seen.tolist() == [3, 1]


def test_the_history_is_float32_because_some_gpus_have_no_other_and_checkpoints_from_before_still_load():
    old, new = warmed(), ImportanceTimes(5)
    before = {"history": old.history.double(), "seen": old.seen}
    assert all(v.dtype != torch.float64 for v in new.state_dict().values())
    new.load_state_dict(before, strict=True)
    assert new.history.dtype == torch.float32 and torch.equal(new.probabilities(), old.probabilities())


def test_late_times_are_one_minus_the_cube_of_an_even_number():
    """P(t <= k) = 1 - (1 - k / T) ** (1/3): nearly half in the last tenth, every t possible, no weights."""
    t, weight = late_times(200, 400_000, generator(1))
    share = torch.bincount(t, minlength=201)[1:].cumsum(0) / len(t)
    want = 1 - (1 - torch.arange(1, 201) / 200) ** (1 / 3)
    assert t.min() >= 1 and t.max() == 200 and (share - want).abs().max() < 0.004 and torch.equal(weight, torch.ones(400_000))
    assert abs((t > 180).double().mean() - 0.1 ** (1 / 3)) < 0.004


def test_middle_times_are_logit_normal_but_for_a_tenth_of_much_noise():
    """P(t <= k) = 0.9 Phi(logit(k / T)), and a tenth evenly over the last fifth."""
    t, weight = middle_times(200, 400_000, generator(1))
    share = torch.bincount(t, minlength=201)[1:].cumsum(0) / len(t)
    k = torch.arange(1, 201, dtype=torch.float64) / 200
    want = 0.9 * torch.special.ndtr(torch.logit(k)) + 0.1 * ((k - 0.8) / 0.2).clamp(0, 1)
    assert t.min() >= 1 and t.max() == 200 and (share - want).abs().max() < 0.004 and torch.equal(weight, torch.ones(400_000))
