"""SBU Captions and other fetched URL lists, in the layout that img2dataset and `t2ilab data fetch` write."""
import json
import logging
from pathlib import Path

from ..captions import clean, cleaned, lines, read_text, warn_guessed
from ..decode import SUFFIXES
from .listing import Listing, choose, first_few
from .places import is_data

log = logging.getLogger(__name__)


def sbu(root: Path, split: str, download: bool) -> Listing:
    """SBU Captions as img2dataset writes them: root/sbucaptions/00000/000000000.{jpg,json,txt}.

    That is with --output_format files; or root/00000/... Captions: "caption" in the .json, else the .txt
    beside, one per line. What could not be fetched is left out, with one warning that counts it.
    split: train or all, both the whole set: it was published without splits. No classes.
    Errors: see open_data."""
    choose(split, {"train": True, "all": True})
    if download:
        raise ValueError("download=True: SBU is a list of addresses, not of pictures: "
                         "fetch them with img2dataset --output_format files")
    home = root / "sbucaptions" if (root / "sbucaptions").is_dir() else root
    guessed: list[Path] = []
    entries = [entry for shard in sorted(home.glob("[0-9]*/")) for entry in _entries(shard, guessed)]
    warn_guessed(guessed, home)
    if not entries:
        raise FileNotFoundError(f"{home}: nothing that img2dataset wrote (with --output_format files), "
                                "such as 00000/000000000.json and .jpg")
    missing = [f"{path.relative_to(home).as_posix()}: {why}" for path, _, why in entries if why]
    if len(missing) == len(entries):
        raise ValueError(f"{home}: none of {len(entries)} entries has a picture: {first_few(missing)}")
    if missing:
        log.warning("%s: left out %d of %d entries: %s",
                    home, len(missing), len(entries), first_few(missing))
    good = [(path, texts or ("",)) for path, texts, why in entries if not why]
    paths = [path for path, _ in good]
    captions = [texts for _, texts in good]
    return Listing((), paths, captions, [-1] * len(good))


def _entries(shard, guessed):
    """(path, captions, "") of each entry of a shard, or (name, (), why it is left out)."""
    files = {path.name: path for path in shard.iterdir() if is_data(path.name)}
    pictures = {path.stem: path for path in files.values() if path.suffix.lower() in SUFFIXES}
    noted = {path.stem for path in files.values() if path.suffix == ".json"}
    for stem in sorted(pictures.keys() | noted):
        row, why = _row(files.get(f"{stem}.json"))
        why = why or ("" if stem in pictures else "no picture")
        said = () if why else _said(row) or _beside(files.get(f"{stem}.txt"), guessed)
        yield (shard / stem, (), why) if why else (pictures[stem], said, "")


def _row(path):
    """What img2dataset noted about one entry, and why it is no use; ({}, "") where it noted nothing."""
    try:
        row = json.loads(read_text(path)) if path else {}
    except ValueError:
        row = None
    if not isinstance(row, dict):
        return {}, "its .json is damaged"
    status = row.get("status", "success")
    if status == "success":
        return row, ""
    return row, clean(str(row.get("error_message") or f"status {status}"))


def _said(row):
    """The caption in the .json."""
    return cleaned([row["caption"]]) if isinstance(row.get("caption"), str) else ()


def _beside(path, guessed):
    """The captions in the .txt beside."""
    return cleaned(lines(read_text(path, guessed))) if path else ()
