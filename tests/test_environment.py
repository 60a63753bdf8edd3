"""README, pyproject.toml, environment.yml, .ci/ and the package's imports ask for the same things."""
import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
RUN, TEST = 'pip install -e . && t2ilab demo', 'pip install -e ".[test]" && pytest --nbval tests notebooks'
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
EVERYTHING = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
IMPORTED_AS = {"pillow": "PIL", "ipython": "IPython", "pyyaml": "yaml"}                     # where the name on PyPI is another
NEVER_IMPORTED = {
    "tensorboard": "torch.utils.tensorboard writes with it",
    "sentencepiece": "transformers reads T5's published tokenizer with it",
    "ipykernel": "runs the lessons",
    "jupyterlab": "README opens the lessons with it",
    "nbval": "a plugin of pytest", "ruff": "a program", "mypy": "a program",
}
CONSTRAINTS = sorted((ROOT / ".ci" / "constraints").glob("*.txt"))


def imported(*files):
    """Top names of the third-party modules that files import, at the top or inside functions."""
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf8")))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"t2ilab"}


def modules(requirements):
    """The modules that requirements are imported as, by the requirement's name."""
    names = [Requirement(r).name for r in requirements]
    return {name: IMPORTED_AS.get(name, name) for name in names}


USED = imported(*(ROOT / "t2ilab").rglob("*.py"))


def test_every_required_package_is_imported_or_has_its_reason():
    assert [name for name, module in modules(PROJECT["dependencies"]).items() if module not in USED and name not in NEVER_IMPORTED] == []


def test_every_package_that_the_package_imports_is_required():
    assert set(modules(PROJECT["dependencies"]).values()) >= USED


@pytest.mark.slow
def test_every_package_that_the_tests_import_is_declared_and_used():
    files = [*(ROOT / "tests").glob("*.py"), ROOT / "conftest.py", ROOT / "notebooks" / "build.py"]
    used, beside = imported(*files), {path.stem for folder in ("tests", "results/tools") for path in (ROOT / folder).glob("*.py")}
    assert used - beside <= set(modules(EVERYTHING).values())
    tools = modules(PROJECT["optional-dependencies"]["test"])
    assert [name for name, module in tools.items() if module not in used | {"diffusers"} and name not in NEVER_IMPORTED] == []


def test_no_reason_is_left_over():
    assert NEVER_IMPORTED.keys() <= modules(EVERYTHING).keys() and USED.isdisjoint(NEVER_IMPORTED)


def test_conda_and_pip_ask_for_the_same_python():
    assert f"python{PROJECT['requires-python']}" in CONDA


def test_conda_installs_the_project_with_its_tests_and_nothing_else():
    assert "pip" in CONDA and [d["pip"] for d in CONDA if isinstance(d, dict)] == [["-e .[test]"]]
    assert "test" in PROJECT["optional-dependencies"] and len(CONDA) == 3


def test_no_requirement_has_an_upper_bound():
    assert [r for r in EVERYTHING if re.search(r"<|==|~=|!=", r)] == []


@pytest.mark.parametrize("file", CONSTRAINTS, ids=lambda file: file.stem)
def test_constraints_name_every_direct_dependency_and_keep_to_the_floors(file):
    lines = [line.split("#")[0].strip() for line in file.read_text(encoding="utf8").splitlines()]
    tried = {Requirement(line).name: Requirement(line) for line in lines if line}
    asked = [Requirement(r) for r in EVERYTHING]
    assert {r.name for r in asked} == tried.keys()
    for r in asked:
        version = next(iter(tried[r.name].specifier)).version.removesuffix(".*")
        assert r.specifier.contains(Version(version), prereleases=True), f"{file.name}: {tried[r.name]} is below {r}"


def test_there_are_constraints_of_colab_and_of_the_newest():
    assert {file.stem.split("-")[0] for file in CONSTRAINTS} == {"colab", "newest"}


def test_the_workflow_tries_every_file_of_constraints_and_the_whole_of_ci():
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf8")
    stacks = yaml.safe_load(text)["jobs"]["tests"]["strategy"]["matrix"]["include"]
    assert sorted(stack["constraints"] for stack in stacks) == [str(file.relative_to(ROOT)) for file in CONSTRAINTS]
    steps = [text.find(step) for step in ("ruff check", "mypy", 'pytest -m "not slow"', "pytest --nbval tests notebooks")]
    assert -1 not in steps and steps == sorted(steps)


def test_readme_has_the_two_commands_each_on_its_own_line():
    lines = (ROOT / "README.md").read_text(encoding="utf8").splitlines()
    assert RUN in lines and TEST in lines and lines.index(RUN) < lines.index(TEST)


def test_ci_runs_exactly_the_second_command_of_the_readme():
    shown = subprocess.run(["bash", ".ci/run", "--show"], cwd=ROOT, capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, TEST + "\n")
