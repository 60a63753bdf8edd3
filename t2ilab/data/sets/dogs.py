"""Stanford Dogs in its published layout."""
from pathlib import Path

from .listing import Listing, choose, home_of, named
from .places import pictures_in_classes
from .prompt_templates import dog_captions


def dogs(root: Path, split: str, download: bool) -> Listing:
    """Stanford Dogs: root/Images/n02085620-Chihuahua/n02085620_10074.jpg; classes are the breeds.

    They come in the order of their folders.
    split: train and test as root/lists/train_list.mat and test_list.mat say; all is every image, listed or
    not. Without either list there is no test, and train is every image, as in a folder of your own.
    Captions: prompt_templates.dog_captions. Errors: see open_data."""
    if download:
        raise ValueError("download=True: fetch images.tar and lists.tar from "
                         "vision.stanford.edu/aditya86/ImageNetDogs and unpack them in the root")
    home = home_of(root, "Images")
    if not home.is_dir():
        raise FileNotFoundError(f"no folder Images in {home.parent}: "
                                "unpack images.tar of Stanford Dogs (and lists.tar, for the splits) there")
    everything = pictures_in_classes(home)
    if not everything:
        raise ValueError(f"{home}: no pictures in folders such as n02085620-Chihuahua")
    lists = {part: path for part in ("train", "test") for path in _dog_lists(home.parent, part)}
    if split in ("train", "test") and split not in lists and (lists or split == "test"):
        raise ValueError(f"split={split!r}: needs {split}_list.mat (from lists.tar) "
                         f"in {home.parent / 'lists'}; split='all' is every picture")
    listed = choose(split, {"all": None, "train": None, **lists})
    paths = _listed_dogs(home, listed) if listed else everything
    folders = sorted({path.parent.name for path in [*everything, *paths]})
    number = {name: k for k, name in enumerate(folders)}
    labels = [number[path.parent.name] for path in paths]
    return named([_breed(name) for name in folders], paths, labels, dog_captions)


def _dog_lists(home, part):
    """At most one file of a split: in lists/, or where lists.tar was unpacked without a folder of its own."""
    places = (home / "lists", home)
    files = [place / f"{part}_list.mat" for place in places]
    return [path for path in files if path.is_file()][:1]


def _listed_dogs(home, path):
    """The images that a list names, whether they are there or not."""
    from scipy.io import loadmat
    try:
        cells = loadmat(path)["file_list"].ravel()
        return [home / str(cell.item()) for cell in cells]
    except Exception as error:                  # damaged .mat files raise nearly every type there is
        raise ValueError(f"{path}: not in Stanford Dogs' layout: {error!r}") from error


def _breed(folder):
    """"n02099267-flat-coated_retriever" is a flat-coated retriever: only the first hyphen ends the number."""
    return (folder.partition("-")[2] or folder).replace("_", " ")
