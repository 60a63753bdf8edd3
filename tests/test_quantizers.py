"""Quantisers against their definitions: the nearest entry, moving averages, Gumbel's choice, and steps that are cut into shards."""
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from toys import alone

from t2ilab.tensors import generator, gumbel
from t2ilab.vqgan.quantizers import COMMITMENT, DECAY, QUANTIZERS, SMALLEST


def z_of(n=2, width=4, seed=0):
    return torch.randn(n, width, 3, 5, generator=generator(seed))


def started(kind, codebook_size=7, width=4):
    """A quantiser in training that has seen one batch, so that every code lies where cells are."""
    torch.manual_seed(0)
    quantizer = QUANTIZERS[kind](codebook_size, width).train()
    quantizer(z_of(seed=5), generator(5))
    quantizer.after_step(alone)
    return quantizer


@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_the_nearest_entry_is_taken(kind):
    quantizer, z = started(kind), z_of()
    apart = (z.movedim(1, -1)[..., None, :] - quantizer.codebook).square().sum(-1)           # [B h w K]
    z_q, codes, _ = quantizer.eval()(z)
    assert torch.equal(codes, apart.argmin(-1)) and len(codes.unique()) > 2
    assert_close(z_q, quantizer.codebook[codes].movedim(-1, 1))


@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_gradients_pass_straight_through(kind):
    """straight-through: what comes back to z is what came to z_q, plus the pull of the commitment."""
    quantizer, z, w = started(kind).eval(), z_of().requires_grad_(), z_of(seed=1)
    z_q, _, _ = quantizer(z)
    (z_q * w).sum().backward()
    assert torch.equal(z.grad, w)


def test_the_loss_of_the_nearest_entry_is_two_distances():
    """VQ-VAE loss: the codebook moves to the cells, and the cells, a quarter as strongly, to the codebook."""
    quantizer, z = started("nearest").eval(), z_of().requires_grad_()
    _, codes, loss = quantizer(z)
    e = F.embedding(codes, quantizer.codebook).movedim(-1, 1)
    per_value = (e - z).square().flatten(1).mean(1)
    assert_close(loss, per_value + COMMITMENT * per_value)
    of_z, of_e = torch.autograd.grad(loss.sum(), (z, quantizer.codebook))
    assert_close(of_z, COMMITMENT * 2 * (z - e) / z[0].numel())
    assert_close(of_e.sum(0), -(2 * (z - e) / z[0].numel()).sum((0, 2, 3)))


def test_an_averaged_entry_is_the_mean_of_its_cells():
    """VQ-VAE moving averages: sums and counts of the cells that took a code, each forgetting at the same pace."""
    quantizer, z = started("ema"), z_of(seed=3)
    with torch.no_grad():
        quantizer.used.fill_(2.0)                                                            # none is dead
        quantizer.total.copy_(quantizer.codebook * 2)
        before, total, used = quantizer.codebook.clone(), quantizer.total.clone(), quantizer.used.clone()
    z_q, codes, loss = quantizer(z, generator(1))
    quantizer.after_step(alone)
    flat, taken = z.movedim(1, -1).flatten(0, 2), F.one_hot(codes.flatten(), 7).float()
    used = DECAY * used + (1 - DECAY) * taken.sum(0)
    total = DECAY * total + (1 - DECAY) * taken.T @ flat
    smooth = (used + SMALLEST) / (used.sum() + 7 * SMALLEST) * used.sum()
    assert_close(quantizer.codebook, total / smooth[:, None])
    assert_close(z_q, before[codes].movedim(-1, 1))                                          # this batch still saw the old codebook
    assert_close(loss, COMMITMENT * (z - z_q).square().flatten(1).mean(1))
    assert not any(True for _ in quantizer.parameters())


@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_a_dead_code_is_put_where_a_cell_is(kind):
    quantizer = started(kind)
    with torch.no_grad():
        quantizer.codebook[0] = 1000.0
        quantizer.used.fill_(5.0)
        quantizer.used[0] = 0.0
    z = z_of(seed=4)
    quantizer(z, generator(2))
    quantizer.after_step(alone)
    cells = z.movedim(1, -1).flatten(0, 2)
    assert (quantizer.codebook[0] - cells).abs().sum(1).min() < 1e-5
    assert 0 in quantizer.eval()(z)[1]                                                       # and is taken there from now on
    if kind == "ema":
        assert_close(quantizer.total[0], quantizer.codebook[0] * quantizer.used[0])           # also when it next moves


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_codebook_moves_once_per_step_however_the_step_is_cut(kind):
    one, two, z = started(kind), started(kind), z_of(4, seed=3)
    for quantizer, parts in ((one, [z]), (two, z.split(2))):
        quantizer.used.fill_(5.0)                                                            # none is dead
        before = quantizer.state_dict() | {"used": quantizer.used.clone()}
        torch.manual_seed(1)                                                                 # Gumbel's noise, one stream for all parts
        for part in parts:
            quantizer(part)
        assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())     # every shard sees the same codebook
        quantizer.after_step(alone)
        assert not torch.equal(quantizer.used, before["used"])
    if kind != "gumbel":
        assert_close(two.state_dict(), one.state_dict())
    else:
        assert two.used.sum().item() == pytest.approx(one.used.sum().item())                 # its noise differs
        assert one.seen == two.seen == 2                                                     # the first was to start it


@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_dead_codes_are_put_where_cells_of_every_shard_are(kind):
    quantizer = started(kind)
    with torch.no_grad():
        quantizer.codebook.fill_(-1000.0)[0] = 150.0                                          # which takes all cells
        quantizer.used.zero_()
    for mean in (100.0, 200.0):
        quantizer(z_of(seed=4) + mean, generator(2))
    quantizer.after_step(alone)
    assert quantizer.codebook[1:].mean(1).div(100).round().tolist() == [2, 1, 2, 1, 2, 1]

def test_one_code_taken_by_all_is_seen_in_the_report():
    quantizer = started("ema")
    quantizer.used.zero_()
    quantizer.used[3] = 10.0
    assert quantizer.usage() == {"codes_used": pytest.approx(1 / 7), "perplexity": pytest.approx(1.0)}
    quantizer.used.fill_(2.0)
    assert quantizer.usage() == {"codes_used": 1.0, "perplexity": pytest.approx(7.0)}


def test_gumbel_chooses_by_chance_in_training_and_never_afterwards():
    quantizer, z = started("gumbel"), z_of(n=40)
    one, two = (quantizer(z, generator(seed))[1] for seed in (1, 2))
    assert not torch.equal(one, two)
    assert torch.equal(quantizer.eval()(z, generator(1))[1], quantizer.choose(z).argmax(1)) and torch.equal(quantizer.nearest(z), quantizer(z)[1])


def test_gumbel_draws_each_code_as_often_as_its_network_says():
    quantizer = started("gumbel")
    z = z_of(1, seed=7)[:, :, :1, :1].expand(4000, -1, 1, 1)
    p = quantizer.choose(z[:1]).softmax(1)[0, :, 0, 0]
    counts = torch.bincount(quantizer(z, generator(3))[1].flatten(), minlength=7)
    assert ((counts - 4000 * p).abs() < 5 * (4000 * p * (1 - p)).sqrt()).all()


def test_the_gradient_of_a_gumbel_choice_is_that_of_the_soft_choice():
    """straight-through, Gumbel-softmax: the picture is made of the hard choice, the gradient is the soft one's."""
    quantizer, z = started("gumbel"), z_of().requires_grad_()
    w, logits = z_of(seed=1), quantizer.choose(z)
    soft = ((logits + gumbel(logits.shape, generator(1))) / quantizer.temperature).softmax(1)
    (wanted,) = torch.autograd.grad((torch.einsum("bkhw,kd->bdhw", soft, quantizer.codebook) * w).sum(), z)
    z_q, codes, _ = quantizer(z, generator(1))
    assert_close(z_q, quantizer.embed(codes))
    assert_close(torch.autograd.grad((z_q * w).sum(), z)[0], wanted)


def test_gumbel_cools_down_and_is_pulled_to_even_use():
    quantizer = started("gumbel")
    quantizer.seen.zero_()
    assert quantizer.temperature == 1.0
    quantizer.seen.fill_(75_000)
    assert quantizer.temperature == pytest.approx(0.25)
    quantizer.seen.fill_(10 ** 9)
    assert quantizer.temperature == pytest.approx(1 / 16)
    with torch.no_grad():
        for p in quantizer.choose.parameters():
            p.zero_()
    assert quantizer.eval()(z_of())[2].abs().max() < 1e-7                                    # even already
