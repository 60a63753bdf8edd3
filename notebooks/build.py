"""Write badges and setup cells, run the notebooks, and save what they show: python notebooks/build.py
[03_ddpm.ipynb solutions/03_ddpm.ipynb ...]

Without names: all lessons and all solutions. Outputs are only ever saved by this script, in the fast profile,
with the interpreter that runs it. The repository's address stands in pyproject.toml alone; badge and setup
cell are made from it.
"""
import argparse
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


def dress(notebook, path: Path):
    """Put badge and setup cell where they belong, in place of older ones. The badge stands below the
    title."""
    title, _, rest = notebook.cells[0].source.partition("\n")
    rest = re.sub(r"\[!\[Open in Colab\].*\n*", "", rest).lstrip("\n")
    notebook.cells[0].source = f"{title}\n\n{badge(path)}\n\n{rest}".rstrip()
    if not notebook.cells[1].source.startswith(SETUP.splitlines()[0]):
        notebook.cells.insert(1, nbformat.v4.new_code_cell(id="setup"))
    notebook.cells[1].source = setup_cell(path)


def execute(notebook, folder: Path):
    """Run every cell with this interpreter, in the notebook's own folder. A cell that raises stops the
    build."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient
    os.environ.update(T2ILAB_PROFILE="fast", T2ILAB_STRICT="1", OMP_NUM_THREADS="1")
    # no other python3 on this machine
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    NotebookClient(notebook, km=kernel, resources={"metadata": {"path": str(folder)}},
                   timeout=SECONDS_PER_CELL,
                   iopub_timeout=60, raise_on_iopub_timeout=True, store_widget_state=False).execute()


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
