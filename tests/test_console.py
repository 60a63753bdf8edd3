"""The terminal as it comes: typos, interrupts, streams that are closed or cannot show a letter, and errors that nobody foresaw."""
import io
import json
import os
import shutil
import subprocess
import sys

import pytest
from tiny_runs import mine, run  # noqa: F401

from t2ilab import __version__
from t2ilab import cli as console
from t2ilab.cli import Forgiving
from t2ilab.cli import commands as cli
from t2ilab.runs import load as loading


def said(capsys, *args) -> str:
    """The one line on stderr about words that the command line does not know."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(arg) for arg in args])
    line, = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and line.startswith("t2ilab: ")
    return line


@pytest.mark.slow
@pytest.mark.parametrize("args, words", [
    ("trian ddpm-shapes", "no command trian: did you mean train?"),
    ("train ddpm-shape", "no preset ddpm-shape: did you mean ddpm-shapes?"),
    ("train ddpm-shapes --step 3", "ddpm-shapes has no option --step: did you mean --steps?"),
    ("train ddpm-shapes --bath_size=3", "ddpm-shapes has no option --bath_size: did you mean --batch-size?"),
    ("sample ddpm-shapes --guidance 3", "sample has no option --guidance: did you mean --guidance-scale?"),
    ("train ddpm-shapes --steps many", "Error parsing --steps: invalid literal for int() with base 10: 'many'; more: t2ilab train ddpm-shapes --help"),
    ("train", "say which preset: t2ilab train PRESET"), ("sample", "RUN"), ("", "t2ilab --help")])
def test_a_typo_is_one_line_with_the_word_that_was_meant(args, words, capsys):
    assert words in said(capsys, *args.split())


def test_help_of_train_says_what_each_preset_is_for(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert "94 % of samples are valid scenes" in " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("words", [["-m", "t2ilab"], ["-m", "t2ilab.cli"]])
def test_the_package_is_the_command(words):
    done = subprocess.run([sys.executable, *words, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"t2ilab {__version__}\n", "")


def test_the_entry_loads_nothing_heavy():
    code = "import sys, t2ilab.cli; sys.exit('torch' in sys.modules or 'tyro' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("error, line", [
    (ValueError("wrong"), "t2ilab: wrong"),
    (RuntimeError("no room\nlong story"), "t2ilab: RuntimeError: no room (where: T2ILAB_TRACEBACK=1)"),
    (MemoryError(), "t2ilab: MemoryError: not enough memory (where: T2ILAB_TRACEBACK=1)"),
    (RecursionError("too deep"), "t2ilab: RecursionError: too deep (where: T2ILAB_TRACEBACK=1)"),
    (KeyError("x"), "t2ilab: KeyError: 'x' (where: T2ILAB_TRACEBACK=1)")])
def test_any_error_is_one_line_unless_its_traceback_is_asked_for(error, line, capsys, monkeypatch):
    def fail(*_, **__):
        raise error
    monkeypatch.delenv("T2ILAB_TRACEBACK", raising=False)
    monkeypatch.setattr(loading, "first_runs", fail)
    assert cli.main(["demo"]) == 1 and capsys.readouterr().err == f"{line}\n"
    monkeypatch.setenv("T2ILAB_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli.main(["demo"])


def test_control_c_promises_a_checkpoint_only_where_there_is_one(capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt
    monkeypatch.setattr(loading, "first_runs", stop)
    assert cli.main(["demo"]) == 130 and capsys.readouterr().err == "t2ilab: stopped\n"


def test_a_console_that_cannot_show_a_letter_shows_a_question_mark(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    console._console()
    print("猫", file=narrow, flush=True)
    assert narrow.buffer.getvalue() == b"?\n"


@pytest.mark.slow
def test_a_closed_or_full_stderr_ends_nothing():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")
    stream = Forgiving(Full())
    assert stream.write("bar") == 3 and stream.flush() is None and stream.encoding is None
    code = "from t2ilab.cli import main; from t2ilab.runs import load; import sys; from tqdm import tqdm\n" \
           "load.first_runs = lambda: list(tqdm([]))\nsys.exit(main(['demo']))"
    for redirection in ("2>&-", *(["2>/dev/full"] if os.path.exists("/dev/full") else [])):
        done = subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "$0" {redirection}', code], stdout=subprocess.PIPE)
        assert done.returncode == 0 and b"seconds per image" in done.stdout, redirection


def test_help_ends_in_a_terminal_of_one_column(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1")
    with pytest.raises(SystemExit):
        cli.main(["sample", "--help"])
    assert os.environ["COLUMNS"] == "40" and "--seed" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"cascade": ["nosuch"]}, {"cascade": 5}, {"net": {"channel_mult": ["a"]}}, {"net": {"channels": 0}}])
def test_a_config_that_nothing_can_be_built_from_is_one_line_with_its_name(change, mine, capsys):  # noqa: F811
    checkpoint = max((mine / "checkpoints").glob("step-*"))
    shutil.copy(checkpoint / "model.safetensors", mine / "model.safetensors")
    shutil.rmtree(mine / "checkpoints")
    config = json.loads((mine / "config.json").read_text())
    config["model"]["net"] |= change.get("net", {})
    (mine / "config.json").write_text(json.dumps(config | {k: v for k, v in change.items() if k != "net"}))
    assert cli.main(["sample", str(mine)]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("t2ilab: ") and "config.json" in line


def test_hints_are_words_that_a_shell_takes(tmp_path, monkeypatch, capsys):
    from tiny_runs import OPTIONS
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "ddpm-shapes", *OPTIONS, "--steps", "1", "--out", "o'brien & co"]) == 0
    assert """t2ilab sample 'o'"'"'brien & co'""" in capsys.readouterr().out
