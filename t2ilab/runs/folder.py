"""A run is a folder: config, log, checkpoints, samples.  This file finds one and reads its config."""
import json
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from ..config_json import from_dict
from ..families import FAMILIES
from ..hub import is_shipped, locate, shipped
from ..presets import PRESETS, Preset
from ..training.checkpoint import find_weights, newest


@dataclass(frozen=True)
class RunFolder:
    """A run that was found once: loading, its later stages and sampling share what is known of it."""
    name: str                   # as it was asked for
    path: Path                  # of its verified weights and config: newest good checkpoint, or its folder
    preset: Preset

    @property
    def home(self) -> Path:
        """The run's own folder, also of a checkpoint."""
        return self.path.parent.parent if self.path.parent.name == "checkpoints" else self.path

    @property
    def stamp(self) -> tuple:
        """What changes as soon as its files do."""
        stats = [(self.path / file).stat() for file in ("model.safetensors", "config.json")]
        return (str(self.path.absolute()), *((stat.st_mtime_ns, stat.st_size) for stat in stats))

    def later(self) -> "list[RunFolder]":
        """Its trained later stages: in its folder, beside it, or shipped as it is."""
        if is_shipped(self.name):
            return [find(name) for name in self.preset.cascade if name in shipped()]
        places = [(self.home / name, self.home.resolve().parent / name) for name in self.preset.cascade]
        trained = [list(filter(_is_trained, both)) for both in places]
        return [find(found[0]) for found in trained if found]

    def of(self, name: str) -> str | Path:
        """A run that this one names: relative to its folder or one above, then to here; or beside it."""
        if is_shipped(name):
            return name
        home, last = self.home.resolve(), Path(name).name
        named = [home / name, *(above / name for above in home.parents), locate(name)]
        places = [*named, home / last, home.parent / last]
        return next(filter(_is_trained, places), name)


def find(name: str | Path) -> RunFolder:
    """A run, its weights verified.  The errors of `find_run`; ValueError for a config of another kind."""
    path = find_run(name)
    return RunFolder(str(name), path, read_preset(path))


def find_run(name: str | Path) -> Path:
    """The folder with the weights of a run: the one that its name means (`hub.locate`), or its checkpoint.

    ValueError naming the file if a checkpoint is damaged; FileNotFoundError in one line that says what to
    do."""
    try:
        return find_weights(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{_hint(name)}") from error


def _hint(name: str | Path) -> str:
    """What else could have been meant by a run that is not there."""
    last = Path(name).name
    if last in shipped() and not is_shipped(name):
        return f"; the one that ships with the project is called {last}; or train it: t2ilab train {last}"
    if last in PRESETS:
        return f"; train it: t2ilab train {last}"
    here = [path.parent.name for path in Path("runs").glob("*/config.json")]
    close = get_close_matches(last[:100], [*shipped(), *here], n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def preset_from_dict(saved: dict) -> Preset:
    """The preset of a config.json.  ValueError for a family, a preset or a field that is not known."""
    if saved.get("family") not in FAMILIES:
        raise ValueError(f"family={saved.get('family')!r}: choose one of {', '.join(FAMILIES)}")
    known = {f.name for f in fields(Preset)}
    values = {k: v for k, v in saved.items() if k in known}
    preset = from_dict(Preset, values, model=FAMILIES[saved["family"]])
    if unknown := [name for name in preset.cascade if name not in PRESETS]:
        raise ValueError(f"cascade={preset.cascade!r}: there is no preset {unknown[0]!r}")
    return preset


def read_preset(folder: Path) -> Preset:
    """The preset of a run or checkpoint folder, from its config.json."""
    path = folder / "config.json"
    try:
        saved = json.loads(path.read_text(encoding="utf8"))
        return preset_from_dict(saved)
    except (OSError, TypeError, KeyError, AttributeError, RecursionError, UnicodeDecodeError,
            json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not the config of a run ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _is_trained(folder: Path) -> bool:
    return (folder / "model.safetensors").is_file() or newest(folder / "checkpoints") is not None
