"""A trained VQGAN by the name of its run, frozen: pictures to codes and back, for the models that draw codes.

VQ-Diffusion (Gu et al. 2022): the codec is trained before anything is drawn.
"""
import hashlib
import json
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config_json import from_dict
from ..hub import cache_root, reports
from ..tensors import to_uint8
from ..text.feature_cache import FeatureCache
from ..training.checkpoint import find_weights, load_weights
from ..vqgan.networks import VQGAN
from .vqgan import VQGANRunConfig, fitted

# in a codec's folder: {"codes": those it takes, the most used first}, as `t2ilab codebook` counted them
USED_CODES = "used_codes.json"


def fingerprint(codec: VQGAN) -> str:
    """16 hexadecimal digits that tell a codec's weights from others,
    also after they were exported in half precision."""
    digest = hashlib.sha256()
    for name, v in sorted(codec.state_dict().items()):
        if v.is_floating_point():
            digest.update(name.encode() + v.half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]



@dataclass(frozen=True)
class FrozenCodec:
    """A trained codec by the name of its run, loaded with the first picture: pictures [B 3 H W] in [-1, 1]
    <-> codes [B N], row by row.

    codes, grid: what the model that draws codes was made for; ValueError if the run's codec has fewer, or
    another grid.
    used: which of the codec's codes 0..K-1 stand for, where it has more than K; () = those it takes most, by
    the count in its folder. Each cell of a picture takes the nearest of these; in the original all other
    codes become 0, whatever they look like.
    weights: the fingerprint that its weights must have, or "": codes are names, and another codec gives them
    another meaning."""
    run: str
    codebook_size: int                               # K
    grid: int                                # codes along each side
    used: tuple[int, ...] = ()
    weights: str = ""

    @cached_property
    def folder(self) -> Path:
        """Where its weights lie.  FileNotFoundError in one line if there is no such run."""
        try:
            return find_weights(self.run)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"codec={self.run!r}, as the model that draws its codes names "
                                    f"it: {error}") from error

    @cached_property
    def config(self) -> VQGANRunConfig:
        """What was trained, with all its codes."""
        saved = json.loads((self.folder / "config.json").read_text(encoding="utf8"))
        if saved.get("family") != "vq_codec":
            raise ValueError(f"codec={self.run!r} is a run of another kind: choose one that was trained as a "
                             "codec, such as vq-codec-shapes")
        config = from_dict(VQGANRunConfig, saved["model"])
        if config.grid != self.grid or config.net.codebook_size < self.codebook_size:
            raise ValueError(
                f"codec={self.run!r} has {config.net.codebook_size} codes on a grid of "
                f"{config.grid} x {config.grid}, "
                f"the model wants {self.codebook_size} on {self.grid} x {self.grid}: choose another codec, "
                "or train with "
                f"--codebook-size {config.net.codebook_size} --grid {config.grid}"
            )
        return config

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """The codec's codes that 0..K-1 stand for; () = all of them.

        FileNotFoundError with the command that counts, if nobody has;
        ValueError for codes that it has not, or too few."""
        if not self.used and self.config.net.codebook_size == self.codebook_size:
            return ()
        source, listed = (
            ("used", self.used) if self.used else (reports(self.run) / USED_CODES, self._counted())
        )
        remedy = "choose others, or train the model anew" if self.used else f"count again: {self._count}"
        known = self.config.net.codebook_size
        if not all(type(code) is int and 0 <= code < known
                   for code in listed) or len(set(listed)) < len(listed):
            raise ValueError(f"{source} is no list of different codes in 0..{known - 1}, which {self.run} "
                             f"has; {remedy}")
        kept = self.used or tuple(sorted(listed[:self.codebook_size]))
        if len(kept) != self.codebook_size:
            other = "choose others" if self.used else f"count on more pictures: {self._count}"
            remedy = f"train with --codebook-size {len(kept)}, or {other}"
            raise ValueError(f"{source} has {len(kept)} codes, the model wants {self.codebook_size}: "
                             f"{remedy}")
        return kept

    @property
    def _count(self) -> str:
        return f"t2ilab codebook {shlex.quote(self.run)}"

    def _counted(self) -> list:
        """The codes that stand in the codec's folder, the most used first."""
        path = reports(self.run) / USED_CODES
        try:
            return list(json.loads(path.read_text(encoding="utf8"))["codes"])
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"codec={self.run!r} has {self.config.net.codebook_size} codes, the "
                f"model wants {self.codebook_size}: count which it takes most: "
                f"{self._count}; or train with --codebook-size {self.config.net.codebook_size}"
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is no count of codes ({error}); count again: {self._count}") from error

    @cached_property
    def whole(self) -> VQGAN:
        """The codec with all its codes, and frozen weights."""
        model = self.config.build()
        load_weights(model, self.folder / "model.safetensors")
        return model.codec.eval().requires_grad_(False)

    @cached_property
    def net(self) -> VQGAN:
        """The codec with the codes that the model draws.  ValueError if its weights are not those that the
        model was trained with."""
        if self.weights not in ("", found := fingerprint(self.whole)):
            raise ValueError(f"codec={self.run!r} has other weights than the model was trained with "
                             f"({found}, not {self.weights}), so its codes mean "
                             "something else now: bring the old ones back, or train the model anew")
        return self.whole.with_codes(self.kept).eval().requires_grad_(False) if self.kept else self.whole

    def open(self) -> None:
        """Read its weights now, so that what is missing is said before anything is drawn."""
        _ = self.net

    @property
    def size(self) -> int:
        """Pixels along each side of its pictures."""
        return self.grid * self.cell

    @property
    def cell(self) -> int:
        """Pixels along each side of a code's cell."""
        return self.config.net.factor

    @cached_property
    def cache(self) -> FeatureCache:
        """Codes of pictures by the SHA-256 of their pixels."""
        name = f"{Path(self.run).name}-{fingerprint(self.whole)}.sqlite"
        return FeatureCache(cache_root() / "codes" / name)

    def encode(self, images: Tensor, *, keep: bool = False) -> Tensor:
        """[B 3 H W] of any size -> [B N] int64, on the device of the pictures.

        keep: take codes from disk as far as they are there, and leave new ones there: for pictures of 256
        levels that come again."""
        return self._kept_codes(images) if keep else self._encode(images)

    def _kept_codes(self, images: Tensor) -> Tensor:
        settings = json.dumps([self.kept, self.grid, images.shape[1:]]).encode()
        pictures = to_uint8(images).cpu().numpy()
        keys = [hashlib.sha256(settings + pixels.tobytes()).digest() for pixels in pictures]
        known, dtype = self.cache.read(keys), np.dtype("<u2" if self.codebook_size <= 2 ** 16 else "<i4")
        if missing := [k for k, key in enumerate(keys) if key not in known]:
            codes = self._encode(images[missing]).cpu().numpy().astype(dtype)
            fresh = {keys[k]: row.tobytes() for k, row in zip(missing, codes)}
            self.cache.write(fresh)
            known |= fresh
        rows = np.stack([np.frombuffer(known[key], dtype) for key in keys])                 # [B N]
        return torch.from_numpy(rows.astype(np.int64)).to(images.device)

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        """The codes, computed: on a GPU if there is one, because training brings pictures from disk."""
        device = "cuda" if torch.cuda.is_available() else images.device
        return self.net.to(device).encode(fitted(images.to(device), self.size)).flatten(1).to(images.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """[B N] int64 -> [B 3 H W]"""
        return self.net.to(codes.device).decode(codes.unflatten(1, (self.grid, self.grid)))
