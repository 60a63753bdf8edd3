"""ImageNet, 1,000 classes of photographs (Deng et al. 2009), in the layouts that generators are trained on.

A class is a folder named by its WordNet id; sorted, those ids are the classes 0 to 999.
Left out on purpose: bounding boxes, the test images.
"""
import json
from pathlib import Path

from ..captions import lines, read_text
from .listing import Listing, choose, first_few, named
from .places import is_in_a_class, is_picture, pictures_in_classes

INDEX = "imagenet_class_index.json"              # {"0": ["n01440764", "tench"], ...}


def imagenet(root: Path, split: str, download: bool) -> Listing:
    """ImageNet: root/train/n01440764/*.JPEG and root/val/n01440764/*.JPEG, or flat root/n01440764_tench.JPEG.

    root/ILSVRC2012_name_train.txt, if it is there, lists the images of a split, one n01440764/file per line.
    Names of classes come from imagenet_class_index.json in the root where there is one, else from the files,
    else they are the ids. Captions: the class's name.
    split: train, val or all. Errors: see open_data."""
    parts = choose(split, {"train": ["train"], "val": ["val"], "all": ["train", "val"]})
    if download:
        raise ValueError("download=True: ImageNet wants your consent to its terms: "
                         "fetch it from image-net.org and unpack it in the root")
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    flat = sorted(path for path in root.glob("n*_*") if is_picture(path))
    pictures = [path for part in parts for path in _pictures(root, part)] or flat
    if not pictures:
        raise FileNotFoundError(f"{root}: no pictures such as {parts[0]}/n01440764/n01440764_18.JPEG")
    ids = [path.parent.name if path.parent != root else path.name.split("_")[0] for path in pictures]
    if odd := sorted({name for name in ids if not (name.startswith("n") and name[1:].isdigit())}):
        raise ValueError(f"{root}: a class of ImageNet is named like n01440764, not {first_few(odd, 3)}")
    names = _names(root)
    words = {name: path.stem.split("_", 1)[1].replace("_", " ")
             for name, path in zip(ids, pictures) if path.parent == root}
    classes = sorted(names or set(ids))
    number = {name: k for k, name in enumerate(classes)}
    if unknown := sorted(set(ids) - set(number)):
        raise ValueError(f"{root / INDEX} does not know {first_few(unknown, 3)}")
    said = [names.get(name) or words.get(name, name) for name in classes]
    return named(said, pictures, [number[name] for name in ids])


def _pictures(root: Path, part: str) -> list[Path]:
    """The images of a split, in the order of its list, or from its folders, sorted."""
    listed = root / f"ILSVRC2012_name_{part}.txt"
    if listed.is_file():
        names = [line.strip() for line in lines(read_text(listed)) if line.strip()]
        if odd := [repr(line[:60]) for line in names if not is_in_a_class(line)]:
            raise ValueError(f"{listed}: these are no pictures of ImageNet: {first_few(odd, 2)}")
        return [root / part / line for line in names]
    return pictures_in_classes(root / part) if (root / part).is_dir() else []


def _names(root: Path) -> dict[str, str]:
    """WordNet id -> name, from imagenet_class_index.json; nothing where there is none."""
    path = root / INDEX
    if not path.is_file():
        return {}
    try:
        rows = json.loads(read_text(path)).values()
        return {number: name.replace("_", " ") for number, name in rows}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: does not map \"0\" ... to [id, name] ({error})") from error
