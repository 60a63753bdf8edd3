"""Networks that are compiled first: one graph, and the run that a plain network gives."""
from functools import partialmethod

import pytest
from test_fit import line, run
from tiny_runs import saved, tiny
from torch import nn
from torch._dynamo.utils import counters


@pytest.mark.slow
def test_a_compiled_network_is_one_graph_and_learns_and_resumes_as_a_plain_one_does(monkeypatch, tmp_path):
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))    # the default takes minutes on a CPU
    counters.clear()
    run(tmp_path / "plain", tiny(fit={"steps": 6}))
    run(tmp_path / "compiled", tiny(fit={"steps": 6, "compile": True}, save={"checkpoint_steps": 3}), stop=4)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    run(tmp_path / "compiled", tiny(fit={"steps": 6, "compile": True}))
    assert saved(tmp_path / "compiled") == saved(tmp_path / "plain")


def test_a_model_that_is_no_denoiser_is_not_compiled():
    with pytest.raises(ValueError, match="^compile=True is for denoisers: "):
        line(compile=True)
