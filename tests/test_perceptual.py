"""Eyes for the perceptual loss: what they look at, and what a missing file of weights says."""
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_codec import NET, PLAIN, pictures
from test_unet import awake
from torch import nn
from torch.testing import assert_close

from t2ilab.vqgan.objective import VQGANObjective
from t2ilab.vqgan.perceptual import VGG16, Perceptual, SceneClassifier


def test_equal_pictures_look_equal_and_a_blur_looks_worse_than_a_shade():
    perceptual_net = Perceptual(awake(SceneClassifier()))
    x = pictures(2, 32)
    assert perceptual_net(x, x).tolist() == [0, 0]
    assert (perceptual_net(x, F.avg_pool2d(x, 5, 1, 2)) > perceptual_net(x, 0.98 * x)).all()


def test_features_are_compared_by_direction_not_by_length():
    class Features(nn.Module):
        def features(self, images):
            return [images]
    perceptual_net, x = Perceptual(Features()), pictures(2, 4)
    assert_close(perceptual_net(x, 5 * x), torch.zeros(2))
    assert_close(perceptual_net(x, -x), torch.full((2,), 4.0), rtol=1e-4, atol=1e-4)                 # two unit vectors that point apart


@pytest.mark.slow
def test_missing_eyes_say_the_command_that_gets_them(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = VQGANObjective(NET, replace(PLAIN, perceptual=1.0, perceptual_net="vgg16"))
    with pytest.raises(FileNotFoundError, match="curl -L --create-dirs .*--perceptual-net scenes"):
        model.loss(pictures(1, 16))


def test_vgg_looks_with_its_five_groups_at_pictures_as_it_was_trained_on(monkeypatch, tmp_path):
    """LPIPS compares relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3; torchvision's weights expect the mean and spread of ImageNet."""
    from torchvision.models.vgg import cfgs, make_layers
    torch.manual_seed(0)
    net = nn.Module()
    net.features = make_layers(cfgs["D"])                                        # without the classifier, which is nine tenths of it
    file = tmp_path / "checkpoints" / "vgg16-397923af.pth"
    file.parent.mkdir()
    torch.save(net.state_dict(), file)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torchvision.models.vgg16", lambda: net)
    seen, x0 = [], pictures(size=32)
    for layer in (3, 8, 15, 22, 29):
        assert isinstance(net.features[layer], nn.ReLU)
        net.features[layer].register_forward_hook(lambda layer, given, out: seen.append(out.clone()))
    net.features((x0 / 2 + 0.5 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None])
    wanted = list(seen)
    for found, want in zip(VGG16().features(x0), wanted, strict=True):
        assert_close(found, want, rtol=1e-4, atol=1e-5)
