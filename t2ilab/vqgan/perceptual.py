"""How different two pictures look to a network that was trained to recognise things: blurry is far from
sharp, a pixel's shift is near.

LPIPS's recipe (Zhang et al. 2018) without its learned weights: features of several layers, each of length 1,
compared place by place. The eyes are VGG16's where torchvision's weights are, or a small network of ours that
knows coloured shapes. Frozen, and part of no checkpoint.
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSIFIER_WIDTHS = (16, 32, 64, 64)


class SceneClassifier(nn.Module):
    """Says which coloured shape a picture of one object shows:
    [B 3 H W] -> logits [B 18].  Small enough to be trained in minutes."""

    def __init__(self, classes: int = 18):
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.SiLU(),
                                                   nn.Conv2d(b, b, 3, padding=1), nn.SiLU())
                                     for a, b in zip((3, *CLASSIFIER_WIDTHS), CLASSIFIER_WIDTHS)])
        self.head = nn.Linear(CLASSIFIER_WIDTHS[-1], classes)

    def features(self, images: Tensor) -> list[Tensor]:
        """What each layer sees: [B C h w] each."""
        seen = [images]
        for layer in self.layers:
            seen.append(layer(seen[-1]))
        return seen[1:]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images)[-1].amax((2, 3)))

    def loss(self, x0: Tensor, cond, generator=None) -> Tensor:
        """[B]: cross-entropy.  cond.text: [B 1] int64, the coloured shape's number."""
        return F.cross_entropy(self(x0), cond.text[:, 0], reduction="none")


class VGG16(nn.Module):
    """VGG16's features after each of its five groups of convolutions.  Weights are torchvision's."""
    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    GROUPS = (4, 9, 16, 23, 30)

    def __init__(self):
        super().__init__()
        from torchvision.models import VGG16_Weights, vgg16
        weights = VGG16_Weights.IMAGENET1K_V1
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        for name, values in (("mean", self.MEAN), ("std", self.STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        net = vgg16()
        if not path.is_file():
            raise FileNotFoundError("the perceptual loss needs VGG16's weights; get them once: curl -L "
                                    f"--create-dirs -o {path} {weights.url}   "
                                    "(or choose --perceptual-net scenes, or --perceptual 0)")
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.groups = nn.ModuleList([net.features[a:b] for a, b in zip((0, *self.GROUPS), self.GROUPS)])

    def features(self, images: Tensor) -> list[Tensor]:
        """What each group sees: [B C h w] each."""
        seen = [((images + 1) / 2 - self.mean) / self.std]
        for group in self.groups:
            seen.append(group(seen[-1]))
        return seen[1:]


class Perceptual(nn.Module):
    """How different pictures look, [B 3 H W] twice -> [B]; 0 for equal ones."""

    def __init__(self, perceptual_net: nn.Module):
        super().__init__()
        self.perceptual_net = perceptual_net.eval().requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(self.perceptual_net.features(a), self.perceptual_net.features(b))
        return sum((_unit(x) - _unit(y)).square().sum(1).mean((1, 2)) for x, y in pairs)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()


def _scene_classifier() -> nn.Module:
    from safetensors.torch import load_file

    from ..hub import shipped_run
    perceptual_net = SceneClassifier()
    perceptual_net.load_state_dict(
        {k: v.float() for k, v in load_file(shipped_run("scene-eyes") / "model.safetensors").items()}
    )
    return perceptual_net


PERCEPTUAL = {"vgg16": lambda: Perceptual(VGG16()), "scenes": lambda: Perceptual(_scene_classifier())}
