"""The options of 0.1.0 under their old names: they work, and say the new one.  To be deleted with 0.3."""
import sys
from collections.abc import Callable

OLD_NAMES = {
    "--mults": "--channel-mult",
    "--film": "--scale-shift-norm",
    "--code-width": "--codebook-dim",
    "--codes": "--codebook-size",
    "--critic-from": "--discriminator-start",
    "--critic-channels": "--discriminator-channels",
    "--critic-halvings": "--discriminator-layers",
    "--eyes": "--perceptual-net",
    "--place-table": "--position-table",
    "--flat-places": "--flat-positions",
    "--picture": "--low-res-image",
    "--image": "--init-image",
    "--negative": "--negative-prompt",
    "--drop": "--cond-drop-prob",
    "--weight": "--loss-weighting",
    "--times": "--timestep-sampler",
    "--start": "--init-from",
    "--together": "--interleave",
}
SWITCHES = ("--film", "--flat-places", "--together")
OLD_NAMES |= {f"--no-{old[2:]}": f"--no-{OLD_NAMES[old][2:]}" for old in SWITCHES}


def with_new_names(args: list[str], known: Callable[[], set[str]]) -> list[str]:
    """The same words with today's names of options, and a line on stderr for each that was an old one.

    known: the options of the command; a word that is one of them is left alone, and so is what has no new
    name there."""
    old = {word for word in args if _name(word) in OLD_NAMES}
    options = known() if old else set()
    return [_renamed(word, options) if word in old else word for word in args]


def _renamed(word: str, options: set[str]) -> str:
    name = _name(word)
    new = OLD_NAMES[name]
    if name in options or new not in options:
        return word
    print(f"t2ilab: {name} is called {new} now", file=sys.stderr)
    return new + word[len(name):]


def _name(word: str) -> str:
    return word.split("=")[0].replace("_", "-")
