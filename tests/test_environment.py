"""README, pyproject.toml, environment.yml and .ci/run ask for the same thing."""
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
RUN, TEST = 'pip install -e . && t2ilab demo', 'pip install -e ".[test]" && pytest --nbval tests notebooks'
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def test_conda_and_pip_ask_for_the_same_python():
    assert f"python{PROJECT['requires-python']}" in CONDA


def test_conda_installs_the_project_with_its_tests_and_nothing_else():
    assert "pip" in CONDA and [d["pip"] for d in CONDA if isinstance(d, dict)] == [["-e .[test]"]]
    assert "test" in PROJECT["optional-dependencies"] and len(CONDA) == 3


def test_no_requirement_has_an_upper_bound():
    everything = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    assert [r for r in everything if re.search(r"<|==|~=|!=", r)] == []


def test_readme_has_the_two_commands_each_on_its_own_line():
    lines = (ROOT / "README.md").read_text(encoding="utf8").splitlines()
    assert RUN in lines and TEST in lines and lines.index(RUN) < lines.index(TEST)


def test_ci_runs_exactly_the_second_command_of_the_readme():
    shown = subprocess.run(["bash", ".ci/run", "--show"], cwd=ROOT, capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, TEST + "\n")
