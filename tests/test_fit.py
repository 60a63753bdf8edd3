"""The training loop: resume bit for bit, shards that add up to the whole, and everything that must stop or limit a step."""
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_runs import logged, saved, tiny
from torch import nn
from torch.testing import assert_close

from t2ilab.diffusion.cond import Cond
from t2ilab.presets import SaveConfig
from t2ilab.runs.train import train
from t2ilab.tensors import generator
from t2ilab.training import fit as fit_module
from t2ilab.training.ema import ema_decay, update_ema
from t2ilab.training.fit import FitConfig, TrainState, fit, learning_rate


class Line(nn.Module):
    """The smallest model: a matrix that should turn x0 into its double, with a loss that can be spoilt at some calls."""

    def __init__(self, corrupt_image=lambda call: 1.0):
        super().__init__()
        self.layer, self.corrupt_image, self.calls = nn.Linear(6, 6), corrupt_image, 0

    def loss(self, x0, cond, generator):
        self.calls += 1
        return (self.layer(x0.flatten(1)) - 2 * x0.flatten(1)).square().mean(1) * self.corrupt_image(self.calls)


def batches(size=4, start=0):
    while True:
        start += 1
        yield torch.rand(size, 1, 2, 3, generator=generator(start)) * 2 - 1, Cond()


def line(**config):
    torch.manual_seed(0)
    return TrainState(Line(), FitConfig(**{"steps": 5, "batch_size": 4, "precision": "fp32", "lr": 0.01, "warmup": 0} | config))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(out, preset, stop=math.inf):
    """Train until a step, then drop everything without a word."""
    for log, _ in train(preset, out):
        if log.step >= stop:
            return


# Resuming

EVERYTHING = {"net": {"dropout": 0.3}, "model": {"T": 5}, "objective": {"timestep_sampler": "importance", "cond_drop_prob": 0.5}}
VARIANTS = {
    "dropout": {"net": {"dropout": 0.5}, "objective": {"cond_drop_prob": 0.0}},
    "labels, some dropped": {"objective": {"cond_drop_prob": 0.5}},
    "importance-sampled times": {"model": {"T": 3}, "objective": {"timestep_sampler": "importance"}, "fit": {"batch_size": 8}},
    "accumulation": {"fit": {"accumulate": 2}},
    "muon": {"fit": {"optimizer": "muon"}},
    "weight decay": {"fit": {"weight_decay": 0.1}},
    "bf16": {"fit": {"precision": "bf16"}},
    "fp16": {"fit": {"precision": "fp16"}},
}


def resumed_equals_uninterrupted(tmp_path, change, *, steps, stop, every):
    change = change | {"fit": change.get("fit", {}) | {"steps": steps}}
    run(tmp_path / "whole", tiny(**change))
    run(tmp_path / "stopped", tiny(**change, save={"checkpoint_steps": every}), stop)
    run(tmp_path / "stopped", tiny(**change, save={"checkpoint_steps": every}))
    assert saved(tmp_path / "stopped") == saved(tmp_path / "whole")
    whole, stopped = ([{**row, "seconds": 0} for row in logged(tmp_path / name)] for name in ("whole", "stopped"))
    assert whole == stopped and [row["step"] for row in whole] == list(range(1, steps + 1))


@pytest.mark.slow
def test_200_steps_are_100_and_a_stop_and_100_bit_for_bit(tmp_path):
    resumed_equals_uninterrupted(tmp_path, EVERYTHING | {"fit": {"batch_size": 2}}, steps=200, stop=100, every=50)


@pytest.mark.slow
@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
def test_a_run_stopped_between_two_checkpoints_ends_with_the_same_bits(change, tmp_path):
    resumed_equals_uninterrupted(tmp_path, change, steps=14, stop=9, every=7)


@pytest.mark.slow
def test_importance_sampling_has_left_the_even_choice_when_the_proof_above_resumes(tmp_path):
    preset = tiny(**VARIANTS["importance-sampled times"], save={"checkpoint_steps": 7})
    preset = replace(preset, fit=replace(preset.fit, steps=9))
    for _, ema in train(preset, tmp_path):
        pass
    assert ema.importance.seen.amin() >= 10 and ema.importance.probabilities().std() > 0


# Shards

@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_shards_worked_through_in_turn_give_the_gradient_of_the_whole_batch(optimizer):
    whole, parts = line(optimizer=optimizer, steps=1), line(optimizer=optimizer, steps=1, accumulate=4)
    x0, _ = next(batches())
    (log, _), = fit(whole.model, [(x0, Cond())], whole.config, state=whole)
    (log4, _), = fit(parts.model, [(x, Cond()) for x in x0.split(1)], parts.config, state=parts)
    assert_close(weights(parts.model), weights(whole.model))
    assert_close(torch.tensor([log4.loss, log4.grad_norm]), torch.tensor([log.loss, log.grad_norm]))


def test_every_shard_of_every_step_has_its_own_noise_which_the_seed_alone_fixes():
    def draws(seed):
        state, seen = line(accumulate=2, steps=3, seed=seed), []
        loss = state.model.loss
        state.model.loss = lambda x0, cond, g: seen.extend([torch.rand((), generator=g).item(), torch.rand(()).item()]) or loss(x0, cond, g)
        list(fit(state.model, batches(2), state.config, state=state))
        return seen
    assert len(set(draws(0))) == 12 and draws(0) == draws(0) and not set(draws(0)) & set(draws(1))


@pytest.mark.parametrize("batch_size, accumulate", [(4, 3), (2, 4)])
def test_shards_that_do_not_divide_the_batch_are_refused(batch_size, accumulate):
    with pytest.raises(ValueError, match=f"batch_size={batch_size} in {accumulate} shards on 1 processes"):
        next(fit(Line(), batches(), FitConfig(batch_size=batch_size, accumulate=accumulate, precision="fp32")))


# What stops a step, or limits it

@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_the_step_and_leaves_the_weights_alone(value, precision, optimizer):
    state = line(precision=precision, optimizer=optimizer)
    state.model.corrupt_image = lambda call: value if call == 3 else 1.0
    seen = []
    with pytest.raises(FloatingPointError, match="^step 3: loss is (nan|inf)"):
        for log, ema in fit(state.model, batches(), state.config, state=state):
            seen.append((log.step, weights(state.model), weights(ema)))
    assert [step for step, *_ in seen] == [1, 2] and state.step == 2
    assert torch.equal(weights(state.model), seen[-1][1]) and torch.equal(weights(state.ema), seen[-1][2])


class Overflow(torch.autograd.Function):
    """The identity, whose gradient overflows where it is too large, as in half precision."""

    @staticmethod
    def forward(ctx, x, limit):
        ctx.limit = limit
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.where(gradient.abs() > ctx.limit, math.nan, gradient), None


def with_limit(state, limit):
    loss = state.model.loss
    state.model.loss = lambda *given: Overflow.apply(loss(*given), limit)
    return state


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_fp16_skips_steps_whose_gradients_overflow_until_its_scale_fits(optimizer):
    state = with_limit(line(precision="fp16", optimizer=optimizer, steps=6), 2 ** 13)     # 2^16 / 4 examples, halved once
    start, moved = weights(state.model), []
    for log, _ in fit(state.model, batches(), state.config, state=state):
        moved.append(not torch.equal(weights(state.model), start))
    assert moved == [False, True, True, True, True, True] and weights(state.model).isfinite().all() and state.scaler.get_scale() == 2 ** 15


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_an_overflow_in_one_of_two_optimisers_skips_the_step_of_both(name):
    state, first = line(precision="fp16", optimizer="muon", steps=2, decay="none"), iter([math.nan])
    getattr(state.model.layer, name).register_hook(lambda gradient: gradient * next(first, 1.0))
    start, moved = [p.detach().clone() for p in state.model.parameters()], []
    for _ in fit(state.model, batches(), state.config, state=state):
        moved.append([not torch.equal(a, b) for a, b in zip(start, state.model.parameters())])
    assert moved == [[False, False], [True, True]] and weights(state.model).isfinite().all() and state.scaler.get_scale() == 2 ** 15


def test_gradients_that_overflow_at_every_scale_stop_fp16_too():
    state = with_limit(line(precision="fp16", steps=50), 0.0)
    with pytest.raises(FloatingPointError, match="^step 17: loss is .* gradient norm is nan"):
        for _ in fit(state.model, batches(), state.config, state=state):
            pass


def test_a_gradient_that_is_no_number_stops_without_fp16_at_once():
    state = with_limit(line(), 0.0)
    with pytest.raises(FloatingPointError, match="^step 1: loss is .* gradient norm is nan"):
        next(fit(state.model, batches(), state.config, state=state))


def test_a_long_gradient_is_shortened_and_logged_at_its_full_length():
    state = line(clip=0.5, steps=1)
    state.model.corrupt_image = lambda call: 100.0
    (log, _), = fit(state.model, batches(), state.config, state=state)
    gradient = torch.cat([p.grad.flatten() for p in state.model.parameters()])
    assert log.grad_norm > 5 and abs(gradient.norm().item() - 0.5) < 1e-4


def test_a_short_gradient_is_left_alone():
    state = line(clip=1000.0, steps=1)
    (log, _), = fit(state.model, batches(), state.config, state=state)
    assert abs(torch.cat([p.grad.flatten() for p in state.model.parameters()]).norm().item() - log.grad_norm) < 1e-5 < log.grad_norm


def test_muon_moves_matrices_and_adamw_the_rest_in_every_step():
    state = line(optimizer="muon", steps=3, decay="none")
    before = [p.detach().clone() for p in state.model.parameters()]
    for _ in fit(state.model, batches(), state.config, state=state):
        after = [p.detach().clone() for p in state.model.parameters()]
        assert not any(torch.equal(a, b) for a, b in zip(before, after))
        before = after
    assert [[tuple(p.shape) for group in o.param_groups for p in group["params"]] for o in state.optimizers] == [[(6,)], [(6, 6)]]


# The average

def test_the_averaged_weights_after_50_steps_are_near_the_raw_ones_and_far_from_the_start():
    state = line(steps=50, lr=0.01, ema_decay=0.9999)
    start = weights(state.model).clone()
    for _, ema in fit(state.model, batches(), state.config, state=state):
        pass
    gone, behind = (weights(state.model) - start).norm(), (weights(ema) - weights(state.model)).norm()
    assert 0 < behind < 0.3 * gone
    assert not {p.data_ptr() for p in ema.parameters()} & {p.data_ptr() for p in state.model.parameters()}
    assert not any(p.requires_grad for p in ema.parameters()) and not ema.training


def test_the_average_is_the_recursion_written_out():
    state = line(steps=4, ema_decay=0.3)
    want = weights(state.model).double()
    for log, ema in fit(state.model, batches(), state.config, state=state):
        decay = min(0.3, (1 + log.step) / (10 + log.step))                  # 2/11, 3/12, 4/13, then the constant
        want = decay * want + (1 - decay) * weights(state.model)
        assert_close(weights(ema).double(), want, rtol=1e-6, atol=1e-6)
    assert ema_decay(10 ** 9, 0.999) == 0.999


def test_buffers_are_copied_into_the_average_not_averaged():
    model, ema = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    model.running_mean.fill_(5.0)
    model.num_batches_tracked.fill_(7)
    update_ema(ema, model, 0.9)
    assert ema.running_mean.tolist() == [5, 5, 5] and ema.num_batches_tracked == 7


# Learning rate, precision, options

def test_the_learning_rate_rises_in_a_line_and_falls_as_told():
    config = FitConfig(steps=110, warmup=10, lr=2.0, decay="cosine")
    rates = [learning_rate(k, config) for k in range(1, 111)]
    assert_close(torch.tensor(rates[:10]), torch.arange(1, 11) * 0.2)
    assert_close(torch.tensor(rates[10:]), 1 + (torch.arange(1, 101) / 101 * math.pi).cos())
    linear = [learning_rate(k, replace(config, steps=109, decay="linear")) for k in (10, 35, 60, 109)]
    assert_close(torch.tensor(linear), torch.tensor([2.0, 1.5, 1.0, 0.02]))
    assert {learning_rate(k, replace(config, decay="none")) for k in range(10, 111)} == {2.0}
    assert learning_rate(1, replace(config, warmup=0, decay="none")) == 2.0 and learning_rate(50, replace(config, steps=50, warmup=100)) == 1.0


@pytest.mark.parametrize("decay", ["cosine", "linear", "none"])
@pytest.mark.parametrize("steps, warmup", [(1, 0), (1, 1), (1, 100), (5, 5), (5, 4), (1000, 10)])
def test_no_step_is_for_nothing_the_last_one_included(decay, steps, warmup):
    config = FitConfig(steps=steps, warmup=warmup, lr=1.0, decay=decay)
    assert all(0 < learning_rate(k, config) <= 1 for k in range(1, steps + 1))


def test_the_last_batch_moves_the_weights():
    state = line(steps=3, decay="linear")
    *_, before, last = (weights(state.model) for _ in fit(state.model, batches(), state.config, state=state))
    assert not torch.equal(before, last)


def test_every_step_uses_and_logs_the_rate_of_the_curve():
    state = line(steps=4, warmup=2, decay="linear", optimizer="muon")
    for log, _ in fit(state.model, batches(), state.config, state=state):
        assert [o.param_groups[0]["lr"] for o in state.optimizers] == [log.lr, log.lr] == [learning_rate(log.step, state.config)] * 2


@pytest.mark.parametrize("name, value", [("decay", "step"), ("precision", "int8"), ("optimizer", "sgd"), ("steps", 0), ("batch_size", -1),
                                         ("accumulate", 0), ("clip", 0.0), ("clip", -1.0), ("clip", math.inf), ("lr", math.nan), ("lr", 0.0),
                                         ("ema_decay", 1.0), ("ema_decay", -1.0), ("warmup", -5), ("weight_decay", -0.1), ("betas", (0.9, 1.0)),
                                         ("betas", (math.nan, 0.9))])
def test_an_option_that_makes_no_sense_is_refused_with_what_is_allowed(name, value):
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r}: choose ")):
        FitConfig(**{name: value})


@pytest.mark.parametrize("name, value", [("keep", 0), ("validate_steps", -1), ("checkpoint_steps", -1), ("sample_steps", -1), ("checkpoint_seconds", 0.0),
                                         ("checkpoint_seconds", math.nan)])
def test_saving_that_makes_no_sense_is_refused_too(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: choose "):
        SaveConfig(**{name: value})


def test_a_number_out_of_range_is_refused_with_the_bounds():
    with pytest.raises(ValueError, match=r"^ema_decay=1.5: choose 0 or more and less than 1$"):
        FitConfig(ema_decay=1.5)
    with pytest.raises(ValueError, match=r"^clip=nan: choose more than 0$"):
        FitConfig(clip=math.nan)


def test_weights_cut_up_over_processes_are_refused():
    accelerator = SimpleNamespace(distributed_type=SimpleNamespace(value="FSDP"))
    with pytest.raises(ValueError, match="^FSDP is set for accelerate, .*: accelerate launch --multi_gpu$"):
        fit_module._check_whole(accelerator)
