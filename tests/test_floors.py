"""The shape of the house: imports go down only, heavy packages load late, functions and files stay short, nothing unknown lies at the top."""
import ast
import statistics
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"tensors": 0, "hub": 0, "config_json": 0, "ranges": 0, "diffusion": 1, "nets": 1, "data": 1, "viz": 1, "training": 2, "vqgan": 2, "pipeline": 2,
          "text": 3, "evaluation": 4, "families": 4, "presets": 5, "runs": 6, "pretrained": 6, "teach": 6, "cli": 7, "__init__": 8, "__main__": 8}
TOP = {".ci", ".gitattributes", ".github", ".gitignore", "LICENSE", "README.md", "conftest.py", "data_analysis", "environment.yml", "notebooks", "pyproject.toml",
       "results", "t2ilab", "tests"}
HEAVY = {"torchvision", "transformers", "datasets", "accelerate", "matplotlib", "ipywidgets", "diffusers", "torchmetrics", "tensorboard"}
MODULES = {".".join(p.relative_to(ROOT / "t2ilab").with_suffix("").parts): ast.parse(p.read_text(encoding="utf8"))
           for p in sorted((ROOT / "t2ilab").rglob("*.py"))}


def imports(name, tree):
    """Every module that a module imports, at the top or inside functions; our own as "data.shapes", those of others as "/numpy"."""
    package = name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "t2ilab" else [node.module]
        elif isinstance(node, ast.ImportFrom):
            base = ["t2ilab", *package[:len(package) - node.level + 1], *(node.module or "").split(".")]
            base = ".".join(part for part in base if part)
            found = [base] if node.module else [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (f.removeprefix("t2ilab.") if f.split(".")[0] == "t2ilab" else f"/{f}" for f in found)


def misplaced(modules):
    """Sentences on every import that does not go down: to a lower floor, or to a sibling of its own package."""
    for name, tree in modules.items():
        home = name.split(".")[0]
        for target in imports(name, tree):
            there = target.split(".")[0]
            if target.startswith("/") or target == "__version__" or there == home and "." in name:
                continue
            if FLOORS[there] > FLOORS[home] or FLOORS[there] == FLOORS[home] != FLOORS["cli"]:
                yield f"{name} (floor {FLOORS[home]}) imports {target} (floor {FLOORS[there]})"


def test_every_module_has_a_floor_and_every_floor_a_module():
    assert {name.split(".")[0] for name in MODULES} == FLOORS.keys()


def storeys():
    """The floors in words, from the ground up."""
    rooms = [[name for name, floor in FLOORS.items() if floor == n and not name.startswith("__")] for n in sorted(set(FLOORS.values()))]
    return " → ".join(", ".join(names) for names in rooms if names)


@pytest.mark.parametrize("page", ["README.md", ".github/CONTRIBUTING.md"])
def test_the_floors_are_told_as_they_are(page):
    words = " ".join((ROOT / page).read_text(encoding="utf8").replace(" (`tests/test_floors.py`)", "").split())
    assert f"Inside the package, each floor imports only from floors on its left: {storeys()}." in words


def test_readme_names_the_folders_at_the_top():
    words = (ROOT / "README.md").read_text(encoding="utf8").split("## Layout\n")[1].split()
    folders = {name for name in TOP if (ROOT / name).is_dir() and not name.startswith(".")}
    assert {word.strip("`/.") for word in words if word.startswith("`") and "/`" in word} == folders


def test_imports_go_down_only():
    assert list(misplaced(MODULES)) == []


def test_siblings_import_each_other_in_one_order():
    order = {name: {t for t in imports(name, tree) if t in MODULES and t != name} for name, tree in MODULES.items() if name != "__init__"}
    TopologicalSorter(order).prepare()                              # CycleError names the modules that import each other


@pytest.mark.parametrize("name, line", [
    ("diffusion.gaussian", "from ..nets import unet"), ("diffusion.gaussian", "from t2ilab.nets.unet import UNet"), ("nets.unet", "import t2ilab.data"),
    ("tensors", "from .viz import show"), ("training.fit", "def f():\n    from ..pipeline import Stage"), ("data.image_set", "from .. import viz")])
def test_an_import_that_goes_up_or_sideways_is_found(name, line):
    assert len(list(misplaced({name: ast.parse(line)}))) == 1


def borrowed(name, tree):
    """Private names that a module takes from another module of ours: imported, or asked of one that it imported."""
    package, ours = name.split(".")[:-1], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "t2ilab"):
            base = package[:len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(part for part in (node.module or "").split(".") if part not in ("", "t2ilab"))])
            ours |= {alias.asname or alias.name for alias in node.names if f"{source}.{alias.name}".strip(".") in MODULES}
            yield from (f"{source}.{alias.name}" for alias in node.names if is_private(alias.name))
    yield from (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)
                and isinstance(node.value, ast.Name) and node.value.id in ours)


def is_private(name):
    """Whether a name is its module's own: _name, not __name__."""
    return name.startswith("_") and not name.startswith("__")


def test_no_module_uses_anothers_private_name():
    assert [(name, taken) for name, tree in MODULES.items() for taken in borrowed(name, tree)] == []


@pytest.mark.parametrize("name, line", [
    ("data.sets.coco", "from .listing import _compare"), ("runs.train", "from t2ilab.runs.log import _Logger"), ("runs.train", "def f():\n    from .log import _Logger"),
    ("cli.train", "from ..text import tokenizer\ntokenizer._learn()"), ("cli.train", "from ..text import tokenizer as t\nt._learn()")])
def test_a_private_name_that_is_taken_is_found(name, line):
    assert len(list(borrowed(name, ast.parse(line)))) == 1


def test_only_viz_imports_matplotlib_and_ipywidgets():
    users = {name for name, tree in MODULES.items() for t in imports(name, tree) if t.split(".")[0] in ("/matplotlib", "/ipywidgets", "/IPython")}
    assert users == {"viz.diagram", "viz.notebook", "viz.plots"}


@pytest.mark.slow
def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, t2ilab, t2ilab.viz, t2ilab.teach; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert "t2ilab" in loaded and HEAVY.isdisjoint(loaded)


def test_only_known_things_lie_at_the_top():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git clone with files in it")
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} <= TOP


def test_functions_are_short():
    lengths = [length(node) for tree in MODULES.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert statistics.median(lengths) <= 8 and statistics.quantiles(lengths, n=10)[-1] <= 25


def length(function):
    """Lines of a function without its docstring."""
    doc = function.body[0] if ast.get_docstring(function) is not None else None
    return function.end_lineno - function.lineno + 1 - (doc.end_lineno - doc.lineno + 1 if doc else 0)


def test_no_file_is_longer_than_320_lines():
    files = [*(ROOT / "t2ilab").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "notebooks").glob("*.py")]
    assert [p.name for p in files if len(p.read_text(encoding="utf8").splitlines()) > 320] == []


def test_every_module_says_what_it_is():
    assert [name for name, tree in MODULES.items() if tree.body and not ast.get_docstring(tree)] == []
    assert not any(name.split(".")[-1] in ("utils", "helpers", "misc") for name in MODULES)


def forbidden(tree):
    """Lines of code that the house does not allow, with the reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called == "torch.load" and given.get("weights_only") != "True":
            yield node.lineno, "torch.load without weights_only=True"
        if called.endswith(".cuda"):
            yield node.lineno, ".cuda()"
        if called in ("pickle.load", "pickle.loads", "eval", "exec"):
            yield node.lineno, called


def test_no_forbidden_line_stands_in_the_package():
    assert [(name, *found) for name, tree in MODULES.items() for found in forbidden(tree)] == []


@pytest.mark.parametrize("code", [
    "torch.load(f)", "torch.load(f, weights_only=False)", "net.cuda()", "try:\n    f()\nexcept:\n    pass", "pickle.load(f)"])
def test_a_forbidden_line_is_found(code):
    assert len(list(forbidden(ast.parse(code)))) == 1
