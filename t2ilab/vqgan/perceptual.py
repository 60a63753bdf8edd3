"""Perceptual loss: the distance of two images in the features of a frozen image network.

LPIPS's recipe (Zhang et al. 2018) without its learned weights: features of several layers, each of
length 1, compared place by place. Blurry is far from sharp, a pixel's shift is near. Features come
from VGG16 (torchvision's weights), or offline from a small classifier of coloured shapes. Both are
part of no checkpoint.
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSIFIER_WIDTHS = (16, 32, 64, 64)


class SceneClassifier(nn.Module):
    """Classifier of the one coloured shape in an image: [B 3 H W] -> logits [B 18].

    Small enough to be trained in minutes."""

    def __init__(self, classes: int = 18):
        super().__init__()
        pairs = zip((3, *CLASSIFIER_WIDTHS), CLASSIFIER_WIDTHS)
        self.layers = nn.ModuleList([_halving(a, b) for a, b in pairs])
        self.head = nn.Linear(CLASSIFIER_WIDTHS[-1], classes)

    def features(self, images: Tensor) -> list[Tensor]:
        """The features of each layer: [B C h w] each."""
        return _outputs(self.layers, images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images)[-1].amax((2, 3)))

    def loss(self, x0: Tensor, cond, generator=None) -> Tensor:
        """Cross-entropy [B].  cond.text: [B 1] int64, the coloured shape's number."""
        return F.cross_entropy(self(x0), cond.text[:, 0], reduction="none")


class VGG16(nn.Module):
    """VGG16's features after each of its five groups of convolutions, with torchvision's weights.

    FileNotFoundError, with the command that gets them, where they are not."""
    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    GROUPS = (4, 9, 16, 23, 30)

    def __init__(self):
        super().__init__()
        from torchvision.models import VGG16_Weights, vgg16
        url = VGG16_Weights.IMAGENET1K_V1.url
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        for name, values in (("mean", self.MEAN), ("std", self.STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        net = vgg16()
        if not path.is_file():
            raise FileNotFoundError("the perceptual loss needs VGG16's weights; get them once: "
                                    f"curl -L --create-dirs -o {path} {url}   "
                                    "(or choose --perceptual-net scenes, or --perceptual 0)")
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        groups = zip((0, *self.GROUPS), self.GROUPS)
        self.groups = nn.ModuleList([net.features[start:end] for start, end in groups])

    def features(self, images: Tensor) -> list[Tensor]:
        """The features of each group: [B C h w] each."""
        return _outputs(self.groups, ((images + 1) / 2 - self.mean) / self.std)


class Perceptual(nn.Module):
    """Perceptual distance of images, [B 3 H W] twice -> [B]; 0 for equal ones."""

    def __init__(self, perceptual_net: nn.Module):
        super().__init__()
        self.perceptual_net = perceptual_net.eval().requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(self.perceptual_net.features(a), self.perceptual_net.features(b))
        squared = [(_unit(x) - _unit(y)).square().sum(1) for x, y in pairs]      # [B h w] each
        return sum(v.mean((1, 2)) for v in squared)


def _halving(c_in: int, c_out: int) -> nn.Sequential:
    """Two convolutions, the first with stride 2: [B C_in H W] -> [B C_out H/2 W/2]."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.SiLU(),
                         nn.Conv2d(c_out, c_out, 3, padding=1), nn.SiLU())


def _outputs(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """The output of each layer, one after another."""
    seen = []
    for layer in layers:
        x = layer(x)
        seen.append(x)
    return seen


def _unit(x: Tensor) -> Tensor:
    """Features of length 1 at each place."""
    return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()


def _scene_classifier() -> nn.Module:
    """The classifier that ships with the project."""
    from safetensors.torch import load_file

    from ..hub import shipped_run
    net = SceneClassifier()
    weights = load_file(shipped_run("scene-eyes") / "model.safetensors")
    net.load_state_dict({name: v.float() for name, v in weights.items()})
    return net


PERCEPTUAL = {"vgg16": lambda: Perceptual(VGG16()),
              "scenes": lambda: Perceptual(_scene_classifier())}
