"""Write the results table in README.md from results/*/metrics.json: `python results/table.py`."""
import json
from pathlib import Path

HERE = Path(__file__).parent
BEGIN, END = "<!-- results: written by results/table.py -->", "<!-- end of results -->"


def table() -> str:
    """The Markdown table: one row a run."""
    rows = ["| run | read by the parser | valid scenes | shows its label | labels never trained on | command |", "|---|---|---|---|---|---|"]
    for path in sorted(HERE.glob("*/metrics.json")):
        m = json.loads(path.read_text(encoding="utf8"))
        shares = " | ".join(f"{m[k]:.1%}" for k in ("read", "valid", "label", "held_out_label"))
        rows.append(f"| [{path.parent.name}](results/{path.parent.name}) | {shares} | `{m['command']}` |")
    return "\n".join(rows)


def with_table(readme: str) -> str:
    """README's text with the table between its two marks replaced."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    readme = HERE.parent / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf8")), encoding="utf8")
