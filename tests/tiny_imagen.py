"""Imagen so small that it takes a step in milliseconds: a random T5 of 16 numbers a token, a base that draws 8 x 8 pictures, a stage that doubles them."""
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import torch

from t2ilab.diffusion.gaussian_denoiser import ObjectiveConfig
from t2ilab.families.imagen import ImagenConfig
from t2ilab.nets.efficient_unet import EfficientUNetConfig
from t2ilab.nets.unet import UNetConfig

WORDS = "a an small large red green blue yellow orange purple circle square triangle above below left right of on the at top bottom centre white grey black background".split()


def random_t5(folder) -> Path:
    """A Hugging Face folder with a tiny T5 encoder of random weights and a tokenizer of the scenes' words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        T5EncoderModel(T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(folder)
    return Path(folder)


ENCODER = str(random_t5(mkdtemp()))
NET = UNetConfig(channels=8, channel_mult=(1, 2), blocks=1, attention=(False, True), head_channels=8, scale_shift_norm=True, dropout=0.0, text_width=8)
BASE = ImagenConfig(size=8, encoder=ENCODER, encoder_width=16, text_length=16, cache=False, net=NET, sampling_steps=3, guidance_scale=3.0,
              objective=ObjectiveConfig(predict="x0", cond_drop_prob=0.2))
SHARPEN = EfficientUNetConfig(channels=8, channel_mult=(1, 2), blocks=(1, 2), attention=(False, True), cross=(True, False), head_channels=8, text_width=8)
UPSAMPLER = replace(BASE, size=16, low_res=8, net=SHARPEN, sampling_steps=2, guidance_scale=1.0)


def net_of(model):
    """The network of a model's first stage, with random weights."""
    return model.build().net
