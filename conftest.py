"""What the tests share: how notebooks are replayed under `pytest --nbval`, and where samples of real data
sets lie, if they are here.

Notebooks pass plain nbval too; this makes them pass on slow machines, and with verdicts that raise.
"""
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
# One thread: bit for bit the same in every process, and no slower for networks this small; two OpenMP threads
# that share a core stall each other.
# before torch is imported; processes started by tests, and kernels, inherit it
os.environ.setdefault("OMP_NUM_THREADS", "1")
KERNEL_SETTINGS = {"T2ILAB_PROFILE": "fast", "T2ILAB_STRICT": "1", "TOKENIZERS_PARALLELISM": "false",
                   "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def pytest_configure(config):
    if not (getattr(config.option, "nbval", False) or getattr(config.option, "nbval_lax", False)):
        return
    if not config.option.nbval_kernel_name:
        # this interpreter, whatever "python3" means elsewhere on the machine
        config.option.nbval_current_env = True
    for name, value in KERNEL_SETTINGS.items():
        os.environ.setdefault(name, value)  # kernels inherit them
    import matplotlib.font_manager  # noqa: F401  builds the font cache now; in a kernel it would warn on stderr

    keep_every_message()


def keep_every_message():
    """nbval reads what a cell showed after the cell has ended; of more than 1000 messages ZeroMQ would have
    dropped some by then."""
    from jupyter_client.connect import ConnectionFileMixin as Connection
    connect = Connection._create_connected_socket

    def unlimited(self, *args, **kwargs):
        self.context.rcvhwm = 0
        return connect(self, *args, **kwargs)
    Connection._create_connected_socket = unlimited


def pytest_itemcollected(item):
    if hasattr(item, "output_timeout"):
        item.output_timeout = 60  # seconds; nbval waits 5, too few for a busy machine


@pytest.fixture(scope="session")
def realdata():
    """The folder with samples of real data sets, or a skip that says how to give one."""
    folder = Path(os.environ.get("T2ILAB_REALDATA") or ROOT.parent / "shared" / "realdata")
    if not folder.is_dir():
        pytest.skip("no samples of real data sets: name their folder in T2ILAB_REALDATA")
    return folder
