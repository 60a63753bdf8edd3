"""A language model that learns from text alone: T5's span corruption (Raffel et al. 2020, 3.1.4),
at the size of a laptop.

Pieces of a text are cut out and the model writes down what stood there. Its encoder half is then frozen and
tells an image model what a caption means, as T5-XXL does in Imagen (text/frozen_encoder.py). Left out on
purpose: several texts in one line of 512 tokens, and T5's 750 GB of web pages.
"""
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from ..data.captions import read_captions
from ..data.example import ENDLESS
from ..data.shapes import Scenes, describe
from ..diffusion.cond import Cond
from ..ranges import check_ranges
from ..tensors import generator as seeded
from ..text.span_corruption import corrupt
from ..training.checkpoint import save_tensors, writing
from .base import FamilyConfig

PAD, END = "<pad>", "</s>"
SAMPLE = 2000                        # texts that a vocabulary is learned from
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


# ---- texts ----

@dataclass(frozen=True)
class SceneTexts:
    """Endless texts about scenes as a model in training may see them: a caption,
    or the same scene described twice in other words.

    texts[n] is a pure function of (seed, n). The second sentence names the other object first, or leaves out
    or adds a place. Only who has understood the first can fill a gap in the second:
    that is what there is to learn from text alone."""
    seed: int = 0
    twice: float = 0.75              # share of texts with two sentences

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, n: int) -> str:
        g = seeded(self.seed, n)
        scene, caption = Scenes().draw(g)
        if torch.rand((), generator=g) >= self.twice:
            return caption
        other = describe(replace(scene, objects=scene.objects[::-1]),
                         state_position=" at the " not in caption)
        return f"{caption}. {other}."


def learn_bpe(texts: Sequence[str], vocabulary: int, marks: Sequence[str]) -> str:
    """A byte-level vocabulary of the first 2,000 texts, as JSON: any text in any script can be written in it.

    It reads in lower case and ends each text with </s>; the marks are one token each."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.decoder = normalizers.Lowercase(), decoders.ByteLevel()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[PAD, END, *marks],
                                  show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    bpe.train_from_iterator([texts[k] for k in range(min(len(texts), SAMPLE))], trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"$A {END}",
                                                       special_tokens=[(END, bpe.token_to_id(END))])
    return bpe.to_str()


# ---- the model ----

@dataclass(frozen=True)
class SpanCorruptionConfig(FamilyConfig):
    """A small T5 and how it learns."""
    # different tokens at most: the 256 bytes, the special ones, and the most frequent pieces of words
    vocabulary: int = 384
    width: int = 128                 # D
    hidden: int = 192                # width of the network that works on each token by itself
    layers: int = 3  # transformer blocks of the encoder, and of the decoder that is thrown away
    heads: int = 4                   # attention heads a block
    text_length: int = 48            # tokens of a text; longer ones are cut
    share: float = 0.5               # of the tokens are masked; T5: 0.15, of 512 tokens and not of 28
    span: float = 3.0                # tokens of a masked span, on average
    sentinels: int = 16              # <extra_id_0> ...: spans of a text, and one more
    bpe: Annotated[str, tyro.conf.Suppress] = ""     # the vocabulary as JSON, learned as training starts

    def __post_init__(self):
        check_ranges(self)
        if self.width % self.heads:
            raise ValueError(f"width={self.width}: choose a multiple of heads={self.heads}")
        if self.vocabulary < 258 + self.sentinels:
            raise ValueError(f"vocabulary={self.vocabulary}: 256 bytes, {PAD}, {END} and the "
                             f"sentinels={self.sentinels} must fit")

    def open_data(self, data):
        """The lines of the file `root`, or endless texts about the scenes."""
        return read_captions(data.root) if data.root else SceneTexts()

    @staticmethod
    def stream(dataset, *, batch_size, seed=0, start=0, shard=0, shards=1, workers=0) -> Iterator[list[str]]:
        """As data.loaders.stream, of texts drawn at random; no `workers` are needed to read them ahead."""
        for step in count(start):
            draw = seeded(seed, step, shard, 3)
            chosen = torch.randint(len(dataset), (batch_size // shards,), generator=draw)
            yield [dataset[k] for k in chosen.tolist()]

    def fit_to_dataset(self, dataset) -> "SpanCorruptionConfig":
        """The same model with a vocabulary of the texts."""
        return replace(self, bpe=learn_bpe(dataset, self.vocabulary, self.marks))

    @property
    def marks(self) -> list[str]:
        """The sentinels as they are written."""
        return [f"<extra_id_{k}>" for k in range(self.sentinels)]

    @cached_property
    def tokenizer(self):
        """How this model reads texts: a tokenizer of transformers."""
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(self.bpe), pad_token=PAD,
                                       eos_token=END, extra_special_tokens=self.marks)

    def build(self) -> "SpanCorruption":
        """Encoder and decoder, with random weights."""
        return SpanCorruption(self.tokenizer, self)

    def pipeline(self, model=None):
        """ValueError, always: there is nothing to sample."""
        raise ValueError("a language model draws no images: train it with sample_steps=0, "
                         "and let it read for a model that draws, with --encoder")

    def to_training_pair(self, batch, generator=None) -> tuple[Tensor, Cond]:
        """(ids [B L] int64 without end tokens, Cond with their mask) from B texts."""
        codes = self.tokenizer(batch, add_special_tokens=False, padding="max_length", truncation=True,
                               max_length=self.text_length, return_tensors="pt")
        return codes["input_ids"], Cond(mask=codes["attention_mask"].bool())


class SpanCorruption(nn.Module):
    """An encoder that reads a text with gaps and a decoder that fills them:
    `.loss` is what training/fit.py minimises."""

    def __init__(self, tokenizer, config: SpanCorruptionConfig = SpanCorruptionConfig()):
        super().__init__()
        from transformers import T5Config, T5ForConditionalGeneration
        self.config, self.pad, self.end = config, tokenizer.pad_token_id, tokenizer.eos_token_id
        self.sentinels = tokenizer.convert_tokens_to_ids(config.marks)
        starts_with = {"decoder_start_token_id": self.pad}
        self.t5 = T5ForConditionalGeneration(T5Config(
            vocab_size=len(tokenizer), d_model=config.width, d_kv=config.width // config.heads,
            d_ff=config.hidden, num_heads=config.heads, num_layers=config.layers,
            feed_forward_proj="gated-gelu", dropout_rate=0.0, relative_attention_max_distance=32,
            pad_token_id=self.pad, eos_token_id=self.end, **starts_with))

    def loss(self, x0: Tensor, cond: Cond, generator: torch.Generator) -> Tensor:
        """[B] mean negative log-likelihood of what was masked, in nats a token.  x0: [B L] int64 without end
        tokens; cond.mask: [B L], True = a token."""
        assert cond.mask is not None
        pairs = [corrupt(ids[mask], generator, sentinels=self.sentinels, share=self.config.share,
                         span=self.config.span)
                 for ids, mask in zip(x0.cpu(), cond.mask.cpu())]
        # [B n] each
        (inputs, seen), (targets, asked) = ([v.to(x0.device) for v in self._lines(texts)]
                                            for texts in zip(*pairs))
        logits = self.t5(input_ids=inputs, attention_mask=seen,
                         decoder_input_ids=F.pad(targets, (1, -1), value=self.pad)).logits
        nll = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")  # [B n]
        return (nll * asked).sum(1) / asked.sum(1)

    def _lines(self, texts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Texts with their end tokens, side by side: ids [B n],
        and which of them are no padding [B n] bool."""
        texts = [F.pad(text, (0, 1), value=self.end) for text in texts]
        lengths = torch.tensor([len(text) for text in texts])
        return nn.utils.rnn.pad_sequence(texts, True,
                                         self.pad), torch.arange(int(lengths.max())) < lengths[:, None]


@torch.no_grad()
def fill_in(model: SpanCorruption, tokenizer, text: str, most: int = 20) -> str:
    """The text with each <extra_id_0>, <extra_id_1>, ... replaced by the words that the model thinks stood
    there.  most: tokens it may write.

    fill_in(model, tokenizer, "a large red circle <extra_id_0> white background").
    Lesson: notebooks/06_imagen.ipynb"""
    written = model.t5.generate(**tokenizer(text, return_tensors="pt").to(model.t5.device),
                                max_new_tokens=most, do_sample=False)[0].tolist()
    marks = {token: k for k, token in enumerate(model.sentinels)}
    guesses: dict[int, list[int]] = {}
    k = None
    for token in written:
        k = marks.get(token, k)
        if k is not None and token not in (*marks, model.pad, model.end):
            guesses.setdefault(k, []).append(token)
    for k, tokens in guesses.items():
        text = text.replace(f"<extra_id_{k}>", tokenizer.decode(tokens).strip())
    return text


# ---- the encoder, for others ----

def save_encoder(model: SpanCorruption, tokenizer, folder: str | Path) -> Path:
    """Write the encoder half and the tokenizer as a folder in Hugging Face's layout, in one atomic step:
    what FrozenEncoder reads.

    An encoder that lies there is replaced; FileExistsError if the folder holds anything else.  OSError in one
    line if it cannot be written."""
    from transformers import T5Config
    folder, tmp = Path(folder), Path(folder).with_name(f".{Path(folder).name}.{os.getpid()}")
    check_encoder(folder)
    weights = {k: v.cpu().contiguous() for k, v in model.t5.state_dict().items() if k == "shared.weight"
               or k.startswith("encoder.block")
               or k == "encoder.final_layer_norm.weight"}
    try:
        with writing(folder):
            tmp.mkdir(parents=True)
            save_tensors(weights, tmp / "model.safetensors", metadata={"format": "pt"})
            T5Config(**model.t5.config.to_dict() | {"architectures": ["T5EncoderModel"]}).save_pretrained(tmp)
            tokenizer.save_pretrained(tmp)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(tmp, folder)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return folder


def check_encoder(folder: Path) -> None:
    """FileExistsError unless a folder is missing, empty, or an encoder, which may be replaced."""
    if folder.exists() and not {path.name for path in folder.iterdir()} <= FILES:
        raise FileExistsError(f"{folder} holds something other than an encoder: choose another folder")
