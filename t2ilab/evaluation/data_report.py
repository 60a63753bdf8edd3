"""Look at the data before you train on it: one report for any data set, as numbers, as figures and in words.

Most failed runs fail here: labels off by one, images in the wrong range, empty captions, one class drowning
the others.  Left out on purpose: near-duplicates, faces, offensive content; those need models of their own.
"""
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from ..data.captions import clean
from ..data.datasets import DATASETS, is_drawn, open_data
from ..data.decode import Fit
from ..data.example import ENDLESS
from ..data.image_set import ImageSet
from ..data.loaders import permutation
from ..tensors import from_uint8, generator
from ..viz import notebook, plots

CHANNELS = ("red", "green", "blue")
NOT_READ = {"pictures of other kinds, not read": "left_out", "text files, not read": "unread"}
BINS = 32                                       # of the colour histogram, 8 of the 256 levels each


def inspect(name: str, root, out, *, split: str | None = None, size: int | None = None, note: str = "",
            download: bool = False) -> dict:
    """Statistics of a data set; also writes README.md, stats.json and the figures into the folder out.

    split, size, download: as in open_data (default: everything, as large as its models usually see it).
    note: a paragraph for the report.  Broken files are reported, however many there are.
    Errors: those of open_data.  Lesson: notebooks/01_data_analysis.ipynb"""
    out = Path(out)
    size = size or (32 if is_drawn(name) or name == "cifar10" else 64)
    split = split or ("train" if is_drawn(name) else "all")
    dataset = open_data(name, root, size=size, split=split, download=download, max_broken=1.0)
    title = f"folder: {clean(Path(root).resolve().name)}" if name == "folder" else name
    stats = {"name": name, "title": title, "published": DATASETS[name].published, **statistics(dataset)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "stats.json").write_text(json.dumps(stats, indent=1) + "\n", "utf-8")
    figures = draw(dataset, stats, out)
    (out / "README.md").write_text(markdown(stats, figures, note), "utf-8")
    return stats


# Numbers

def statistics(dataset, *, examples: int = 20_000) -> dict:
    """Counts, class balance, true sizes, colours and captions of any data set, from evenly spaced examples.

    examples: so many at most.  Colours are those the model sees: after crop and resize, in [-1, 1];
    std is over all pixels of all images."""
    from tqdm import tqdm
    n = min(len(dataset), examples if len(dataset) != ENDLESS else 4_000)
    levels, labels = torch.zeros(3, 256, dtype=torch.int64), Counter()
    captions, seen = [], set()
    for k in tqdm(range(n), desc="looking at pictures", delay=10, mininterval=0.5, leave=False):
        index = k * len(dataset) // n
        image, caption, label = dataset.example(index, generator(0, k))
        levels += torch.stack([_histogram(channel) for channel in image])
        labels[label] += 1
        own = dataset.listing.captions[index] if isinstance(dataset, ImageSet) else [caption]
        captions.extend(own)
        seen.add(hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest())
    lost = getattr(dataset, "bad", ())
    bad, listing = [b for b in lost if not b.missing], getattr(dataset, "listing", None)
    sizes = getattr(dataset, "sizes", [(dataset.size, dataset.size)])
    return {"examples": None if len(dataset) == ENDLESS else len(dataset),
            "looked_at": n, "duplicates": n - len(seen),
            "broken": len(bad), "broken_files": [[clean(b.name), b.reason] for b in bad[:50]],
            **_counted("missing", [b.name for b in lost if b.missing]),
            **_counted("left_out", getattr(listing, "left_out", ())),
            **_counted("unread", getattr(listing, "unread", ())),
            "classes": {name: labels[k] for k, name in enumerate(dataset.classes)},
            "no_label": labels[-1], "sizes": _sizes(sizes), "seen_at": dataset.size,
            "colours": _colours(levels), "captions": _captions(captions)}


def _histogram(channel):
    """How often each of the 256 levels occurs in a channel [H W] uint8: [256] int64."""
    return torch.bincount(channel.flatten().long(), minlength=256)


def _counted(what, names):
    """How many files there are of a kind, and the first 50."""
    return {what: len(names), f"{what}_files": [clean(name) for name in names[:50]]}


def _sizes(sizes):
    """[smallest, median, largest] of widths, heights and shorter sides, in pixels."""
    sides = {"width": [w for w, _ in sizes], "height": [h for _, h in sizes],
             "shorter_side": [min(s) for s in sizes]}
    spread = {what: [min(v), median(v), max(v)] for what, v in sides.items()}
    square = sum(w == h for w, h in sizes) / len(sizes)
    return {**spread, "distinct": len(set(sizes)), "square": square}


def _colours(levels):
    """Mean, std (in [-1, 1]) and histogram (shares) of each channel.  levels: [3 256], counts per level."""
    share = levels.double() / levels.sum(1, keepdim=True)
    value = from_uint8(torch.arange(256)).double()
    mean = (share * value).sum(1)
    # one flat colour: the difference may round below 0
    std = ((share * value**2).sum(1) - mean**2).clamp(min=0).sqrt()
    histogram = share.view(3, BINS, -1).sum(-1)
    return {channel: {"mean": round(mean[c].item(), 4), "std": round(std[c].item(), 4),
                      "histogram": [round(v, 5) for v in histogram[c].tolist()]}
            for c, channel in enumerate(CHANNELS)}


def _captions(captions):
    lengths = [len(caption.split()) for caption in captions]
    found = (re.findall(r"[\w'-]+", caption.lower()) for caption in captions)
    words = Counter(word for some in found for word in some)
    return {"all": len(captions), "distinct": len(set(captions)), "empty": lengths.count(0),
            "words": [min(lengths), median(lengths), max(lengths)],
            "lengths": dict(sorted(Counter(lengths).items())),
            "vocabulary": len(words), "most_common": words.most_common(20)}


# Figures

def draw(dataset, stats: dict, out: Path) -> dict[str, str]:
    """Write the figures into out: file name -> what to look for.

    Only those that say something about this data set."""
    figures = {"pictures.png": "What the model sees: pictures taken at random, cropped and resized, "
                               "with a caption each."}
    picks = range(32) if len(dataset) == ENDLESS else permutation(1, 0, len(dataset))[:32].tolist()
    examples = [dataset.example(i, generator(1, i)) for i in picks]
    images = from_uint8(torch.stack([e.image for e in examples]))
    notebook.show_grid(images, [e.caption for e in examples], path=out / "pictures.png")
    for make in (_draw_classes, _draw_sizes, _draw_colours, _draw_captions, _draw_augmentations):
        figures |= make(dataset, stats, out)
    return figures


def _draw_classes(dataset, stats, out):
    counts = stats["classes"]
    never = ", ".join(name for name, count in counts.items() if not count)
    if len(counts) < 2:
        return {}
    if len(counts) <= 30:
        plots.plot_bars({"pictures": counts}, ylabel="pictures", title="pictures per class",
                        path=out / "classes.png")
        return {"classes.png": "Class balance. A model draws what it saw often better than "
                               "what it saw rarely."
                + (f" No picture at all: {never}." if never else "")}
    ordered = sorted(counts.values(), reverse=True)
    curve = {"pictures": (range(1, len(ordered) + 1), ordered)}
    plots.plot_lines(curve, xlabel="classes, largest first", ylabel="pictures", title="pictures per class",
                     path=out / "classes.png")
    return {"classes.png": "Class balance, largest class first. Flat would be balanced; "
                           "a model sees the classes on the left more often."}


def _draw_sizes(dataset, stats, out):
    if stats["sizes"]["distinct"] < 2:
        return {}
    widths, heights = zip(*dataset.sizes[::max(1, len(dataset.sizes) // 2000)])
    plots.plot_points({"pictures": (widths, heights)}, xlabel="width, pixels", ylabel="height, pixels",
                      title="true sizes", path=out / "sizes.png")
    return {"sizes.png": "True sizes before anything is resized. "
                         "A point far from the diagonal loses much of its picture to a square crop."}


def _draw_colours(dataset, stats, out):
    centres = [(k + 0.5) * 2 / BINS - 1 for k in range(BINS)]
    curves = {channel: (centres, stats["colours"][channel]["histogram"]) for channel in CHANNELS}
    plots.plot_lines(curves, xlabel="pixel value (-1 black, 1 full)", ylabel="share of pixels",
                     title="colours", path=out / "colours.png")
    return {"colours.png": "How often each brightness occurs, for red, green and blue. "
                           "Values must fill -1 to 1: if they lie in 0 to 1 or in 0 to 255, "
                           "the pictures were scaled wrongly."}


def _draw_captions(dataset, stats, out):
    captions = stats["captions"]
    fewest, _, most = captions["words"]
    if most < 2:                                # no captions, or single words that the classes show already
        return {}
    plots.plot_bars({"times": dict(captions["most_common"])}, ylabel="times",
                    title="the most common words", path=out / "words.png")
    figures = {"words.png": "The most common words of the captions. "
                            "A word that never occurs here is a word the model cannot learn."}
    if len(captions["lengths"]) > 1:
        lengths = {n: captions["lengths"].get(n, 0) for n in range(fewest, most + 1)}
        labels = {"xlabel": "words in the caption", "ylabel": "captions", "title": "length of captions",
                  "path": out / "lengths.png"}
        if len(lengths) <= 24:                  # more numbers than that do not fit below the bars
            plots.plot_bars({"captions": lengths}, **labels)
        else:
            plots.plot_lines({"captions": (list(lengths), list(lengths.values()))}, **labels)
        figures["lengths.png"] = ("How long captions are. "
                                  "The text encoder must have room for the longest, or it is cut.")
    return figures


def _draw_augmentations(dataset, stats, out):
    """The same images under each choice of crop and flip; none for scenes, which are drawn, not cropped."""
    if not isinstance(dataset, ImageSet):
        return {}
    picks = permutation(1, 0, len(dataset))[:4].tolist()
    def fitted(crop, seed):
        cropped = replace(dataset, fit=Fit(dataset.size, crop))
        return from_uint8(torch.stack([cropped.example(i, generator(seed, i)).image for i in picks]))
    centre = fitted("centre", 0)
    frames = [centre, fitted("random", 1), fitted("random", 2), centre.flip(-1)]
    notebook.film_strip(frames, ["centre", "random", "random again", "mirrored"],
                        path=out / "augmentations.png")
    return {"augmentations.png": "The same pictures under each option. The random crop moves along the "
                                 "longer side, so a square picture stays as it is; flip mirrors every "
                                 "second picture by chance. Never flip where captions say left or right."}


# Words

def facts(stats: dict) -> dict[str, str]:
    """The statistics in a few lines, what -> value: the report's table, and what the command line prints."""
    sizes, captions, counts = stats["sizes"], stats["captions"], stats["classes"]
    left_out = {what: f"{stats[key]:,}, such as {stats[f'{key}_files'][0]}"
                for what, key in NOT_READ.items() if stats[key]}
    lines = {"pictures": "endless, drawn afresh" if stats["examples"] is None else f"{stats['examples']:,}",
             "looked at": f"{stats['looked_at']:,}",
             "broken files, skipped": f"{stats['broken']:,}", "missing files": f"{stats['missing']:,}",
             **left_out,
             "exact duplicates": f"{stats['duplicates']:,} (compared at {stats['seen_at']} px)",
             "classes": str(len(counts) or "none")}
    if counts:
        ordered = sorted(counts, key=counts.get)
        rarest, commonest = ordered[0], ordered[-1]
        lines |= {"largest class": f"{commonest}: {counts[commonest]:,}",
                  "smallest class": f"{rarest}: {counts[rarest]:,}",
                  "without a label": f"{stats['no_label']:,}"}
    spread = "smallest {:g}, median {:g}, largest {:g} px"
    lines |= {what: spread.format(*sizes[what.replace(" ", "_")])
              for what in ("width", "height", "shorter side")}
    moments = "mean {mean:+.3f}, std {std:.3f}"
    lines |= {f"{channel}, in [-1, 1]": moments.format(**stats["colours"][channel]) for channel in CHANNELS}
    return lines | {"captions": f"{captions['all']:,}",
                    "words a caption": "fewest {:g}, median {:g}, most {:g}".format(*captions["words"]),
                    "empty captions": f"{captions['empty']:,}",
                    "different captions": f"{captions['distinct']:,}",
                    "different words": f"{captions['vocabulary']:,}"}


def markdown(stats: dict, figures: dict[str, str], note: str = "") -> str:
    """The report in Markdown. figures: file name -> what to look for."""
    name, published, here = stats["name"], stats["published"], stats["examples"]
    command = f"t2ilab data inspect {name}{'' if name == 'shapes' else ' ROOT'}"
    parts = [f"# {stats['title']}", f"Made by `{command}`; the same numbers are in [stats.json](stats.json)."]
    if published and here < published:
        parts.append(f"This copy holds {here:,} of the {published:,} published pictures: "
                     "the numbers below are those of the sample.")
    parts += [note] if note else []
    rows = [f"| {what} | {value} |" for what, value in facts(stats).items()]
    parts.append("\n".join(["| | |", "|---|---|", *rows]))
    parts += [f"{text}\n\n![{file.removesuffix('.png')}]({file})" for file, text in figures.items()]
    if stats["broken"]:
        names = "\n".join(f"- `{file}`: {why}" for file, why in stats["broken_files"])
        parts.append(f"Broken files (the first 50):\n\n{names}")
    if stats["missing"]:
        names = "\n".join(f"- `{file}`" for file in stats["missing_files"])
        parts.append(f"Missing files (the first 50):\n\n{names}")
    return "\n\n".join(parts) + "\n"
