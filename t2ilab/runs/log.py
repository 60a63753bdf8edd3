"""log.jsonl and TensorBoard events of a training run; a resumed run drops the lines after its checkpoint."""
import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from ..training.checkpoint import write_text, writing
from ..training.fit import Log, TrainState


def command_line() -> str:
    """The command that this process runs, if it is one of ours; else nothing."""
    program = Path(sys.argv[0])
    by_us = program.stem == "t2ilab" or program.parent.name == "cli"
    return shlex.join(["t2ilab", *sys.argv[1:]]) if by_us else ""


class Logger:
    """log.jsonl and TensorBoard; a resumed run drops the lines after its checkpoint."""

    def __init__(self, out: Path, state: TrainState):
        self.path, self.step = out / "log.jsonl", state.step
        self.main = state.accelerator.is_main_process

    def __enter__(self):
        if self.main:
            from torch.utils.tensorboard import SummaryWriter
            lines = self.path.read_text(encoding="utf8").splitlines() if self.path.exists() else []
            write_text(self.path, "".join(f"{line}\n" for line in lines[:self.step]))
            self.file = open(self.path, "a", encoding="utf8")
            self.board = SummaryWriter(self.path.parent / "tensorboard", purge_step=self.step + 1)
        return self

    def write(self, log: Log, more: dict[str, float]) -> None:
        row = log._asdict() | more
        with writing(self.path.parent):
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()
            for name in ("loss", "grad_norm", "lr", *more):
                self.board.add_scalar(name, row[name], log.step)

    def __exit__(self, error, *_):
        if self.main:
            # on a full disk the first error says more
            with suppress(OSError) if error else writing(self.path.parent):
                self.file.close()
                self.board.close()
