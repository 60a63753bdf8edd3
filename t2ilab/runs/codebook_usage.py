"""Which codebook entries a VQGAN really uses: `t2ilab codebook` counts, so that models can use them alone."""
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..data.loaders import stream
from ..evaluation.reconstruction import count_codes
from ..families.frozen_codec import USED_CODES
from ..hub import reports
from ..training.checkpoint import write_text
from .folder import find
from .load import load
from .train import data_of


def count_used(run: str, n: int, *, data: str | None = None, root: str | None = None) -> tuple[Path, Tensor]:
    """Write which codes a codec uses, most used first: (the file, how often each is used [K] int64).

    The file lies in the codec's folder, or in runs/ for one that ships with the project (`hub.reports`).
    n: images, at most, of the data set that it was trained on, or of another one.
    ValueError for a run that is no codec."""
    found = find(run)
    preset = found.preset
    if preset.family != "vq_codec":
        raise ValueError(f"{run} is no codec: choose a run that was trained as one, such as vq-codec-shapes")
    if n < 1:
        raise ValueError(f"n={n}: choose 1 or more")
    given = {name: value for name, value in (("data", data), ("root", root)) if value is not None}
    dataset, _ = data_of(replace(preset, data=replace(preset.data, **given)))
    pictures = pictures_of(dataset, min(n, len(dataset)), preset.data.workers, run)
    counts = count_codes(load(found).model.codec, pictures)
    order = counts.argsort(descending=True, stable=True)
    path = reports(run) / USED_CODES
    path.parent.mkdir(parents=True, exist_ok=True)
    used = order[:counts.count_nonzero()].tolist()
    write_text(path, json.dumps({"codes": used}) + "\n")
    return path, counts


def pictures_of(dataset, n: int, workers: int, label: str) -> Iterator[Tensor]:
    """n different images of a data set, in batches [B 3 H W], under a progress bar."""
    from tqdm import tqdm
    with tqdm(total=n, desc=label, unit="picture") as bar:
        for start, batch in zip(range(0, n, 32), stream(dataset, batch_size=32, workers=workers)):
            yield batch.images[:n - start]
            bar.update(min(32, n - start))
