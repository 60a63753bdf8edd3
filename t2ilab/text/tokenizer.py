"""Byte-level byte-pair encoding of captions to token ids, learned from any captions, or GPT-2's own as GLIDE
uses it.

A vocabulary is nothing but its list of merges: the 256 bytes come first, then one token per merge, and the
last id ends a caption and fills the rest of the line. Any text in any script can be written in it. The
encoding itself is the `tokenizers` library's.
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
    """Byte-pair encoding: list of B captions -> (ids [B L] int64, mask [B L] bool, True = a real token).
    "" and None are no caption.

    Captions are read in lower case. Longer ones than L tokens are cut, with one warning, at the first.
    Lesson: notebooks/05_glide.ipynb"""
    merges: tuple[str, ...]          # pairs in the order they were learned: "r e"
    vocabulary: int                  # ids run from 0 to vocabulary - 1, which is the end token
    length: int                      # L
    kind = "text"                    # what it reads, for pipeline/protocols.py
    # the caption that was warned of
    _warned: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self):
        if len(self.merges) > self.vocabulary - BYTES - 1:
            raise ValueError(f"{len(self.merges)} merges and vocabulary={self.vocabulary}: "
                             "256 bytes, the merges and an end token must fit")
        wrong = [merge for merge in self.merges if len(merge.split(" ")) != 2]
        if wrong:
            raise ValueError(f"these merges are no byte-pair vocabulary: {wrong[0]!r} is no pair, "
                             "as in 't h'")

    @cached_property
    def _bpe(self):
        from tokenizers import Tokenizer as BPE
        from tokenizers.decoders import ByteLevel as Decoder
        from tokenizers.models import BPE as Model
        symbols = _byte_symbols() + [merge.replace(" ", "") for merge in self.merges]
        ids = {symbol: i for i, symbol in enumerate(symbols)}
        pairs = [tuple(merge.split(" ")) for merge in self.merges]
        try:
            bpe = BPE(Model(ids, pairs))
        except Exception as error:          # the library raises nothing narrower
            raise ValueError(f"these merges are no byte-pair vocabulary ({error})") from error
        bpe.pre_tokenizer = _words()
        bpe.decoder = Decoder()
        return bpe

    def __call__(self, captions: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        texts = [_text(caption) for caption in captions]
        ids = [code.ids for code in self._bpe.encode_batch(texts)]
        long = [caption for caption, code in zip(captions, ids) if len(code) > self.length]
        if long and not self._warned:
            self._warned.append(long[0])
            warnings.warn(
                f"{len(long)} of {len(ids)} captions have over {self.length} tokens and were cut: "
                f"{long[0][:60]!r}; later ones will be in silence", stacklevel=2)
        lines = torch.full((len(ids), self.length), self.vocabulary - 1)        # [B L]
        for line, code in zip(lines, ids):
            line[:len(code)] = torch.tensor(code[:self.length])
        counts = torch.tensor([len(code) for code in ids])                      # [B]
        return lines, torch.arange(self.length) < counts[:, None]

    def pieces(self, caption: str) -> list[str]:
        """Tokens of a caption as strings, as the network sees it."""
        return [self._bpe.decode([i]) for i in self._bpe.encode(_text(caption)).ids]


def learn_merges(captions: Iterable[str], vocabulary: int) -> tuple[str, ...]:
    """Byte-pair merges of the most frequent pairs in some captions, at most as many as fit a vocabulary of
    this size.

    Raises ValueError if the vocabulary cannot even hold the 256 bytes and an end token."""
    import json

    from tokenizers import Tokenizer as BPE
    from tokenizers.models import BPE as Model
    from tokenizers.trainers import BpeTrainer
    if vocabulary <= BYTES:
        raise ValueError(f"vocabulary={vocabulary}: choose more than {BYTES}, one for each byte and "
                         "one for the end")
    bpe = BPE(Model())
    bpe.pre_tokenizer = _words()
    trainer = BpeTrainer(
        vocab_size=vocabulary - 1, initial_alphabet=_byte_symbols(), show_progress=False)
    bpe.train_from_iterator(map(_text, captions), trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    return tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in merges)


def read_merges(path: str | Path) -> tuple[str, ...]:
    """Byte-pair merges of a vocabulary file as GPT-2 and GLIDE publish it (merges.txt or vocab.bpe, also
    gzipped).

    Raises FileNotFoundError or ValueError in one line if there is none."""
    import gzip
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such vocabulary file")
    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        lines = content.decode("utf8").splitlines()
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
    """Pre-tokenizer: cuts text into words with the blank before them, numbers and signs apart."""
    from tokenizers.pre_tokenizers import ByteLevel
    return ByteLevel(add_prefix_space=False)


def _byte_symbols() -> list[str]:
    """A visible character for each byte, in GPT-2's order:
    bytes that print stand for themselves and come first."""
    ranges = ("!", "~"), ("¡", "¬"), ("®", "ÿ")
    visible = [b for first, last in ranges for b in range(ord(first), ord(last) + 1)]
    hidden = [b for b in range(BYTES) if b not in visible]
    return [chr(b) for b in visible] + [chr(BYTES + i) for i in range(len(hidden))]
