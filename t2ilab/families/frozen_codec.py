"""FrozenCodec: a trained VQGAN by the name of its run, images to codes and back.

VQ-Diffusion (Gu et al. 2022) and latent diffusion take it as it is: the codec is trained first.
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

# in a codec's folder: {"codes": those it uses, the most used first}, counted by `t2ilab codebook`
USED_CODES = "used_codes.json"


def fingerprint(codec: VQGAN) -> str:
    """16 hexadecimal digits that tell a codec's weights from others,
    also after they were exported in half precision."""
    digest = hashlib.sha256()
    for name, v in sorted(codec.state_dict().items()):
        if v.is_floating_point():
            digest.update(name.encode() + v.half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def present(codec: str, other: str) -> str:
    """The run of a codec, or another's where there is no such run."""
    try:
        find_weights(codec)
    except FileNotFoundError:
        return other
    return codec


@dataclass(frozen=True)
class FrozenCodec:
    """A trained VQGAN, loaded with the first image: images [B 3 H W] in [-1, 1] <-> codes [B N],
    row by row.

    codebook_size, grid: what the model that draws codes was made for; ValueError if the run's codec
    has fewer codes, or another grid.
    used: which of the codec's codes 0..K-1 stand for, where it has more than K; () = those it uses
    most, by the count in its folder. Each cell of an image takes the nearest of these; in the
    original all other codes become 0, whatever they look like.
    weights: the fingerprint that its weights must have, or "": codes are names, and another codec
    gives them another meaning."""
    run: str
    codebook_size: int                       # K
    grid: int                                # codes along each side
    used: tuple[int, ...] = ()
    weights: str = ""

    @cached_property
    def folder(self) -> Path:
        """Folder of its weights.  FileNotFoundError in one line if there is no such run."""
        try:
            return find_weights(self.run)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"codec={self.run!r}, as the model that draws its codes names "
                                    f"it: {error}") from error

    @cached_property
    def config(self) -> VQGANRunConfig:
        """Config of the run, with all its codes.

        ValueError for a run that is no codec, has another grid, or too few codes."""
        saved = json.loads((self.folder / "config.json").read_text(encoding="utf8"))
        if saved.get("family") != "vq_codec":
            raise ValueError(f"codec={self.run!r} is a run of another kind: choose one that was "
                             "trained as a codec, such as vq-codec-shapes")
        config = from_dict(VQGANRunConfig, saved["model"])
        codes, grid = config.net.codebook_size, config.grid
        if grid != self.grid or codes < self.codebook_size:
            raise ValueError(
                f"codec={self.run!r} has {codes} codes on a grid of {grid} x {grid}, "
                f"the model wants {self.codebook_size} on {self.grid} x {self.grid}: "
                f"choose another codec, or train with --codebook-size {codes} --grid {grid}")
        return config

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """The codec's codes that 0..K-1 stand for; () = all of them.

        FileNotFoundError with the command that counts, if nobody has;
        ValueError for codes that it has not, or too few."""
        known = self.config.net.codebook_size
        if not self.used and known == self.codebook_size:
            return ()
        source = "used" if self.used else reports(self.run) / USED_CODES
        listed = self.used or self._counted()
        exist = all(type(code) is int and 0 <= code < known for code in listed)
        if not exist or len(set(listed)) < len(listed):
            again = f"count again: {self._count}"
            remedy = "choose others, or train the model anew" if self.used else again
            raise ValueError(f"{source} is no list of different codes in 0..{known - 1}, "
                             f"which {self.run} has; {remedy}")
        kept = self.used or tuple(sorted(listed[:self.codebook_size]))
        if len(kept) != self.codebook_size:
            other = "choose others" if self.used else f"count on more pictures: {self._count}"
            raise ValueError(
                f"{source} has {len(kept)} codes, the model wants {self.codebook_size}: "
                f"train with --codebook-size {len(kept)}, or {other}")
        return kept

    @property
    def _count(self) -> str:
        return f"t2ilab codebook {shlex.quote(self.run)}"

    def _counted(self) -> list:
        """Codes listed in the codec's folder, the most used first."""
        path = reports(self.run) / USED_CODES
        try:
            return list(json.loads(path.read_text(encoding="utf8"))["codes"])
        except FileNotFoundError as error:
            K = self.config.net.codebook_size
            raise FileNotFoundError(
                f"codec={self.run!r} has {K} codes, the model wants {self.codebook_size}: "
                f"count which it takes most: {self._count}; "
                f"or train with --codebook-size {K}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is no count of codes ({error}); "
                             f"count again: {self._count}") from error

    @cached_property
    def whole(self) -> VQGAN:
        """The codec with all its codes, and frozen weights."""
        model = self.config.build()
        load_weights(model, self.folder / "model.safetensors")
        return model.codec.eval().requires_grad_(False)

    @cached_property
    def net(self) -> VQGAN:
        """The codec with the codes that the model draws.

        ValueError if its weights are not those that the model was trained with."""
        if self.weights not in ("", found := fingerprint(self.whole)):
            raise ValueError(
                f"codec={self.run!r} has other weights than the model was trained with "
                f"({found}, not {self.weights}), so its codes mean something else now: "
                "bring the old ones back, or train the model anew")
        if not self.kept:
            return self.whole
        return self.whole.with_codes(self.kept).eval().requires_grad_(False)

    def open(self) -> None:
        """Load its weights now, so that what is missing is said before anything is drawn."""
        _ = self.net

    @property
    def size(self) -> int:
        """Pixels along each side of its images."""
        return self.grid * self.cell

    @property
    def cell(self) -> int:
        """Pixels along each side of a code's cell."""
        return self.config.net.factor

    @cached_property
    def cache(self) -> FeatureCache:
        """Codes on disk, by the SHA-256 of the pixels of their image."""
        name = f"{Path(self.run).name}-{fingerprint(self.whole)}.sqlite"
        return FeatureCache(cache_root() / "codes" / name)

    def encode(self, images: Tensor, *, keep: bool = False) -> Tensor:
        """Codes [B N] int64 of images [B 3 H W] of any size, on the device of the images.

        keep: take codes from disk as far as they are there, and leave new ones there: for images of
        256 levels that come again."""
        return self._kept_codes(images) if keep else self._encode(images)

    def _kept_codes(self, images: Tensor) -> Tensor:
        settings = json.dumps([self.kept, self.grid, images.shape[1:]]).encode()
        pixels = to_uint8(images).cpu().numpy()
        keys = [hashlib.sha256(settings + image.tobytes()).digest() for image in pixels]
        dtype = np.dtype("<u2" if self.codebook_size <= 2 ** 16 else "<i4")
        known = self.cache.read(keys)
        missing = [k for k, key in enumerate(keys) if key not in known]
        if missing:
            codes = self._encode(images[missing]).cpu().numpy().astype(dtype)
            fresh = {keys[k]: row.tobytes() for k, row in zip(missing, codes)}
            self.cache.write(fresh)
            known |= fresh
        rows = np.stack([np.frombuffer(known[key], dtype) for key in keys])     # [B N]
        return torch.from_numpy(rows.astype(np.int64)).to(images.device)

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        """Computed codes: on a GPU if there is one, because training brings images from disk."""
        device = "cuda" if torch.cuda.is_available() else images.device
        codes = self.net.to(device).encode(fitted(images.to(device), self.size))     # [B h w]
        return codes.flatten(1).to(images.device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images [B 3 H W] of codes [B N] int64."""
        return self.net.to(codes.device).decode(codes.unflatten(1, (self.grid, self.grid)))
