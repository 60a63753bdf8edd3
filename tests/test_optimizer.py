"""Muon moves weights as torch's own does and computes where the hardware is fast; bf16 is picked only where there are units for it."""
import os
import subprocess
import sys

import pytest
import torch
from test_fit import weights
from torch import nn
from torch.testing import assert_close
from toys import wave

from t2ilab.training.fit import FitConfig
from t2ilab.training.optimizer import FlatMuon, make_optimizers, orthogonalize
from t2ilab.training.precision import has_bf16, pick_precision

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))
SHAPES = [(5, 7), (7, 5), (6, 6), (1, 4), (16, 144)]


# Muon

@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype, within", [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_orthogonalising_maps_each_singular_value_and_keeps_the_singular_vectors(shape, dtype, within):
    matrix = wave(*shape).double()
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s ** 3 + 2.0315 * s ** 5                  # Jordan et al. 2024
    assert_close(orthogonalize(matrix.float(), dtype).double(), u @ s.diag() @ vt, rtol=0, atol=within)


def test_orthogonalising_a_well_shaped_matrix_is_near_its_nearest_orthogonal_one():
    torch.manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(32, 64), full_matrices=False)
    out = orthogonalize(u @ torch.linspace(0.2, 1, 32).diag() @ vt)
    assert ((torch.linalg.svdvals(out) - 1).abs() < 0.35).all() and (out * (u @ vt)).sum() / 32 > 0.7


def test_a_gradient_of_zeros_moves_nothing():
    assert torch.equal(orthogonalize(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("dtype, within", [(torch.float32, 0.03), (torch.bfloat16, 1e-5)])
def test_muon_moves_weights_as_torchs_own_does_within_the_rounding_of_bf16(dtype, within, monkeypatch):
    """torch's orthogonalises in bf16: ours in bf16 is the same, in float32 it differs by that rounding."""
    from t2ilab.training import optimizer as module
    monkeypatch.setattr(module, "orthogonalize", lambda matrix, _: orthogonalize(matrix, dtype))
    ours, theirs = ([nn.Parameter(wave(*shape, seed=k).float()) for k, shape in enumerate(SHAPES)] for _ in range(2))
    mine = FlatMuon(ours, lr=0.01, weight_decay=0.1)
    torchs = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        for k, pair in enumerate(zip(ours, theirs)):
            for p in pair:
                p.grad = wave(*p.shape, seed=10 * step + k).float()
        mine.take_gradients()
        mine.step()
        torchs.step()
    for state, other in zip(mine.state.values(), torchs.state.values()):         # so that runs begun with torch's go on
        assert list(state) == list(other)
        assert_close(state["momentum_buffer"], other["momentum_buffer"].view_as(state["momentum_buffer"]))
    for k, (mine, other) in enumerate(zip(ours, theirs)):
        assert (mine - other).norm() <= within * (other - wave(*other.shape, seed=k).float()).norm()


def test_muon_leaves_weights_without_a_gradient_as_they_are():
    used, unused = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3, 2))
    muon = FlatMuon([used, unused], lr=0.1, weight_decay=0.1)
    used.grad = wave(2, 3).float()
    muon.take_gradients()
    muon.step()
    assert torch.equal(unused, torch.ones(3, 2)) and not torch.equal(used, torch.ones(2, 3)) and len(muon.state) == 1


def test_on_a_cpu_muon_never_computes_in_bf16(monkeypatch):
    from t2ilab.training import optimizer as module
    seen = []
    monkeypatch.setattr(module, "orthogonalize", lambda matrix, dtype: seen.append(dtype) or matrix)
    model = nn.Conv2d(3, 4, 3)
    *_, muon = make_optimizers(model, FitConfig(optimizer="muon"))
    model(torch.ones(1, 3, 8, 8)).sum().backward()
    muon.take_gradients()
    before = weights(model)
    muon.step()
    assert seen == [torch.float32] and not torch.equal(weights(model), before)


# Which precision

@pytest.mark.parametrize("capability, has_it", [((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)])
def test_a_gpu_gets_bf16_only_where_the_hardware_has_it(capability, has_it, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bf16(CUDA) == has_it
    assert pick_precision("auto", CUDA) == (torch.bfloat16 if has_it else torch.float16)
    assert pick_precision("fp32", CUDA) == torch.float32


@pytest.mark.parametrize("kernels, onednn, units, has_it", [
    ("AVX512", True, True, True), ("AVX512", True, False, False), ("AVX512", False, True, False), ("AVX2", True, True, False), ("DEFAULT", False, False, False)])
def test_a_cpu_gets_bf16_only_where_the_hardware_has_it_and_torch_uses_it(kernels, onednn, units, has_it, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kernels)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: units)
    assert has_bf16(CPU) == has_it and not has_bf16(MPS)
    assert pick_precision("auto", CPU) == (torch.bfloat16 if has_it else torch.float32)
    assert pick_precision("auto", MPS) == torch.float32 and pick_precision("bf16", CPU) == torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("told", [{"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}], ids=lambda told: next(iter(told)))
def test_a_cpu_told_to_work_like_an_old_one_gets_float32(told):
    code = "import torch; from t2ilab.training.precision import pick_precision as p; print(p('auto', torch.device('cpu')))"
    old = os.environ | told
    assert subprocess.run([sys.executable, "-c", code], env=old, capture_output=True, text=True, check=True).stdout.strip() == "torch.float32"
