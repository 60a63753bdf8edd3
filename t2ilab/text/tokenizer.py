"""Captions as token ids: byte-level byte-pair encoding, learned from any captions,
or GPT-2's own as GLIDE uses it.

A vocabulary is nothing but its list of merges: the 256 bytes come first, then one token a merge, and the last
id ends a caption and fills the rest of the line. Any text in any script can be written in it. The encoding
itself is the `tokenizers` library's.
"""
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..data.captions import clean

BYTES = 256


@dataclass(frozen=True)
class Tokenizer:
    """Reads captions: list of B strings -> (ids [B L] int64, mask [B L] bool,
    True = a real token).  "" and None are no caption.

    Captions are read in lower case. Longer ones than L tokens are cut, with one warning, at the first.
    Lesson: notebooks/05_glide.ipynb"""
    merges: tuple[str, ...]          # pairs in the order they were learned: "r e"
    vocabulary: int                  # ids run from 0 to vocabulary - 1, which is the end token
    length: int                      # L
    kind = "text"                    # what it reads, for pipeline/protocols.py
    # of this cut caption
    _warned: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self):
        if len(self.merges) > self.vocabulary - BYTES - 1:
            raise ValueError(
                f"{len(self.merges)} merges and vocabulary={self.vocabulary}: 256 bytes, the merges and an "
                "end token must fit"
            )
        if wrong := [merge for merge in self.merges if len(merge.split(" ")) != 2]:
            raise ValueError(f"these merges are no byte-pair vocabulary: {wrong[0]!r} is no pair, as "
                             "in 't h'")

    @cached_property
    def _bpe(self):
        from tokenizers import Tokenizer as BPE
        from tokenizers.decoders import ByteLevel as Decoder
        from tokenizers.models import BPE as Model
        symbols = _byte_symbols() + [merge.replace(" ", "") for merge in self.merges]
        try:
            bpe = BPE(Model({s: i for i, s in enumerate(symbols)},
                            [tuple(merge.split(" ")) for merge in self.merges]))
        except Exception as error:          # the library raises nothing narrower
            raise ValueError(f"these merges are no byte-pair vocabulary ({error})") from error
        bpe.pre_tokenizer = _words()
        bpe.decoder = Decoder()
        return bpe

    def __call__(self, captions: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        ids = [code.ids for code in self._bpe.encode_batch([_text(caption) for caption in captions])]
        long = [caption for caption, code in zip(captions, ids) if len(code) > self.length]
        if long and not self._warned:
            self._warned.append(long[0])
            warnings.warn(f"{len(long)} of {len(ids)} captions have over {self.length} tokens and were cut: "
                          f"{long[0][:60]!r}; later ones will be in silence", stacklevel=2)
        lines = torch.full((len(ids), self.length), self.vocabulary - 1)                            # [B L]
        for line, code in zip(lines, ids):
            line[:len(code)] = torch.tensor(code[:self.length])
        counts = torch.tensor([len(code) for code in ids])
        return lines, torch.arange(self.length) < counts[:, None]

    def pieces(self, caption: str) -> list[str]:
        """The caption as the network sees it, token by token."""
        return [self._bpe.decode([i]) for i in self._bpe.encode(_text(caption)).ids]


def learn_merges(captions: Iterable[str], vocabulary: int) -> tuple[str, ...]:
    """The merges of the most frequent pairs in some captions,
    at most as many as fit a vocabulary of this size.

    Raises ValueError if the vocabulary cannot even hold the 256 bytes and an end token."""
    import json

    from tokenizers import Tokenizer as BPE
    from tokenizers.models import BPE as Model
    from tokenizers.trainers import BpeTrainer
    if vocabulary <= BYTES:
        raise ValueError(
            f"vocabulary={vocabulary}: choose more than {BYTES}, one for each byte and one for the end"
        )
    bpe = BPE(Model())
    bpe.pre_tokenizer = _words()
    bpe.train_from_iterator(map(_text, captions), BpeTrainer(vocab_size=vocabulary - 1,
                                                             initial_alphabet=_byte_symbols(),
                                                             show_progress=False))
    merges = json.loads(bpe.to_str())["model"]["merges"]
    return tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in merges)


def read_merges(path: str | Path) -> tuple[str, ...]:
    """The merges of a vocabulary file as GPT-2 and GLIDE publish it (merges.txt or vocab.bpe, also gzipped).

    Raises FileNotFoundError or ValueError in one line if there is none."""
    import gzip
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such vocabulary file")
    content = path.read_bytes()
    try:
        lines = (gzip.decompress(content) if content[:2] == b"\x1f\x8b"
                 else content).decode("utf8").splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no list of merges ({error})") from error
    merges = tuple(line for line in lines if line and not line.startswith("#version"))
    if not merges or any(len(merge.split(" ")) != 2 for merge in merges):
        raise ValueError(f"{path} is no list of merges: one pair a line, as in 't h'")
    return merges


def _text(caption: str | None) -> str:
    """The caption in lower case, cleaned as those of training are."""
    return clean(caption).lower()


def _words():
    """How text falls into words before they are cut into tokens: words with the blank before them,
    numbers and signs apart."""
    from tokenizers.pre_tokenizers import ByteLevel
    return ByteLevel(add_prefix_space=False)


def _byte_symbols() -> list[str]:
    """A visible character for each byte, in GPT-2's order:
    bytes that print stand for themselves and come first."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(BYTES) if b not in visible]
    return [chr(b) for b in visible] + [chr(BYTES + i) for i in range(len(hidden))]
