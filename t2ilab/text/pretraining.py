"""A language model that learns from text alone: T5's span corruption (Raffel et al. 2020, 3.1.4),
at the size of a laptop.

Pieces of a text are cut out and the model writes down what stood there. Its encoder half is then frozen and
tells an image model what a caption means, as T5-XXL does in Imagen (text/frozen_encoder.py). Left out on
purpose: several texts in one line of 512 tokens, and T5's 750 GB of web pages.
"""
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.example import ENDLESS
from ..data.shapes import Scenes, describe
from ..diffusion.cond import Cond
from ..tensors import generator as seeded
from ..training.checkpoint import Checkpoints, newest, save_tensors, writing
from ..training.fit import FitConfig, Log, TrainState, fit
from .span_corruption import corrupt

PAD, END = "<pad>", "</s>"
SAMPLE = 2000                        # texts that a vocabulary is learned from
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@dataclass(frozen=True)
class PretrainConfig:
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

    def __post_init__(self):
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise ValueError(f"width={self.width}: choose a positive multiple of heads={self.heads}")
        if self.vocabulary < 258 + self.sentinels or self.sentinels < 2:
            raise ValueError(
                f"vocabulary={self.vocabulary}, sentinels={self.sentinels}: 256 bytes, {PAD}, {END} and at "
                "least 2 sentinels must fit"
            )
        for name in ("hidden", "layers", "text_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: choose 1 or more")
        if not 0 < self.share < 1 or self.span < 1:
            raise ValueError(
                f"share={self.share}, span={self.span}: choose a share between 0 and 1 and spans of 1 "
                "token or more"
            )


# of t5-shapes: about 12 minutes on one core
PRETRAINING = FitConfig(steps=4000, batch_size=48, lr=2e-3, warmup=100, precision="fp32")


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


def learn_tokenizer(texts: Sequence[str], config: PretrainConfig = PretrainConfig()):
    """A byte-level vocabulary of the first 2,000 texts, as a tokenizer of transformers: any text in any
    script can be written in it.

    It reads in lower case and ends each text with </s>; <extra_id_0> ... are one token each."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast
    marks = [f"<extra_id_{k}>" for k in range(config.sentinels)]
    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.pre_tokenizer, bpe.decoder = (
        normalizers.Lowercase(),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        decoders.ByteLevel(),
    )
    trainer = trainers.BpeTrainer(vocab_size=config.vocabulary, special_tokens=[PAD, END, *marks],
                                  show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    bpe.train_from_iterator([texts[k] for k in range(min(len(texts), SAMPLE))], trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"$A {END}",
                                                       special_tokens=[(END, bpe.token_to_id(END))])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=PAD, eos_token=END,
                                   extra_special_tokens=marks)


# ---- the model ----

class SpanCorruption(nn.Module):
    """An encoder that reads a text with gaps and a decoder that fills them:
    `.loss` is what training/fit.py minimises."""

    def __init__(self, tokenizer, config: PretrainConfig = PretrainConfig()):
        super().__init__()
        from transformers import T5Config, T5ForConditionalGeneration
        self.config, self.pad, self.end = config, tokenizer.pad_token_id, tokenizer.eos_token_id
        self.sentinels = tokenizer.convert_tokens_to_ids([f"<extra_id_{k}>" for k in range(config.sentinels)])
        self.t5 = T5ForConditionalGeneration(T5Config(
            vocab_size=len(tokenizer), d_model=config.width, d_kv=config.width // config.heads,
            d_ff=config.hidden, num_heads=config.heads,
            num_layers=config.layers, feed_forward_proj="gated-gelu", dropout_rate=0.0,
            relative_attention_max_distance=32, pad_token_id=self.pad, eos_token_id=self.end,
            decoder_start_token_id=self.pad))

    def loss(self, x0: Tensor, cond: Cond, generator: torch.Generator) -> Tensor:
        """[B] mean negative log-likelihood of what was masked, in nats a token.  x0: [B L] int64 without end
        tokens; cond.mask: [B L], True = a token."""
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
    guesses, k = {}, None
    for token in written:
        k = marks.get(token, k)
        if k is not None and token not in (*marks, model.pad, model.end):
            guesses.setdefault(k, []).append(token)
    for k, tokens in guesses.items():
        text = text.replace(f"<extra_id_{k}>", tokenizer.decode(tokens).strip())
    return text


# ---- pre-training ----

def pretrain(texts: Sequence[str], tokenizer, config: PretrainConfig = PretrainConfig(),
             fit_config: FitConfig = FitConfig(), *,
             out: str | Path | None = None) -> Iterator[tuple[Log, SpanCorruption]]:
    """Train a small T5 on texts, drawn at random for ever.  Yields (Log, averaged model) after every step;
    the last one is what to save.

    out: folder that the encoder is saved in at last. Until then its state lies beside it, and after a kill
    the same call goes on from there. FileExistsError if that folder holds anything else, or another training
    was begun there.  Lesson: notebooks/06_imagen.ipynb"""
    if len(texts) == 0:
        raise ValueError("no texts: there is nothing to learn from")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit_config.seed)
        model = SpanCorruption(tokenizer, config)
    state = TrainState(model, fit_config)
    begun = None if out is None else _begun(Path(out), texts, tokenizer, config, state)
    for log, ema in fit(model, _batches(texts, tokenizer, config, state), fit_config, state=state):
        if begun is not None and state.accelerator.is_main_process:
            if log.step == fit_config.steps:
                save_encoder(ema, tokenizer, out)
                shutil.rmtree(begun.folder, ignore_errors=True)
            elif begun.due(state):
                begun.save(state)
        yield log, ema


def _begun(out: Path, texts: Sequence[str], tokenizer, config: PretrainConfig,
           state: TrainState) -> Checkpoints:
    """What an unfinished training into a folder left beside it, put into the state,
    and where this one keeps its own."""
    _check_encoder(out)
    seen = json.dumps([texts[k] for k in range(min(SAMPLE, len(texts)))] + sorted(tokenizer.get_vocab()))
    # steps may grow
    this = {"text": asdict(config), "fit": asdict(replace(state.config, steps=1)),
            "texts": hashlib.sha256(seen.encode()).hexdigest()}
    this = json.loads(json.dumps(this))                         # as it is read again: lists for tuples
    folder = out.with_name(f".{out.name}.unfinished")
    if (checkpoint := newest(folder)) and json.loads(
        (checkpoint / "config.json").read_text(encoding="utf8")
    ) != this:
        raise FileExistsError(
            f"{folder} holds an unfinished training of other texts or with other options: choose another "
            "--out, or remove it"
        )
    begun = Checkpoints(folder, this, every_steps=0, every_seconds=60, keep=1)
    begun.restore(state)
    if state.step >= state.config.steps:
        raise ValueError(f"steps={state.config.steps}: {state.step} are done in {folder}; choose more")
    return begun


def _batches(texts: Sequence[str], tokenizer, config: PretrainConfig,
             state: TrainState) -> Iterator[tuple[Tensor, Cond]]:
    """(ids [B L] int64, Cond with their mask) for each of this process's shards of each step:
    a pure function of (seed, step)."""
    each = state.config.batch_size // state.total_shards
    for step in count(state.step):
        for shard in state.shards:
            draw = seeded(state.config.seed, step, shard, 3)
            chosen = [texts[k] for k in torch.randint(len(texts), (each,), generator=draw).tolist()]
            codes = tokenizer(chosen, add_special_tokens=False, padding="max_length", truncation=True,
                              max_length=config.text_length, return_tensors="pt")
            yield codes["input_ids"], Cond(mask=codes["attention_mask"].bool())


def save_encoder(model: SpanCorruption, tokenizer, folder: str | Path) -> Path:
    """Write the encoder half and the tokenizer as a folder in Hugging Face's layout, in one atomic step:
    what FrozenEncoder reads.

    An encoder that lies there is replaced; FileExistsError if the folder holds anything else.  OSError in one
    line if it cannot be written."""
    from transformers import T5Config
    folder, tmp = Path(folder), Path(folder).with_name(f".{Path(folder).name}.{os.getpid()}")
    _check_encoder(folder)
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


def _check_encoder(folder: Path) -> None:
    """FileExistsError unless a folder is missing, empty, or an encoder, which may be replaced."""
    if folder.exists() and not {path.name for path in folder.iterdir()} <= FILES:
        raise FileExistsError(f"{folder} holds something other than an encoder: choose another folder")
