"""Tables of plain text, for the terminal."""
from collections.abc import Sequence


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of words, each column as wide as its longest."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def print_comparison(result: dict) -> None:
    """Print what was compared, one row each with its numbers and short lists, then what else there is."""
    rows = {name: _short(row) for name, row in result.items() if isinstance(row, dict)}
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    if columns:
        cells = [(name, *(str(row.get(key, "")) for key in columns)) for name, row in rows.items()]
        print_table([("", *columns), *cells])
    print_table([(name, str(value)) for name, value in result.items() if not isinstance(value, dict)])


def _short(row: dict) -> dict:
    """A row without the lists that are too long to print."""
    return {key: v for key, v in row.items() if not isinstance(v, list) or len(v) <= 8}
