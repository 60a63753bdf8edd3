"""FrozenEncoder: captions as the features of a language model that was trained on text alone and no longer
learns, as in Imagen (Saharia et al. 2022, 2.1).

One adapter for every encoder in Hugging Face's layout: T5 and its kin (of which the encoder half is loaded),
BERT's, CLIP's text half. Features are computed once and then kept on disk. Left out on purpose: training the
encoder (families/span_corruption.py pre-trains a small one), and fetching one.
"""
import hashlib
import json
import logging
import struct
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..data.captions import clean
from ..hub import cache_root
from ..ranges import check_ranges
from .feature_cache import FeatureCache
from .find_encoder import GIB, find_encoder, fingerprint

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
BATCH = 64                      # captions per call of the encoder
log = logging.getLogger(__name__)


class Encoded(NamedTuple):
    """One caption's features, as they are kept on disk."""
    features: Tensor            # [n D] of its n real tokens, in the encoder's dtype
    cut: bool                   # whether it had more than L tokens


@dataclass(frozen=True)
class FrozenEncoder:
    """Text encoder: list of B captions -> (features [B L D] float32, 0 where no token is, mask [B L] bool,
    True = a real token, the end's included).

    "" and None are no caption: an all-False mask. Longer captions than L tokens are cut, with one warning, at
    the first. The first caption loads the weights.
    ValueError for a width that is not the encoder's, too little memory or damaged weights; FileNotFoundError,
    in one line with the command that fetches it, for an encoder that is not there.

    attend_padding: captions are filled up to L with token 0 and all L positions count as real, as
    VQ-Diffusion's own code reads CLIP. diffusers pads with the tokenizer's pad token: in its VQ-Diffusion
    checkpoints that is "!", which is token 0 too, in CLIP's own tokenizer the end of a text.
    Lesson: notebooks/06_imagen.ipynb"""
    name: str                                                              # shipped, a folder or a hub name
    text_length: int                                                       # L
    width: int = field(kw_only=True)                                       # D
    dtype: str = field(default="fp32", kw_only=True)                       # fp32 or bf16
    device: str | None = field(default=None, kw_only=True, compare=False)  # None = a GPU if there is one
    attend_padding: bool = field(default=False, kw_only=True)              # pad with token 0, and read that
    cache: bool = field(default=True, kw_only=True, compare=False)         # on disk; off if none come twice
    kind = "text"                                                          # for pipeline/protocols.py

    # the caption that was warned of
    _warned: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.dtype not in DTYPES:
            why = ": T5's activations grow beyond what half precision holds" if self.dtype == "fp16" else ""
            raise ValueError(f"dtype={self.dtype!r}{why}; choose one of {', '.join(DTYPES)}")
        check_ranges(self)

    def __call__(self, captions: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        texts = _texts(captions)
        different = {text for text in texts if text}
        known = self._encoded(sorted(different, key=lambda text: (len(text), text)))
        long = [text for text in texts if text and known[text].cut]
        if long and not self._warned:
            self._warned.append(long[0])
            warnings.warn(
                f"{len(long)} of {len(texts)} captions have over {self.text_length} tokens and were cut: "
                f"{long[0][:60]!r}; later ones will be in silence", stacklevel=2)
        B, L = len(texts), self.text_length
        features = torch.zeros(B, L, self.width)                                # [B L D]
        mask = torch.zeros(B, L, dtype=torch.bool)                              # [B L]
        for k, text in enumerate(texts):
            if text:
                n = len(known[text].features)
                features[k, :n] = known[text].features
                mask[k, :n] = True
        return features, mask

    @cached_property
    def folder(self) -> Path:
        """Folder of its files.  FileNotFoundError if there is none."""
        return find_encoder(self.name).resolve()

    @cached_property
    def mark(self) -> str:
        """Fingerprint of its files, looked up once: files that change later are another FrozenEncoder's."""
        return fingerprint(self.folder)

    def _encoded(self, texts: list[str]) -> dict[str, Encoded]:
        """Features of some different texts, from the cache as far as it has them."""
        if not texts:
            return {}
        file = f"{Path(self.name).name}-{self.mark[:16]}.sqlite"
        cache = FeatureCache(cache_root() / "features" / file) if self.cache else None
        keys = {text: self._key(text) for text in texts}
        kept = cache.read(list(keys.values())) if cache else {}
        dtype = DTYPES[self.dtype]
        known = {text: _unpack(kept[key], dtype) for text, key in keys.items() if key in kept}
        self._check_width({encoded.features.shape[1] for encoded in known.values()})
        missing = [text for text in texts if text not in known]
        for start in range(0, len(missing), BATCH):
            fresh = self._encode(missing[start:start + BATCH])
            known |= fresh
            if cache:
                cache.write({keys[text]: _pack(encoded) for text, encoded in fresh.items()})
        return known

    def _encode(self, texts: list[str]) -> dict[str, Encoded]:
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._check_width({_encoder_half(_skeleton(self.folder, self.mark)[0]).config.hidden_size})
        tokenizer, encoder = _loaded(self.folder, self.mark, self.dtype, device)
        self._check_length(encoder, tokenizer)
        lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
        codes = tokenizer(
            texts, padding="max_length" if self.attend_padding else True, padding_side="right",
            truncation=True, max_length=self.text_length, return_tensors="pt")
        ids, mask = codes["input_ids"], codes["attention_mask"]                 # [B up to L]
        if self.attend_padding:
            ids, mask = ids * mask, torch.ones_like(mask)
        rows = encoder.get_input_embeddings().num_embeddings
        if ids.amax() >= rows:
            raise ValueError(f"{self.name}: the tokenizer gives id {ids.amax()}, but the encoder has {rows} "
                             "tokens: they do not belong together")
        with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
            output = encoder(input_ids=ids.to(device), attention_mask=mask.to(device))
        features = output.last_hidden_state.cpu()                               # [B up to L, D]
        return {text: Encoded(f[m], n > self.text_length)
                for text, f, m, n in zip(texts, features, mask.bool(), lengths)}

    def _key(self, text: str) -> bytes:
        """Key of a caption's features in the cache."""
        settings = [self.mark, self.dtype, self.text_length]
        if self.attend_padding:
            settings.append("attend_padding")
        return hashlib.sha256(json.dumps([*settings, text]).encode()).digest()

    def _check_width(self, widths: set[int]) -> None:
        if wrong := widths - {self.width}:
            raise ValueError(f"width={self.width}: "
                             f"the features of {self.name} have {wrong.pop()} numbers a token")

    def _check_length(self, encoder, tokenizer) -> None:
        """ValueError for more tokens than the encoder has positions.  T5 knows distances only, so any length
        will do."""
        positions = getattr(encoder.config, "max_position_embeddings", None)
        if positions is None:
            return
        most = min(positions, tokenizer.model_max_length)
        if self.text_length > most:
            raise ValueError(f"text_length={self.text_length}: {self.name} reads at most {most} tokens")


def _texts(captions: Sequence[str | None]) -> list[str]:
    """Captions, cleaned as those of training are.  None is "", no caption; blanks alone are " ", the caption
    of zero-shot guidance."""
    if isinstance(captions, str):
        raise ValueError(f"captions={captions[:60]!r} is one string: give a list of captions")
    if wrong := [caption for caption in captions if not isinstance(caption, str | None)]:
        raise ValueError(f"a caption is of type {type(wrong[0]).__name__}: give strings, '' for no caption")
    return [clean(caption) or " " * bool(caption) for caption in captions]


@lru_cache(maxsize=16)
def _skeleton(folder: Path, mark: str) -> tuple[nn.Module, type]:
    """(model without weights, class that loads them), known from its config.json alone.

    mark: its fingerprint; another one is another encoder."""
    with _library(folder):
        from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
        from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config = getattr(config, "text_config", None) or config  # of CLIP and the like: the half that reads
        loader = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
        with torch.device("meta"):
            return loader.from_config(config, trust_remote_code=False), loader


@lru_cache(maxsize=8)
def _loaded(folder: Path, mark: str, dtype: str, device: str) -> tuple[Callable, nn.Module]:
    """(tokenizer, encoder), loaded once per process.  Safetensors where there are any, else weights only:
    nothing in a file is ever executed."""
    skeleton, loader = _skeleton(folder, mark)
    parameters = sum(p.numel() for p in skeleton.parameters())
    _check_memory(folder, parameters * DTYPES[dtype].itemsize, device)
    _check_sentencepiece(folder)
    with _library(folder):
        from transformers import AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = loader.from_pretrained(
            folder, config=skeleton.config, dtype=DTYPES[dtype], device_map={"": device}, weights_only=True,
            local_files_only=True, trust_remote_code=False, output_loading_info=True)
    # BERT's pooler plays no part in the features
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
        raise ValueError(f"{folder}: the weights lack {missing[0]}{more}")
    return tokenizer, _encoder_half(model).eval().requires_grad_(False)


def _encoder_half(model: nn.Module) -> nn.Module:
    """The encoder of a model that has a decoder too."""
    return model.get_encoder() if model.config.is_encoder_decoder else model


def _check_memory(folder: Path, size: int, device: str) -> None:
    """Log what a large encoder of `size` bytes needs.  ValueError if this machine has less."""
    if size < GIB:
        return
    free = _free_memory(device)
    log.warning("%s: loading %.1f GiB of weights (%.1f GiB free on %s)",
                folder, size / GIB, free / GIB, device)
    if size > free:
        raise ValueError(f"{folder}: {size / GIB:.1f} GiB of weights, but only {free / GIB:.1f} GiB free "
                         f"on {device}: choose a smaller encoder, dtype='bf16' or another device")


def _free_memory(device: str) -> int:
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil
    return psutil.virtual_memory().available


def _check_sentencepiece(folder: Path) -> None:
    """ValueError if the tokenizer needs sentencepiece, which is not there.

    The library's own message would ask for a package that does not help."""
    if (folder / "tokenizer.json").is_file() or not any(folder.glob("*.model")):
        return
    if find_spec("sentencepiece") is None:
        raise ValueError(f"{folder}: its tokenizer is a SentencePiece file; install what reads it: "
                         "pip install sentencepiece")


@contextmanager
def _library(folder: Path):
    """transformers, quiet, and with the global random numbers as they are;
    its errors become one line that names the folder."""
    from transformers.utils import logging as said
    level, bars = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity(logging.CRITICAL)
    said.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except Exception as error:                              # the library raises nothing narrower
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{folder} could not be loaded ({reason})") from error
    finally:
        said.set_verbosity(level)
        if bars:
            said.enable_progress_bar()


# ---- what is kept of a caption ----

def _pack(encoded: Encoded) -> bytes:
    """Bytes to keep: whether it was cut, D, then the features bit for bit."""
    head = struct.pack("<?I", encoded.cut, encoded.features.shape[1])
    return head + encoded.features.contiguous().view(torch.uint8).numpy().tobytes()


def _unpack(value: bytes, dtype: torch.dtype) -> Encoded:
    cut, width = struct.unpack_from("<?I", value)
    content = np.frombuffer(value, np.uint8, offset=5).copy()
    return Encoded(torch.from_numpy(content).view(dtype).view(-1, width), cut)
