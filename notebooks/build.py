"""Write badges and setup cells, run the notebooks, and save what they show: python notebooks/build.py
[03_ddpm.ipynb solutions/03_ddpm.ipynb ...]

Without names: all lessons and all solutions. Outputs are only ever saved by this script, in the fast profile,
with the interpreter that runs it, together with a digest of what they were made from: where that has moved, a
test says so. The repository's address stands in pyproject.toml alone; badge, links and setup cell are made
here. After the last cell each panel of a lesson is moved, and nothing of that is saved.
"""
import argparse
import ast
import hashlib
import os
import re
import tomllib
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parent
ROOT = NOTEBOOKS.parent
SECONDS_PER_CELL = 600
COLAB_LACKS = ("tyro", "docstring-parser", "typeguard")      # pure Python, so nothing else has to move
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
          "language_info": {"name": "python"}}
PANELS = """\
for _panel in [thing for thing in list(globals().values()) if type(thing).__name__ == "Panel"]:
    for _label, _control in _panel.controls.items():
        _before, _values = _panel.image.value, [value for _, value in getattr(_control, "options", ())]
        for _value in _values[::-1]:
            _control.value = _value
            assert not _panel.message, f"{_panel} at {_label}={_value}: {_panel.message}"
            assert _value == _values[0] or _panel.image.value != _before or _value != _values[-1], \\
                f"{_panel}: {_label}={_value} changes nothing"
"""
WIDGET = "application/vnd.jupyter.widget-view+json"

SETUP = """\
#@title Setup: gets the course on Colab, does nothing elsewhere
import importlib.metadata, importlib.util, os, subprocess, sys

if "google.colab" in sys.modules:
    kept = ("torch", "torchvision", "numpy", "pillow", "ipywidgets")
    before = [importlib.metadata.version(name) for name in kept]
    if not os.path.isdir("/content/{name}"):
        subprocess.run(["git", "clone", "-q", "--depth", "1", "{url}", "/content/{name}"], check=True)
    if "/content/{name}" not in sys.path:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "-e", "/content/{name}"]
        subprocess.run([*pip, {packages}], check=True)
        sys.path.insert(0, "/content/{name}")
    os.chdir("/content/{name}/{folder}")
    assert before == [importlib.metadata.version(name) for name in kept], "a package moved: choose Runtime > Restart session"
    import torch
    if not torch.cuda.is_available():
        print("No GPU. For one: Runtime > Change runtime type > T4 GPU. Without one the lesson goes on, in its fast profile.")
elif importlib.util.find_spec("{name}") is None:
    sys.path.insert(0, "{up}")"""


def repository() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"].rstrip("/")


def badge(path: Path) -> str:
    """The Colab badge of a notebook, as one line of Markdown."""
    address = repository().replace("https://github.com", "https://colab.research.google.com/github")
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address}/blob/main/{path.relative_to(ROOT).as_posix()})"


def setup_cell(path: Path) -> str:
    """The first code cell of a notebook: quick, safe to run twice, silent outside Colab."""
    url, folder = repository(), path.parent.relative_to(ROOT)
    packages = ", ".join(f'"{package}"' for package in COLAB_LACKS)
    return SETUP.format(name=url.rsplit("/", 1)[1], url=url, folder=folder.as_posix(), packages=packages,
                        up="/".join([".."] * len(folder.parts)))


def title(path: Path) -> str:
    """The heading of a notebook, such as "03 · DDPM"."""
    first = nbformat.read(path, as_version=4).cells[0].source
    return first.splitlines()[0].lstrip("# ")


def links(path: Path) -> str:
    """One line of Markdown: the lesson before, the course, and the lesson behind; a solution's: its lesson."""
    if path.parent != NOTEBOOKS:
        return f"[the lesson](../{path.name}) · [the course](../README.md)"
    lessons = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    k = lessons.index(path) if path in lessons else len(lessons)
    before = [f"← [{title(p)}]({p.name})" for p in lessons[max(k - 1, 0):k]]
    behind = [f"[{title(p)}]({p.name}) →" for p in lessons[k + 1:k + 2]]
    return " · ".join([*before, "[the course](README.md)", *behind])


def dress(notebook, path: Path):
    """Put badge, links and setup cell where they belong, in place of older ones: badge and links below the
    title, the links once more at the end."""
    heading, _, rest = notebook.cells[0].source.partition("\n")
    rest = re.sub(r"\[!\[Open in Colab\].*\n*|.*\[the course\]\(.*\n*", "", rest).lstrip("\n")
    notebook.cells[0].source = f"{heading}\n\n{badge(path)}\n\n{links(path)}\n\n{rest}".rstrip()
    if not notebook.cells[1].source.startswith(SETUP.splitlines()[0]):
        notebook.cells.insert(1, nbformat.v4.new_code_cell(id="setup"))
    notebook.cells[1].source = setup_cell(path)
    if notebook.cells[-1].id != "links":
        notebook.cells.append(nbformat.v4.new_markdown_cell(id="links"))
    notebook.cells[-1].source = links(path)


# What a notebook was built from

def modules_of(names: set[str]) -> set[Path]:
    """The files of the package that some modules are made of: their own, and all that these import."""
    found, waiting = set(), [tuple(name.split(".")) for name in names]
    while waiting:
        parts = waiting.pop()
        if len(parts) > 2:
            waiting.append(parts[:-1])                       # a package runs before what lies in it
        file = ROOT.joinpath(*parts)
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        if not file.exists() or file in found:
            continue
        found.add(file)
        package = parts if file.name == "__init__.py" else parts[:-1]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = (*package[:len(package) - node.level + 1], *(node.module or "").split("."))
                base = tuple(part for part in base if part)
                waiting += [base, *((*base, alias.name) for alias in node.names)]
    return found


def what_runs(file: Path) -> str:
    """The code of a module without docstrings, comments and blanks: what a picture can depend on. (What a
    lesson prints of the rest, nbval compares.)"""
    text = file.read_text(encoding="utf8")
    lines = [line.partition("#")[0] for line in text.splitlines()]
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(node.value.value, str):
            lines[node.lineno - 1:node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "".join("".join(lines).split())


def runs_of(text: str) -> set[Path]:
    """The folders in results/ that a text names, and those that their configs name."""
    folders = {path for path in (ROOT / "results").iterdir() if path.is_dir()}
    found, waiting = set(), [text]
    while waiting:
        words = set(re.findall(r"[\w-]+", waiting.pop()))
        new = {path for path in folders if path.name in words} - found
        found |= new
        waiting += [(path / "config.json").read_text(encoding="utf8") for path in new
                    if (path / "config.json").exists()]
    return found


def built_from(notebook, path: Path) -> str:
    """A digest of all that decides what a notebook shows: its code, the modules and runs that it uses."""
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"]
                     if cell["cell_type"] == "code")
    names = set(re.findall(r"(?:from|import) (t2ilab[\w.]*)", code))
    other = re.compile(rf"lesson_(?!{path.name[:2]})\d\d\.py")          # checkers of other lessons
    modules = [file for file in modules_of(names) if not other.fullmatch(file.name)]
    runs = [file for run in runs_of(code) for file in run.iterdir()
            if file.suffix in (".json", ".safetensors")]
    digest = hashlib.sha256(code.encode())
    for file in sorted(modules):
        digest.update(what_runs(file).encode())
    for file in sorted(runs):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def execute(notebook, folder: Path):
    """Run every cell with this interpreter, in the notebook's own folder, then move each panel. A cell that
    raises stops the build."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient
    os.environ.update(T2ILAB_PROFILE="fast", T2ILAB_STRICT="1", OMP_NUM_THREADS="1")
    # no other python3 on this machine
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    notebook.cells.append(nbformat.v4.new_code_cell(PANELS))
    NotebookClient(notebook, km=kernel, resources={"metadata": {"path": str(folder)}},
                   timeout=SECONDS_PER_CELL,
                   iopub_timeout=60, raise_on_iopub_timeout=True, store_widget_state=False).execute()
    notebook.cells.pop()


def clean(notebook):
    """Drop what differs from machine to machine. What cannot be dropped without changing what a reader sees
    is a ValueError."""
    notebook.metadata = nbformat.from_dict(KERNEL)
    for number, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items()
                                            if key == "tags"})
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)  # a dead view shows an error; the text beside it stays
            output.get("metadata", {}).clear()
            if output.get("name") == "stderr" or str(ROOT) in str(output):
                raise ValueError(
                    f"cell {number} writes a warning or a path of this machine: {str(output)[:500]}"
                )


def build(path: Path):
    notebook = nbformat.read(path, as_version=4)
    dress(notebook, path)
    execute(notebook, path.parent)
    clean(notebook)
    notebook.metadata["t2ilab"] = {"built_from": built_from(notebook, path)}
    nbformat.write(notebook, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks below notebooks/ (default: all)")
    names = parser.parse_args().names
    for path in [NOTEBOOKS / name for name in names] or sorted(NOTEBOOKS.rglob("[0-9][0-9]_*.ipynb")):
        build(path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
