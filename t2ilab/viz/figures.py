"""The drawn figures of the lessons: a U-Net, attention with text, a cascade, a codec, masks and codes."""
from PIL import Image

from .diagram import Arrow, Box, diagram


def unet_figure() -> Image.Image:
    """A U-Net of three levels: down, through the middle, up, with skip connections across."""
    boxes = {
        "x": Box("noisy image x_t\n[3, 32, 32]", 0, 4.6, 2.6, 1, "image"),
        "d1": Box("residual blocks\n32 px, C channels", 0, 3, 2.6, 1),
        "d2": Box("residual blocks\n16 px, 2C", 2.2, 1.4, 2.6, 1),
        "m": Box("residual blocks\nand attention\n8 px, 4C", 6, -0.3, 2.8, 1.2),
        "u2": Box("residual blocks\n16 px, 2C", 9.8, 1.4, 2.6, 1),
        "u1": Box("residual blocks\n32 px, C channels", 12, 3, 2.6, 1),
        "y": Box("prediction of x_0\n[3, 32, 32]", 12, 4.6, 2.6, 1, "image"),
        "t": Box("time embedding of t,\nadded in every block", 0.6, -0.3, 3, 1, "text"),
    }
    arrows = [
        Arrow("x", "d1"), Arrow("d1", "d2", "half the size"), Arrow("d2", "m", "half the size"),
        Arrow("m", "u2", "twice the size"), Arrow("u2", "u1", "twice the size"), Arrow("u1", "y"),
        Arrow("d1", "u1", "skip connection", dashed=True),
        Arrow("d2", "u2", "skip connection", dashed=True),
        Arrow("t", "m", dashed=True),
    ]
    return diagram(boxes, arrows)


def text_attention_figure() -> Image.Image:
    """How a caption reaches the pixels: keys and values from both, queries from the pixels alone."""
    boxes = {
        "caption": Box("caption\n\"a red circle\"", 0, 0, 2.4, 1, "text"),
        "tokens": Box("tokens\n[L]", 3, 0, 1.8, 1, "text"),
        "encoder": Box("text transformer\n[L, D]", 6, 0, 2.4, 1),
        "pixels": Box("pixels of a U-Net level\n[h w, C]", 2.2, 2.8, 3.2, 1, "image"),
        "q": Box("queries Q\n[h w, d]", 6, 3.6, 2.2, 0.9, "image"),
        "kv": Box("keys K, values V\n[h w + L, d]", 6, 1.9, 2.4, 0.9),
        "attention": Box("softmax(Q K^T / sqrt(d)) V", 9.6, 2.8, 3.4, 1),
        "out": Box("pixels that have\nread the caption", 13.2, 2.8, 2.6, 1, "image"),
    }
    arrows = [
        Arrow("caption", "tokens"), Arrow("tokens", "encoder"), Arrow("encoder", "kv"),
        Arrow("pixels", "q"), Arrow("pixels", "kv"), Arrow("q", "attention"),
        Arrow("kv", "attention"), Arrow("attention", "out"),
    ]
    return diagram(boxes, arrows)


def cascade_figure() -> Image.Image:
    """Imagen's cascade: a base from noise, then two networks that upsample; one frozen text encoder."""
    words = (("text1", "base"), ("text2", "sr1"), ("text3", "sr2"))
    boxes = {
        **{name: Box("caption, read by a\nfrozen text encoder", x, 0.2, 2.9, 1, "text")
           for name, x in (("text1", 2.6), ("text2", 8.2), ("text3", 12.9))},
        "noise": Box("noise\n64 px", 0, 2, 1.6, 1, "noise"),
        "base": Box("base\nU-Net", 2.6, 2, 1.8, 1),
        "low": Box("64 px", 5.0, 2, 1.2, 1, "image"),
        "sr1": Box("upsampler\nU-Net", 8.2, 2, 1.8, 1),
        "mid": Box("256 px", 10.6, 2, 1.2, 1.2, "image"),
        "sr2": Box("upsampler\nU-Net", 12.9, 2, 1.8, 1),
        "high": Box("1024 px", 15.4, 2, 1.4, 1.4, "image"),
        "fresh1": Box("noise\n256 px", 8.2, 3.7, 1.8, 1, "noise"),
        "fresh2": Box("noise\n1024 px", 12.9, 3.7, 1.8, 1, "noise"),
    }
    arrows = [
        Arrow("noise", "base"), Arrow("base", "low"), Arrow("low", "sr1", "+ noise"),
        Arrow("fresh1", "sr1"), Arrow("sr1", "mid"), Arrow("mid", "sr2"), Arrow("fresh2", "sr2"),
        Arrow("sr2", "high"), *(Arrow(text, net, dashed=True) for text, net in words),
    ]
    return diagram(boxes, arrows)


def codec_figure() -> Image.Image:
    """A VQ-VAE or VQGAN: encoder, nearest codebook entry, decoder, and where its losses stand."""
    boxes = {
        "x": Box("image x\n[3, 64, 64]", 0, 1.6, 1.9, 1, "image"),
        "E": Box("encoder", 2.6, 1.6, 1.6, 1),
        "z": Box("vectors z\n[D, 8, 8]", 5.1, 1.6, 1.9, 1, "plain"),
        "q": Box("nearest entry\nof the codebook", 8, 1.6, 2.3, 1),
        "codes": Box("64 codes\n(whole numbers)", 8, 0, 2.3, 1, "text"),
        "zq": Box("entries e\n[D, 8, 8]", 10.9, 1.6, 1.9, 1, "plain"),
        "D": Box("decoder", 13.3, 1.6, 1.6, 1),
        "y": Box("image again\n[3, 64, 64]", 15.9, 1.6, 2, 1, "image"),
    }
    arrows = [
        Arrow("x", "E"), Arrow("E", "z"), Arrow("z", "q"), Arrow("q", "zq"), Arrow("q", "codes"),
        Arrow("zq", "D"), Arrow("D", "y"),
        Arrow("x", "y", "reconstruction, perceptual and adversarial loss", bend=-0.26, dashed=True),
        Arrow("zq", "z", "straight-through gradient", bend=0.34, dashed=True),
    ]
    return diagram(boxes, arrows, room=2)


def mask_and_replace_figure() -> Image.Image:
    """What one step of mask-and-replace does to one token."""
    boxes = {
        "x": Box("token at t - 1", 0, 1.3, 2.2, 1, "image"),
        "keep": Box("stays as it is", 5, 2.6, 2.6, 0.9, "image"),
        "replace": Box("becomes a random code", 5, 1.3, 2.9, 0.9, "noise"),
        "mask": Box("becomes [MASK]", 5, 0, 2.6, 0.9, "text"),
        "m": Box("[MASK] at t - 1", 9.6, 0, 2.2, 0.9, "text"),
        "stays": Box("stays [MASK]\nfor all later t", 13.2, 0, 2.4, 0.9, "text"),
    }
    arrows = [
        Arrow("x", "keep", "alpha_t + beta_t"), Arrow("x", "replace", "(K - 1) beta_t"),
        Arrow("x", "mask", "gamma_t"), Arrow("m", "stays", "1"),
    ]
    return diagram(boxes, arrows)
