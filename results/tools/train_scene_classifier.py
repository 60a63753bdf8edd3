"""A small classifier of coloured shapes, for the VQGAN's perceptual loss.

`python results/tools/train_scene_classifier.py` trains it and ships it, in five minutes.
It stays a plain program and no family: a whole training without diffusion, to be read at one glance.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from t2ilab.data.loaders import stream
from t2ilab.data.shapes import Scenes
from t2ilab.diffusion.cond import Cond
from t2ilab.training.fit import FitConfig, fit
from t2ilab.vqgan.perceptual import SceneClassifier

OUT = Path(__file__).parent.parent / "scene-eyes"


def main() -> None:
    torch.manual_seed(0)
    scenes = Scenes(size=64, objects=(1,))
    batches = ((batch.images, Cond(batch.labels[:, None])) for batch in stream(scenes, batch_size=64, seed=0))
    config = FitConfig(steps=1500, batch_size=64, lr=2e-3, ema_decay=0.995, precision="fp32")
    for log, perceptual_net in fit(SceneClassifier(), batches, config):
        if log.step % 100 == 0:
            print(log.step, f"{log.loss:.4f}", flush=True)
    fresh = next(stream(scenes, batch_size=512, seed=1))
    right = (perceptual_net(fresh.images).argmax(1) == fresh.labels).float().mean().item()
    OUT.mkdir(exist_ok=True)
    weights = {k: v.half().contiguous() for k, v in perceptual_net.state_dict().items()}
    save_file(weights, OUT / "model.safetensors")
    metrics = {"right": round(right, 4), "samples": 512,
               "parameters": sum(p.numel() for p in perceptual_net.parameters()),
               "command": "python results/tools/train_scene_classifier.py"}
    (OUT / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf8")
    print(right)


if __name__ == "__main__":
    main()
