"""Every command by its name; each is a function of one of the files beside this one.

Every option comes from a dataclass field or a function argument, its help from the comment beside it.
"""
from ..presets import PRESETS
from . import main
from .data import convert, data, export, presets
from .draw import demo, sample
from .measure import codebook, codes, evaluate, speedrun
from .train import pretrain, resume, train

__all__ = ["COMMANDS", "PRESETS", "main"]
COMMANDS = {"demo": demo, "train": train, "pretrain": pretrain, "resume": resume, "sample": sample,
            "evaluate": evaluate, "speedrun": speedrun, "codebook": codebook, "codes": codes, "data": data,
            "export": export, "convert": convert, "presets": presets}
