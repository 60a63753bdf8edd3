"""Preset: a model, its data set, how it trains and how it is saved; and the parts they share."""
from dataclasses import asdict, dataclass, field
from typing import Annotated, Generic, TypeVar

import tyro

from ..data.datasets import names_of_datasets
from ..families import FamilyConfig, family_of
from ..ranges import check_ranges
from ..training.fit import FitConfig


@dataclass(frozen=True)
class DataConfig:
    """The data set of a run, and how its images are read."""
    data: Annotated[str, tyro.conf.arg(help=f"data set: {names_of_datasets()}")] = "shapes"
    root: str | None = None             # folder it lies in; none needed for shapes
    split: str = "train"                # part of it to train on
    crop: str = "centre"                # centre or random
    flip: bool = False                  # mirror half of the images
    limit: int | None = None            # use only so many examples, evenly spaced
    download: bool = False              # fetch the data set if it is not there
    max_broken: float = 0.01            # share of images that may be broken or missing
    workers: int = 0                    # processes that read images ahead
    validation: float = 0.0             # share held back to measure the loss on; fresh ones if it is endless

    def __post_init__(self):
        check_ranges(self)


@dataclass(frozen=True)
class SaveConfig:
    """How often a run is saved, sampled from and validated."""
    checkpoint_steps: int = 0           # save every so many steps; 0 = by time only
    checkpoint_seconds: float = 300.0   # save when this long has passed since the last time
    keep: int = 2                       # checkpoints to keep
    sample_steps: int = 1000            # draw a grid of samples every so many steps; 0 = never
    validate_steps: int = 1000          # measure the loss on what is held back every so many steps; 0 = never

    def __post_init__(self):
        check_ranges(self)


# ---- parts that several presets share ----

SCENES = DataConfig("shapes")
SCENES_ONE = DataConfig("shapes-one")
FLOWERS102 = DataConfig("flowers102", split="all", crop="random", flip=True, workers=4)
FOLDER = DataConfig("folder", workers=8)

# trains models of the scenes on a laptop
LAPTOP = FitConfig(batch_size=32, lr=2e-3, optimizer="muon", decay="linear", ema_decay=0.998)

SAMPLES_5K = SaveConfig(sample_steps=5_000)
SAMPLES_10K = SaveConfig(sample_steps=10_000)
HOURLY = SaveConfig(checkpoint_seconds=3600)
SLOWLY = SaveConfig(checkpoint_seconds=3600, sample_steps=10_000)

# ---- the preset ----

Family = TypeVar("Family", bound=FamilyConfig)


@dataclass(frozen=True)
class Preset(Generic[Family]):
    """A named run: model, data, training and saving, and the number it should reach."""
    name: Annotated[str, tyro.conf.Suppress]                      # of the preset, and of its folder in runs/
    model: Family
    data: DataConfig = field(default_factory=DataConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    save: SaveConfig = field(default_factory=SaveConfig)
    init_from: str | None = None                                  # run whose weights it begins with
    cascade: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()  # presets of the later stages, trained after
    expected: Annotated[str, tyro.conf.Suppress] = ""             # the number this run should reach
    hardware: Annotated[str, tyro.conf.Suppress] = ""             # what it was meant for

    def __post_init__(self):
        family_of(self.model)

    @property
    def family(self) -> str:
        """Which of FAMILIES the model belongs to."""
        return family_of(self.model)

    def to_dict(self) -> dict:
        """What config.json holds of it."""
        return asdict(self) | {"family": self.family}
