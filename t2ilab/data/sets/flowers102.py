"""Oxford Flowers102 in its published layout. Copies that differ are read too, with a warning."""
import json
from functools import partial
from pathlib import Path

from ..captions import cleaned, lines, read_text, warn_guessed
from .listing import Listing, choose, home_of, named, unlike_published, warn_unlike
from .prompt_templates import flower_captions


def flowers102(root: Path, split: str, download: bool) -> Listing:
    """Oxford Flowers102: root/flowers-102/{jpg, imagelabels.mat, setid.mat}.

    split: train, val, test or all. Errors: see open_data.
    Captions: those of Reed et al. (2016) where text_c10/class_00001/image_06734.txt, one per line, lies in
    the root or in flowers-102; else prompt_templates.flower_captions. The .mat file and cat_to_name.json
    count classes from 1, our labels (and torchvision's) from 0: name "1" belongs to label 0."""
    from torchvision.datasets import Flowers102
    splits = ["train", "val", "test"]
    parts = choose(split, {part: [part] for part in splits} | {"all": splits})
    home = home_of(root, "flowers-102")
    published = {**dict(Flowers102._file_dict[key] for key in ("label", "setid")), "jpg": None}
    fetch = download and (lambda: Flowers102(home.parent, download=True))
    odd = unlike_published(home, published, fetch, name="flowers102")
    if "is missing" in odd.values():
        missing = ", ".join(name for name, how in odd.items() if how == "is missing")
        raise FileNotFoundError(f"{home}: needs {', '.join(published)}; missing: {missing}")
    flowers = partial(_flowers(odd), loader=lambda path: path)      # paths alone: decode.py opens images
    try:
        sets = [flowers(home.parent, split=part) for part in parts]
    except Exception as error:                  # damaged .mat files raise nearly every type there is
        raise ValueError(f"{home}: .mat files not in Flowers102's layout: {error}") from error
    warn_unlike(home, odd)
    paths, labels = zip(*(s[i] for s in sets for i in range(len(s))))
    listing = named(_flower_names(home, Flowers102.classes), paths, labels, flower_captions)
    said = _described(home)
    captions = [said.get(path.stem) or names for path, names in zip(paths, listing.captions)]
    return listing._replace(captions=captions)


def _described(home):
    """Name of an image -> its captions by people, ten each, where those are there."""
    guessed: list[Path] = []
    files = [path for place in (home.parent, home) for path in place.glob("text_c10/*/image_*.txt")]
    said = {path.stem: cleaned(lines(read_text(path, guessed))) for path in files}
    warn_guessed(guessed, home.parent)
    return said


def _flowers(odd):
    """torchvision's class; for an altered copy, one that does not compare md5 sums."""
    from torchvision.datasets import Flowers102
    unchecked = {key: (name, None) for key, (name, _) in Flowers102._file_dict.items()}
    return type("AlteredFlowers102", (Flowers102,), {"_file_dict": unchecked}) if odd else Flowers102


def _flower_names(home, published):
    """102 names in the order of the labels 0..101, from cat_to_name.json ("1" to "102") if it is there."""
    for path in (home.parent / "cat_to_name.json", home / "cat_to_name.json"):
        if path.is_file():
            try:
                names = json.loads(read_text(path))
                return [names[str(label + 1)] for label in range(102)]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}: does not map \"1\" ... \"102\" to names: {error!r}") from error
    return [name.rstrip("?") for name in published]
