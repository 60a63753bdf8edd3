"""Write the results tables in README.md from results/*/metrics.json: `python
results/tools/results_table.py`."""
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
    """One Markdown table: one row a run."""
    rows = [f"| run | {' | '.join(columns)} | command |", "|---" * (len(columns) + 2) + "|"]
    for name, m in runs.items():
        cells = " | ".join(shown(m.get(key)) for key in columns.values())
        rows.append(f"| [{name}](results/{name}) | {cells} | `{m['command']}` |")
    return "\n".join(rows)


def shown(value: float | None) -> str:
    """A share as per cent, any other number as it is, a dash for none:
    models that read no labels have no number for them."""
    return "–" if value is None else f"{value:.1%}" if value <= 1 else f"{value:.1f}"


def tables() -> str:
    """All tables, each run in one of them."""
    runs_found = {path.parent.name: json.loads(path.read_text(encoding="utf8"))
                  for path in sorted(HERE.glob("*/metrics.json"))}
    found = ((columns, {name: m for name, m in runs_found.items() if next(iter(columns.values())) in m})
             for columns in TABLES.values())
    return "\n\n".join(table(columns, runs) for columns, runs in found if runs)


def methods() -> str:
    """The ways to sample codes, for each run that compared them."""
    rows = ["| way to sample | one object | two objects | network calls | most codes decided in a call | "
            "seconds a picture |", "|---" * 6 + "|"]
    for path in sorted(HERE.glob("*/methods.json")):
        found = json.loads(path.read_text(encoding="utf8"))
        rows += [f"| {name} | {row['one_object']:.1%} | {row['two_objects']:.1%} | {row['calls']} | "
                 f"{max(row['tokens']):.1f} | "
                 f"{row['seconds']:.2f} |" for name, row in found.items() if isinstance(row, dict)]
        rows.append(f"\n[{path.parent.name}](results/{path.parent.name}), {found['samples']} captions of "
                    f"each kind, the same seeds: `{found['command']}`")
    return "\n".join(rows)


def with_table(readme: str) -> str:
    """README's text with the tables between its two marks replaced."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n\n{methods()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    readme = HERE.parent / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf8")), encoding="utf8")
