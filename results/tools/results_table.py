"""The results tables of README.md, from results/*/metrics.json, and of results/speedrun/README.md, from its
records.json: `python results/tools/results_table.py`.
"""
import json
from pathlib import Path

HERE = Path(__file__).parent.parent
BEGIN, END = "<!-- results: written by results/tools/results_table.py -->", "<!-- end of results -->"
TABLES = {      # a run belongs to the table whose first number it has: {column: key in metrics.json}
    "labels": {"read by the parser": "read", "valid scenes": "valid", "shows its label": "label",
               "labels never trained on": "held_out_label"},
    "captions": {"one object": "one_object", "two objects": "two_objects", "one, never shown": "held_out_one",
                 "two, one never shown": "held_out_two",
                 "all right, one": "one_object_all", "all right, two": "two_objects_all"},
    "enlarging": {"PSNR in dB": "psnr_upsampler", "bicubic's": "psnr_bicubic"},
    "codecs": {"PSNR in dB, one object": "psnr_one_object", "PSNR, two": "psnr_two_objects",
               "still read, one": "read_one_object", "still read, two": "read_two_objects",
               "codes used": "codes_used", "perplexity": "perplexity"},
    "codecs of photographs": {"PSNR in dB": "psnr", "codes used": "codes_used", "perplexity": "perplexity"},
}


def table(columns: dict[str, str], runs: dict[str, dict]) -> str:
    """One Markdown table: one row per run."""
    rows = [f"| run | {' | '.join(columns)} | command |", "|---" * (len(columns) + 2) + "|"]
    for name, m in runs.items():
        cells = " | ".join(shown(m.get(key)) for key in columns.values())
        rows.append(f"| [{name}](results/{name}) | {cells} | `{m['command']}` |")
    return "\n".join(rows)


def shown(value: float | None) -> str:
    """A share as per cent, any other number as it is, a dash for None."""
    if value is None:
        return "–"
    return f"{value:.1%}" if value <= 1 else f"{value:.1f}"


def tables() -> str:
    """All tables, each run in one of them."""
    metrics = {path.parent.name: json.loads(path.read_text(encoding="utf8"))
               for path in sorted(HERE.glob("*/metrics.json"))}
    made = []
    for columns in TABLES.values():
        first = next(iter(columns.values()))
        if runs := {name: m for name, m in metrics.items() if first in m}:
            made.append(table(columns, runs))
    return "\n\n".join(made)


def methods() -> str:
    """The ways to sample codes, for each run that compared them."""
    rows = ["| way to sample | one object | two objects | network calls | most codes decided in a call "
            "| seconds a picture |", "|---" * 6 + "|"]
    for path in sorted(HERE.glob("*/methods.json")):
        found, run = json.loads(path.read_text(encoding="utf8")), path.parent.name
        rows += [_method_row(name, row) for name, row in found.items() if isinstance(row, dict)]
        rows.append(f"\n[{run}](results/{run}), {found['samples']} captions of each kind, the same seeds: "
                    f"`{found['command']}`")
    return "\n".join(rows)


def _method_row(name: str, row: dict) -> str:
    return (f"| {name} | {row['one_object']:.1%} | {row['two_objects']:.1%} | {row['calls']} | "
            f"{max(row['tokens']):.1f} | {row['seconds']:.2f} |")


def records() -> str:
    """The speed runs, in the order in which they were made."""
    rows = ["| what is new | seconds | one object | two objects | seeds | device | command |",
            "|---" * 7 + "|"]
    for row in json.loads((HERE / "speedrun/records.json").read_text(encoding="utf8")):
        scores = " | ".join(shown(row.get(kind)) for kind in ("one_object", "two_objects"))
        rows.append(f"| {row['change']} | {row['seconds']:.0f} | {scores} | {len(row['races'])} "
                    f"| {row['device']} | `{row['command']}` |")
    return "\n".join(rows)


PAGES = {       # file: what stands between its two marks
    HERE.parent / "README.md": lambda: f"{tables()}\n\n{methods()}",
    HERE / "speedrun/README.md": records,
}


def with_table(text: str, table: str) -> str:
    """A page's text with what stands between its two marks replaced."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    for page, made in PAGES.items():
        page.write_text(with_table(page.read_text(encoding="utf8"), made()), encoding="utf8")
