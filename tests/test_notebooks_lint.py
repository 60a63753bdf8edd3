"""What a program can check about a lesson: that it opens on GitHub and Colab, replays anywhere, and has the parts every lesson has."""
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
LESSONS = ("01_data_analysis", "02_noising", "03_ddpm", "04_faster_sampling", "05_glide", "06_imagen", "07_codec", "08_vq_diffusion")
FOUND = sorted(p for p in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|mnt|opt|tmp|var)/\w|\b[A-Z]:\\\\?\w")
SPEC = importlib.util.spec_from_file_location("build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)


def code(notebook):
    return [(n, cell, "".join(cell["source"])) for n, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]


def outputs(notebook):
    return [(n, output) for n, cell, _ in code(notebook) for output in cell["outputs"]]


def text(output):
    """What nbval compares of an output: printed text, or the text that stands for a picture."""
    return "".join(output.get("text", output.get("data", {}).get("text/plain", "")))


def exercises(notebook):
    return set(re.findall(r"""check\(["'](\d\d[a-z])["']""", "".join(source for _, _, source in code(notebook))))


# Rules: (notebook, path) -> what is wrong, if anything

def opens_anywhere(notebook, path):
    """One kernel name, no widget state (GitHub refuses it), PNG or JPEG only, light enough for git: photographs may weigh more."""
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3" or notebook["nbformat"] != 4:
        yield "kernelspec is not python3"
    if notebook["metadata"].keys() - {"kernelspec", "language_info", "t2ilab"} or "version" in notebook["metadata"].get("language_info", {}):
        yield f"metadata of one machine: {sorted(notebook['metadata'])}"
    for n, output in outputs(notebook):
        if kinds := output.get("data", {}).keys() - {"text/plain", "text/markdown", "text/html", "image/png", "image/jpeg"}:
            yield f"cell {n} shows {sorted(kinds)}"
    has_photographs = any("image/jpeg" in output.get("data", {}) for _, output in outputs(notebook))
    size, allowed = len(json.dumps(notebook, indent=1)), 600_000 if has_photographs else 300_000
    if size >= allowed:
        yield f"{size // 1000} KB, and at most {allowed // 1000} are allowed"


def is_fresh(notebook, path):
    """Neither a cell, nor the code that it runs, nor a run that it loads has changed since the outputs were made."""
    if notebook["metadata"].get("t2ilab") != {"built_from": build.built_from(notebook, path)}:
        yield "older than what it was built from: run notebooks/build.py"


def is_executed(notebook, path):
    """Every code cell ran, in order, without warnings or errors: outputs come from build.py and never from a hand."""
    cells = [(n, cell) for n, cell, source in code(notebook) if source.strip()]
    if [cell["execution_count"] for _, cell in cells] != list(range(1, len(cells) + 1)):
        yield "not executed from top to bottom: run notebooks/build.py"
    for n, output in outputs(notebook):
        if output.get("name") == "stderr" or output["output_type"] == "error":
            yield f"cell {n} ends in a warning or an error"


def names_no_machine(notebook, path):
    for n, cell in enumerate(notebook["cells"]):
        seen = "".join(cell["source"]) + "".join(text(output) for output in cell.get("outputs", []))
        if found := MACHINE_PATH.search(seen):
            yield f"cell {n} names a place on one machine: {found.group()}"


def has_badge_links_and_setup(notebook, path):
    """All are generated: badge and links below the title, the first code cell, and the links at the end."""
    first = "".join(notebook["cells"][0]["source"]).splitlines()
    if build.badge(path) not in first:
        yield "the first cell has not the badge of its own path: run notebooks/build.py"
    if build.links(path) not in first or "".join(notebook["cells"][-1]["source"]) != build.links(path):
        yield "the first or the last cell has not the links to its neighbours: run notebooks/build.py"
    if code(notebook)[0][2] != build.setup_cell(path):
        yield "the first code cell is not the generated setup cell: run notebooks/build.py"


def reads_well(notebook, path):
    share = sum(cell["cell_type"] == "markdown" for cell in notebook["cells"]) / len(notebook["cells"])
    if not 0.40 <= share <= 0.65:
        yield f"{share:.0%} of the cells are text, and 40 to 65 % are wanted"
    for n, _, source in code(notebook):
        if len(source.splitlines()) > 25:
            yield f"cell {n} has {len(source.splitlines())} lines, and at most 25 are allowed"


def fits_colab(notebook, path):
    for n, _, source in code(notebook):
        if n > 1 and source and (wide := max(map(len, source.splitlines()))) > 100:
            yield f"cell {n} has a line of {wide} characters, and Colab shows 100"


def replays(notebook, path):
    """Nothing that changes from run to run or floods the tests; panels and bars stand under a fixed text, panels with their first picture."""
    for n, _, source in code(notebook):
        if found := re.search(r"clear_output|\binteract\(|\bOutput\(\)|\btqdm\b|\.cuda\(\)|;\s*$|\.svg\b", source):
            yield f"cell {n} uses {found.group()!r}"
        for panel in re.finditer(r"""\bpanel\(\s*["']([^"']+)["']""", source):
            shown = [output for output in notebook["cells"][n]["outputs"] if text(output) == f"<panel {panel[1]}>"]
            if not shown or "image/png" not in shown[0]["data"]:
                yield f"cell {n} does not show <panel {panel[1]}> and its first picture"
        if ".controls[" in source:
            yield f"cell {n} moves a panel: build.py does"
    for n, output in outputs(notebook):
        if re.search(r"[HV]Box\(|Slider\(|object at 0x|NOT OK|NOT YET", text(output)):
            yield f"cell {n} prints {text(output)[:60]!r}"


def has_exercises(notebook, path):
    """Three or more, each left blank here, and solved in the notebook of the same name in solutions/."""
    names = exercises(notebook)
    if len(names) < 3 or any(not name.startswith(path.name[:2]) for name in names):
        yield f"exercises {sorted(names)}: give three or more, named after the lesson"
    solution = path.parent / "solutions" / path.name
    printed = "\n".join(text(output) for _, output in outputs(json.loads(solution.read_text(encoding="utf8")))) if solution.exists() else ""
    solved = set(re.findall(r"(?m)^ok  (\d\d[a-z])$", printed))
    if solved != names:
        yield f"exercises {sorted(names)}, but {solution.relative_to(ROOT)} solves {sorted(solved)}"


EVERYWHERE = (opens_anywhere, is_fresh, is_executed, names_no_machine, has_badge_links_and_setup, fits_colab, replays)
IN_LESSONS = (reads_well, has_exercises)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.relative_to(NOTEBOOKS).as_posix())
def test_notebook_keeps_the_rules(path):
    notebook = json.loads(path.read_text(encoding="utf8"))
    rules = EVERYWHERE + (IN_LESSONS if path.parent == NOTEBOOKS else ())
    assert [f"{rule.__name__}: {wrong}" for rule in rules for wrong in rule(notebook, path)] == []


def test_no_lesson_is_missing():
    if not FOUND:
        pytest.skip("no notebook is written yet")
    assert {NOTEBOOKS / folder / f"{name}.ipynb" for name in LESSONS for folder in ("", "solutions")} <= set(FOUND)


# The rules themselves

def cell(source, count=1, *outputs):
    return {"cell_type": "code", "source": source, "execution_count": count, "outputs": list(outputs), "metadata": {}}


def markdown(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def printed(words, kind="stream", **data):
    return {"output_type": kind, "name": "stdout", "text": words} if kind == "stream" else {"output_type": kind, "data": {"text/plain": words, **data}}


PATH = NOTEBOOKS / "03_ddpm.ipynb"
PANEL = cell('panel("x", draw, {})', 2, printed("<panel x>", "display_data", **{"image/png": ""}))


def notebook(*cells, metadata=None):
    first, last = (markdown(source) for source in (f"# 03\n\n{build.badge(PATH)}\n\n{build.links(PATH)}", build.links(PATH)))
    made = {"nbformat": 4, "metadata": metadata or dict(build.KERNEL), "cells": [first, cell(build.setup_cell(PATH)), *cells, last]}
    made["metadata"].setdefault("t2ilab", {"built_from": build.built_from(made, PATH)})
    return made


def test_a_good_notebook_breaks_no_rule():
    good = notebook(PANEL, cell("1", 3, printed("1", "execute_result", **{"image/png": ""})))
    assert [wrong for rule in EVERYWHERE for wrong in rule(good, PATH)] == []


def test_photographs_may_weigh_more():
    assert not list(opens_anywhere(notebook(cell("1", 2, printed("x" * 300_000, "display_data", **{"image/jpeg": ""}))), PATH))


@pytest.mark.parametrize("rule, bad", [
    (opens_anywhere, notebook(metadata={"kernelspec": {"name": "mine"}})),
    (opens_anywhere, notebook(metadata={**build.KERNEL, "widgets": {}})),
    (opens_anywhere, notebook(cell("1", 2, printed("x", "display_data", **{"image/svg+xml": ""})))),
    (opens_anywhere, notebook(cell("1", 2, printed("x" * 300_000)))),
    (opens_anywhere, notebook(cell("1", 2, printed("x" * 600_000, "display_data", **{"image/jpeg": ""})))),
    (is_fresh, notebook(cell("1", 2), metadata={**build.KERNEL, "t2ilab": {"built_from": "an older state"}})),
    (is_executed, notebook(cell("1", None))),
    (is_executed, notebook(cell("1", 2, {"output_type": "stream", "name": "stderr", "text": "Warning"}))),
    (names_no_machine, notebook(cell("open('/home/me/x')", 2))),
    (has_badge_links_and_setup, {**notebook(), "cells": [cell("1")]}),
    (reads_well, notebook(cell("1\n" * 26, 2), markdown(""), markdown(""))),
    (fits_colab, notebook(cell("1" * 101, 2))),
    (reads_well, notebook(*[cell("1", 2)] * 9)),
    (replays, notebook(cell("plt.plot(x);", 2))),
    (replays, notebook(cell('panel("x", draw, {})', 2, printed("<panel x>", "display_data")))),
    (replays, notebook(PANEL, cell('p.controls["t"].value = 1', 3))),
    (has_exercises, notebook(cell('check("03a", ...)', 2))),
])
def test_a_broken_rule_is_found(rule, bad):
    assert list(rule(bad, PATH))


def test_setup_cell_runs_silently_outside_colab(capfd):
    exec(compile(build.setup_cell(PATH), "setup", "exec"), {})
    assert capfd.readouterr() == ("", "")


def test_setup_cell_on_colab_clones_once_and_moves_no_package(monkeypatch):
    ran = []
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("subprocess.run", lambda command, check: ran.append(command))
    monkeypatch.setattr("os.chdir", lambda folder: ran.append(["cd", folder]))
    exec(compile(build.setup_cell(PATH), "setup", "exec"), {})
    (clone, pip, cd), name = ran, build.repository().rsplit("/", 1)[1]
    assert clone[:2] == ["git", "clone"] and build.repository() in clone and cd == ["cd", f"/content/{name}/notebooks"]
    assert "--no-deps" in pip and not {"torch", "torchvision", "numpy", "pillow", "ipywidgets"} & set(pip)
    exec(compile(build.setup_cell(PATH), "setup", "exec"), {})
    assert sum("pip" in command for command in ran) == 1


def test_badge_links_and_setup_are_put_in_once_and_stay():
    import nbformat
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 03 · DDPM\nyou will"), nbformat.v4.new_code_cell("1")])
    build.dress(made, PATH)
    once = json.dumps(made)
    build.dress(made, PATH)
    assert json.dumps(made) == once and len(made.cells) == 4
    assert made.cells[0].source == f"# 03 · DDPM\n\n{build.badge(PATH)}\n\n{build.links(PATH)}\n\nyou will"
    assert made.cells[-1].source == build.links(PATH)


def test_links_go_to_the_neighbours_and_the_page_of_the_course():
    before, behind = build.links(PATH).split(" · [the course](README.md) · ")
    assert before.startswith("← [02 · ") and before.endswith("](02_noising.ipynb)")
    assert behind.startswith("[04 · ") and behind.endswith("](04_faster_sampling.ipynb) →")
    assert build.links(NOTEBOOKS / "solutions" / PATH.name) == "[the lesson](../03_ddpm.ipynb) · [the course](../README.md)"


def test_what_a_lesson_was_built_from_moves_with_its_code_its_runs_and_its_cells(tmp_path, monkeypatch):
    def made(source):
        return {"cells": [cell(source), markdown("links")]}
    (tmp_path / "t2ilab" / "nets").mkdir(parents=True)
    (tmp_path / "results" / "my-run").mkdir(parents=True)
    files = {"t2ilab/nets/__init__.py": "", "t2ilab/nets/unet.py": "from .layers import a\n", "t2ilab/nets/layers.py": '"""Old."""\na = 1   # one\n',
             "t2ilab/nets/other.py": "b = 1\n", "results/my-run/config.json": "{}"}
    for name, words in files.items():
        (tmp_path / name).write_text(words, encoding="utf8")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    source = 'from t2ilab.nets.unet import a\nload("my-run")'
    first = build.built_from(made(source), PATH)
    for name, words, moves in (("t2ilab/nets/other.py", "b = 2\n", False), ("t2ilab/nets/layers.py", '"""New."""\na = 1  # none\n', False),
                               ("t2ilab/nets/layers.py", "a = 2\n", True), ("results/my-run/config.json", "{ }", True)):
        (tmp_path / name).write_text(words, encoding="utf8")
        assert (build.built_from(made(source), PATH) != first) == moves, name
        (tmp_path / name).write_text(files[name], encoding="utf8")
    assert build.built_from(made(source), PATH) == first != build.built_from(made(source + " "), PATH)


def test_saving_drops_what_belongs_to_one_machine_and_refuses_what_cannot_be_dropped():
    import nbformat
    shown = nbformat.v4.new_output("display_data", {build.WIDGET: {"model_id": "1"}, "text/plain": "<panel x>"}, metadata={"isolated": True})
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[shown], metadata={"collapsed": True, "tags": ["a"]})])
    made.metadata.widgets = {"state": {}}
    build.clean(made)
    assert made.metadata == build.KERNEL and made.cells[0].metadata == {"tags": ["a"]}
    assert made.cells[0].outputs == [{"output_type": "display_data", "data": {"text/plain": "<panel x>"}, "metadata": {}}]
    for name, words in (("stderr", "UserWarning"), ("stdout", f"see {ROOT}/t2ilab")):
        made.cells[0].outputs = [nbformat.v4.new_output("stream", name=name, text=words)]
        with pytest.raises(ValueError, match="cell 0 writes a warning or a path"):
            build.clean(made)
