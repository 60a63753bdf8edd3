"""Speed on a GPU: every preset it names can be measured, and a row is on disk before the next one begins."""
import json
from dataclasses import replace

import gpu_speed as tool
import pytest
import torch
from tiny_glide import BASE
from tiny_runs import TINY, tiny

from t2ilab.diffusion.cond import conditioned
from t2ilab.presets import PRESETS

FAST = {"peak": 1e-6, "seconds": 0.01}


def test_a_row_holds_the_speed_of_training_and_of_sampling():
    row = tool.measured(replace(TINY, model=BASE), 4, **FAST, compiled=False)
    assert row["batch_size"] == 4 and row["precision"] == "float32" and row["sampling_steps"] == 3
    assert row["images_per_second"] == pytest.approx(4 * row["steps_per_second"], abs=0.1)
    assert row["mfu"] == pytest.approx(row["tflop_per_step"] * row["steps_per_second"] / FAST["peak"], abs=1e-4)
    assert all(value for name, value in row.items() if name != "peak_memory_gb")       # of a GPU


def test_the_operations_of_a_step_grow_with_the_batch_and_are_three_forward_passes():
    small, large = (tool.measured(TINY, batch, **FAST, compiled=False)["tflop_per_step"] for batch in (2, 4))
    assert large == 2 * small
    x0, cond = tool.training_pair(TINY.model, 2)
    net = TINY.model.build().net
    with tool.FlopCounterMode(display=False) as counter:
        net(x0, torch.ones(2), cond)
    assert 2.5 * counter.get_total_flops() < small * 1e12 <= 3 * counter.get_total_flops()


@pytest.mark.parametrize("name", tool.TRAINED)
def test_every_preset_takes_the_random_data_made_for_it(name):
    model = PRESETS[name].model
    with torch.device("meta"):
        net = model.build().net
    x0, cond = tool.training_pair(model, 2)
    out = net(x0.to("meta"), torch.ones(2, device="meta", dtype=torch.int64), conditioned(net, cond.map(lambda v: v.to("meta"))))
    assert len(out) == 2 and out.is_meta


def test_a_batch_that_does_not_fit_is_halved_until_it_does(monkeypatch):
    def measured(preset, batch, **options):
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"batch_size": batch}
    monkeypatch.setattr(tool, "measured", measured)
    assert tool.fitting(tiny(fit={"batch_size": 32, "accumulate": 2}), **FAST, compiled=False) == {"batch_size": 2}


def test_rows_are_written_as_they_are_done(monkeypatch, tmp_path):
    def fitting(preset, **options):
        if preset.name == "ddpm-cifar10":
            raise KeyboardInterrupt
        return {"batch_size": 1, "tflop_per_step": 2.0, "steps_per_second": 3.0}
    monkeypatch.setattr(tool, "fitting", fitting)
    out = tmp_path / "speed.json"
    with pytest.raises(KeyboardInterrupt):
        tool.main(("glide-flowers102", "ddpm-cifar10"), out=out)
    assert json.loads(out.read_text())["rows"].keys() == {"glide-flowers102"}
    tool.main(("glide-flowers102",), ("glide-flowers102",), peak_tflops=60.0, out=out)
    rows = json.loads(out.read_text())["rows"]
    assert rows["glide-flowers102 --compile"]["mfu"] == 0.1 and "mfu" not in rows["glide-flowers102"]
    tool.main(stop_after=0.0, out=tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()
