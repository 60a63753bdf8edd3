"""VQ-Diffusion (Gu et al. 2022) and Improved VQ-Diffusion (Tang et al. 2022): discrete diffusion
over the codes of a frozen VQGAN, from captions, labels or nothing.

In the papers' order: the codec, mask-and-replace, the transformer that predicts the codes, the
bound and the auxiliary loss, truncation; then learnable guidance, and the ways of choosing which
masks to show. A sampling method is a handful of arguments, kept nowhere between two calls.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.cond import Cond
from ..diffusion.constraints import top_k, top_r
from ..diffusion.mask_replace import MaskReplaceDiffusion, mask_replace_tables
from ..diffusion.token_denoiser import TokenDenoiser, TokenObjectiveConfig
from ..diffusion.unmasking import TOKEN_SAMPLERS
from ..nets.token_transformer import TokenTransformer, TokenTransformerConfig
from ..pipeline.stage import Stage
from ..pipeline.walk import Pipeline
from ..ranges import check_ranges
from ..text.find_encoder import find_encoder
from ..text.frozen_encoder import FrozenEncoder
from .base import FamilyConfig, check_choices, class_names, label_cond
from .ddpm import Labels
from .frozen_codec import FrozenCodec, fingerprint, present


@dataclass(frozen=True)
class VQDiffusionConfig(FamilyConfig):
    """VQ-Diffusion: a transformer denoises the codes of a frozen codec, from captions or labels."""
    codec: str = "vq-codec-shapes"    # run of the codec: a folder, or one that ships
    codebook_size: int = 512          # K: all of its codes, or the most used by t2ilab codebook
    used: tuple[int, ...] = ()        # which of its codes 0..K-1 stand for; training fills it in
    codec_weights: str = ""           # fingerprint its weights must have; training fills it in
    grid: int = 8                     # codes along each side of an image
    size: int = 64                    # pixels of its images, H = W
    encoder: str = "t5-shapes"        # text encoder: a shipped one, a folder or a hub name
    encoder_normalised: bool = False  # scale each token's features to length 1
    attend_padding: bool = False      # read padding (token 0), as published; else features of 0
    text_length: int = 24             # L: tokens of a caption; longer ones are cut
    cache: bool = True                # keep features on disk; off if captions never come twice
    net: TokenTransformerConfig = field(default_factory=TokenTransformerConfig)
    T: int = 100                      # noising steps
    replaced: float = 1e-6            # random codes at T: 1e-6 as published, 0.1 as in the paper
    masked: float = 0.99999           # share of masks at T; 0.9 beside replaced=0.1
    objective: TokenObjectiveConfig = field(default_factory=TokenObjectiveConfig)
    sampler: str = "ancestral"        # ancestral, even, purity, or legacy_fast (wrong, to compare)
    sampling_steps: int = 100         # network calls per image: below T is fast, above is finer
    guidance_scale: float = 1.0       # 1 = off, 0 = unconditional; needs cond_drop_prob/zero_shot
    zero_shot: bool = False           # guide away from "" as the encoder reads it, not as learned
    truncation: float = 1.0           # draw among the likeliest codes up to this share; 1 = all
    top_k: int = 0                    # draw among so many of the likeliest codes; 0 = all
    prior_weight: float = 0.0         # sharpens confident tokens; with sampler="purity" only
    labels: tuple[str, ...] = ()      # class names; training fills them in from the data set

    def __post_init__(self):
        check_ranges(self)
        check_choices(self, sampler=TOKEN_SAMPLERS)
        if self.zero_shot and not self.net.text_width:
            raise ValueError("zero_shot: an empty caption is for models that read captions")
        if self.prior_weight and self.sampler != "purity":
            raise ValueError(f"prior_weight={self.prior_weight}: it is for sampler='purity', "
                             "here it would do nothing")
        if self.sampler in ("even", "purity") and not self.masked:
            raise ValueError(f"sampler={self.sampler!r} shows masks, and with masked=0 there are "
                             "none: choose ancestral")
        # their errors are this config's too
        self._constraints()
        _ = self.diffusion

    @property
    def reads(self) -> str:
        return "text" if self.net.text_width else "label" if self.net.classes else "none"

    @property
    def new_parameters(self) -> tuple[str, ...]:
        return ("net.null_embedding",)

    def build(self) -> TokenDenoiser:
        """The denoiser, a transformer of random weights."""
        length = self.text_length if self.net.text_width else 1
        net = TokenTransformer(
            self.net, codebook_size=self.codebook_size, grid=self.grid, steps=self.T,
            null_embedding=length if self.objective.cond_drop_prob else 0)
        return TokenDenoiser(net, self.diffusion, self.objective)

    def pipeline(self, model: TokenDenoiser | None = None) -> Pipeline:
        """One stage, from masks to codes to pixels; codec and encoder are loaded when first needed.

        ValueError for guidance that has nothing to push away from."""
        self._check_guidance()
        stage = Stage(
            denoiser=model or self.build(),
            shape=(self.grid ** 2,),
            steps=self.sampling_steps,
            guidance_scale=self.guidance_scale,
            constrain=self._constraints(),
            sampler=TOKEN_SAMPLERS[self.sampler](self.prior_weight),
            codec=self.frozen_codec)
        negative_prompt = "" if self.zero_shot else None
        return Pipeline(self.text_encoder, (stage,), negative_prompt=negative_prompt)

    def _check_guidance(self) -> None:
        if self.guidance_scale == 1 or self.objective.cond_drop_prob or self.zero_shot:
            return
        remedy = {"text": "train it with --cond-drop-prob 0.1, or choose --zero-shot",
                  "label": "train it with --cond-drop-prob 0.1",
                  "none": "it hears nothing that could be dropped"}[self.reads]
        raise ValueError(
            f"guidance_scale={self.guidance_scale}: this model was never trained without "
            f"captions (drop=0), so there is nothing to push away from: {remedy}")

    @cached_property
    def diffusion(self) -> MaskReplaceDiffusion:
        """Mask-and-replace with this model's shares."""
        tables = mask_replace_tables(self.T, replaced=self.replaced, masked=self.masked)
        return MaskReplaceDiffusion(*tables, self.codebook_size)

    @cached_property
    def frozen_codec(self) -> FrozenCodec:
        """Codec between images and codes."""
        return FrozenCodec(self.codec, self.codebook_size, self.grid, self.used, self.codec_weights)

    @cached_property
    def text_encoder(self):
        """Encoder of the captions or labels."""
        if not self.net.text_width:
            return Labels(self.labels, self.net.classes)
        encoder = FrozenEncoder(
            self.encoder, self.text_length, width=self.net.text_width,
            attend_padding=self.attend_padding, cache=self.cache)
        return Reader(encoder, self.encoder_normalised, empty=self.zero_shot)

    def _constraints(self) -> tuple:
        likeliest = (top_k(self.top_k),) if self.top_k else ()
        truncated = (top_r(self.truncation),) if self.truncation != 1 else ()
        return likeliest + truncated

    def check_parts(self) -> None:
        """FileNotFoundError with the command that fetches the encoder,
        if the model reads captions and it is not there.  ValueError for its guidance, as `pipeline`."""
        self._check_guidance()
        if self.reads == "text":
            find_encoder(self.encoder)

    def fit_to_dataset(self, dataset) -> "VQDiffusionConfig":
        """The same model with the data set's class names, and with the codes it draws,
        so that a later count changes nothing.

        ValueError if the classes are not as many as the network's."""
        labels = class_names(self, dataset)
        used = self.frozen_codec.kept
        weights = self.codec_weights or fingerprint(self.frozen_codec.whole)
        return replace(self, labels=labels, used=used, codec_weights=weights)

    def adapt_to_checkpoint(self, first: "VQDiffusionConfig") -> "VQDiffusionConfig":
        """The same model with what the weights of another one know: its codes, its positions, and
        its codec where this one's is missing."""
        codec = present(self.codec, first.codec)
        net = replace(self.net, flat_positions=first.net.flat_positions)
        return replace(
            self, used=first.used, codec=codec, codec_weights=first.codec_weights, net=net)

    def extend(self, tensors: Mapping[str, Tensor], first: "VQDiffusionConfig",
               own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights of another one; its tables of labels get a last row, "no label",
        if only this model learns that."""
        same_classes = self.net.classes and self.net.classes == first.net.classes
        learns_null = self.objective.cond_drop_prob and not first.objective.cond_drop_prob
        if not (same_classes and learns_null):
            return tensors
        tables = {name for name in own if name.endswith(".mlp_norm.table.weight")}
        return {name: torch.cat([v, own[name][-1:].to(v)]) if name in tables else v
                for name, v in tensors.items()}

    def to_training_pair(self, batch, generator=None):
        """(x0 [B N] int64, Cond) from a batch of images with captions or labels;
        a label of -1 is no label."""
        codes = self.frozen_codec.encode(batch.images, keep=batch.repeats)
        if self.reads == "text":
            return codes, Cond(*self.text_encoder(batch.captions))
        return codes, label_cond(batch.labels) if self.reads == "label" else Cond()

    def preview_inputs(self, batch):
        """(captions, labels or a number, no options); labels are those of the batch."""
        if self.reads == "label":
            return [str(max(label, 0)) for label in batch.labels.tolist()], {}
        return super().preview_inputs(batch)


@dataclass(frozen=True)
class Reader:
    """Captions as a frozen encoder's features [B L D] and mask [B L], normalised where asked for.
    empty: an empty caption is encoded like any other."""
    encoder: FrozenEncoder
    normalised: bool
    empty: bool = False
    kind = "text"

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        if self.empty:
            captions = [caption or " " for caption in captions]
        features, mask = self.encoder(captions)
        return F.normalize(features, dim=2) if self.normalised else features, mask
