"""The seconds per step beside the results: every preset for a laptop, on both kinds of processor."""
import json
from pathlib import Path

import seconds_per_step as tool
from tiny_runs import tiny

from t2ilab.presets import PRESETS

FILE = Path(__file__).parent.parent / "results" / "seconds_per_step.json"


def test_every_preset_for_a_laptop_was_timed_on_both_kinds_of_processor():
    report = json.loads(FILE.read_text(encoding="utf8"))
    assert {"command", "processor", "torch"} <= report.keys() and list(report["kinds"]) == list(tool.KINDS)
    laptop = [name for name, preset in PRESETS.items() if preset.hardware.startswith("laptop")]
    assert len(laptop) > 10
    for kind in report["kinds"].values():
        assert list(kind["seconds"]) == laptop and min(kind["seconds"].values()) > 0
    assert report["kinds"]["as without AVX-512 and bf16 units"]["precision auto"] == "float32"


def test_a_step_takes_some_time(tmp_path):
    assert 0 < tool.seconds(tiny(fit={"steps": 100}), tmp_path) < 60
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == tool.WARM_UP + tool.STEPS
