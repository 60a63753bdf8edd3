"""`t2ilab data`, and the commands that carry runs in and out: `export`, `convert`, `presets`."""
import json
import shlex
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..data.datasets import names_of_datasets
from ..data.web.download import FetchConfig, fetch_list
from ..presets import PRESETS
from .text_tables import print_table
from .train import Word, try_it

DATA_NAMES = f"{names_of_datasets()}; after fetch, a .tsv, .csv or .parquet with captions and addresses"


def data(action: Annotated[Word, tyro.conf.arg(metavar="inspect|fetch")],
         name: Annotated[Word, tyro.conf.arg(metavar="NAME|LIST", help=DATA_NAMES)],
         root: tyro.conf.Positional[Path | None] = None, *, out: Path | None = None, note: str = "",
         download: bool = False, limit: int | None = None, retry_dead: bool = False,
         fetching: FetchConfig = FetchConfig()) -> None:
    """Look at a data set before training on it, or fetch the images of a list of captions and addresses.

    Args:
        action: inspect for counts, sizes, colours, bad files, a contact sheet; fetch for captioned images
        root: folder it lies in
        out: folder for the report, runs/data/NAME if not given; for fetched images, data/LIST if not given
        note: a paragraph to add to the report
        download: fetch the data set if it is not there
        limit: fetch only the first so many rows
        retry_dead: fetch what was dead the last time, too
    """
    from ..evaluation.data_report import facts, inspect
    if action == "fetch":
        out = out or Path("data") / Path(name).stem
        print(fetch_list(name, out, fetching, limit=limit, retry_dead=retry_dead))
        print(f"Look at it: t2ilab data inspect sbu {shlex.quote(str(out))}")
        return
    if action != "inspect":
        raise ValueError(f"data {action}: choose inspect or fetch, as in `t2ilab data inspect {name}`")
    out = out or Path("runs/data") / name
    stats = inspect(name, root, out, note=note, download=download)
    print_table([("fact", "value"), *facts(stats).items()])
    print(f"\nReport with figures: {out / 'README.md'}")


def export(run: Annotated[Word, tyro.conf.arg(metavar="RUN")], out: tyro.conf.Positional[Path],
           cascade: bool = True) -> None:
    """Copy a run's averaged weights in half precision, with its config, into a folder small enough to share.

    Args:
        run: a run's folder, or the name of a run that ships with the project
        out: folder to write
        cascade: the stages that upsample its images too, each into a folder inside of it
    """
    from ..runs.export import export_run
    for folder in export_run(run, out, cascade=cascade):
        print(folder)


def convert(preset: Annotated[Word, tyro.conf.arg(metavar="PRESET")],
            file: Annotated[Word, tyro.conf.arg(metavar="FILE|FOLDER")],
            out: Path | None = None, table: Path | None = None, vocabulary: Path | None = None,
            null_embedding: Literal["learned", "ignore"] = "learned") -> None:
    """Make a run of published weights, to sample from or train on; the file or folder tells what they are.

    Args:
        preset: its configuration, such as glide-base, vq-coco, vq-ithq or ddpm-cifar10
        file: what was published: OpenAI's GLIDE (.pt), the original VQ-Diffusion (.pth),
            diffusers' DDPM (a folder), diffusers' VQ-Diffusion (a folder)
        out: the run's folder; runs/PRESET if not given
        table: of the original VQ-Diffusion, the published list of used codes, such as taming_vqvae_2887.pt
        vocabulary: of GLIDE, the published file of merges, such as vocab.bpe.gz
        null_embedding: of VQ-Diffusion, its embedding for "no caption"; ignore one that was never trained
    """
    from ..pretrained.adapter import Extras
    from ..pretrained.convert import convert as convert_published
    out = out or Path("runs") / preset
    for line in convert_published(preset, Path(file), out, Extras(table, vocabulary, null_embedding)):
        print(line)
    print(f"{out}: a run with the weights of {file}.  {try_it(PRESETS[preset], out)}  "
          f"Train on from it: --init-from {shlex.quote(str(out))}, into another folder")


def presets(as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """List every named run: parameters, resolution, the number it should reach, and the hardware it wants.

    Args:
        as_json: print JSON instead of a table
    """
    from ..runs.export import describe_presets
    rows = describe_presets()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print_table([tuple(rows[0]), *(tuple(map(_cell, row.values())) for row in rows)])


def _cell(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:,}" if isinstance(value, int) else str(value)
