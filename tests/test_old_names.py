"""Options of 0.1.0 under their old names reach the same place, and each says its new name once."""
import pytest

from t2ilab.cli.old_names import OLD_NAMES, with_new_names
from t2ilab.cli.parse import _options, parse

pytestmark = pytest.mark.slow           # each builds the whole command line


def told(words, capsys):
    """(the preset that `t2ilab train` would be given, what stands on stderr)."""
    (preset,) = parse(["train", *words]).args[:1] or (parse(["train", *words]).keywords["preset"],)
    return preset, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("words, new", [
    (["ddpm-shapes", "--mults", "1", "2", "2"], ["ddpm-shapes", "--channel-mult", "1", "2", "2"]),
    (["ddpm-shapes", "--no-film", "--drop=0.3"], ["ddpm-shapes", "--no-scale-shift-norm", "--cond-drop-prob=0.3"]),
    (["ddpm-shapes", "--weight", "min_snr", "--times", "uniform"], ["ddpm-shapes", "--loss-weighting", "min_snr", "--timestep-sampler", "uniform"]),
    (["vq-codec-shapes", "--codes", "64", "--code_width", "8"], ["vq-codec-shapes", "--codebook-size", "64", "--codebook-dim", "8"]),
    (["vq-codec-shapes", "--critic-from", "5", "--eyes", "scenes"], ["vq-codec-shapes", "--discriminator-start", "5", "--perceptual-net", "scenes"]),
    (["glide-shapes", "--start", "runs/a"], ["glide-shapes", "--init-from", "runs/a"]),
])
def test_an_old_option_does_what_its_new_name_does(words, new, capsys):
    expected, said = told(new, capsys)
    assert said == []
    preset, said = told(words, capsys)
    old = [word.split("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    assert preset == expected
    assert said[:len(old)] == [f"t2ilab: {name} is called {OLD_NAMES[name]} now" for name in old]


def test_every_new_name_is_an_option_somewhere():
    commands = [["sample"], *(["train", name] for name in ("ddpm-shapes", "vq-codec-shapes", "vq-shapes", "imagen-shapes"))]
    options = set().union(*map(_options, commands))
    assert set(OLD_NAMES.values()) <= options and not set(OLD_NAMES) & options


def test_an_old_name_of_another_command_stays_a_mistake(capsys):
    assert with_new_names(["presets", "--mults", "1"], lambda: {"--help"}) == ["presets", "--mults", "1"]
    with pytest.raises(SystemExit) as stop:
        parse(["presets", "--mults", "1"])
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_a_caption_is_left_alone():
    assert with_new_names(["sample", "glide-shapes", "an --image of"], lambda: {"--init-image"})[-1] == "an --image of"
