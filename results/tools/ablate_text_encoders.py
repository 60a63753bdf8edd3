"""Ablation of the text encoder: the same 16 px base trained three times, then made to choose captions.

Encoders: the frozen language model that ships with the project, the same one with random weights (frozen
too), and GLIDE's text transformer, which learns with the images. Equal steps, batches and U-Net.
`python results/tools/ablate_text_encoders.py` writes imagen-shapes/encoders.json; runs go to runs/encoders/
and are resumed.
"""
import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from t2ilab.evaluation.ablations.caption_choice import choice_metrics
from t2ilab.families.glide import GLIDEConfig
from t2ilab.hub import shipped_run
from t2ilab.nets.text_transformer import TextConfig
from t2ilab.presets import PRESETS
from t2ilab.runs.load import load
from t2ilab.runs.train import train

OUT = Path(__file__).parent.parent / "imagen-shapes" / "encoders.json"


def random_encoder(folder: Path) -> Path:
    """The shipped encoder's architecture and tokenizer with random weights."""
    from transformers import AutoConfig, T5EncoderModel
    if not folder.is_dir():
        torch.manual_seed(0)
        begun = folder.with_name("." + folder.name)
        shutil.copytree(shipped_run("t5-shapes"), begun, dirs_exist_ok=True)
        T5EncoderModel(AutoConfig.from_pretrained(begun)).save_pretrained(begun)
        begun.rename(folder)
    return folder


def presets(steps: int, runs: Path) -> dict:
    """The three presets, alike but for their text encoder."""
    preset = PRESETS["imagen-shapes"]
    fit, save = replace(preset.fit, steps=steps), replace(preset.save, sample_steps=0)
    preset = replace(preset, fit=fit, save=save, cascade=())
    model = replace(preset.model, size=16)
    untrained = replace(model, encoder=str(random_encoder(runs / "random-t5")))
    text = TextConfig(512, 24, text_layers=3, text_heads=4)
    learned = GLIDEConfig(size=model.size, text=text, net=model.net, sampling_steps=model.sampling_steps,
                          guidance_scale=model.guidance_scale, objective=model.objective)
    return {"frozen language model": replace(preset, model=model),
            "frozen random weights": replace(preset, model=untrained),
            "learned with the pictures": replace(preset, model=learned)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--n", type=int, default=128, help="pictures to choose a caption for, of each kind")
    parser.add_argument("--runs", type=Path, default=Path("runs/encoders"))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    result = {}
    for name, preset in presets(options.steps, options.runs).items():
        folder = options.runs / f"{name} {options.steps}".replace(" ", "-")
        for _ in train(preset, folder):
            pass
        pipeline = load(folder, cascade=False)
        parameters = sum(p.numel() for p in pipeline.model.parameters())
        result[name] = choice_metrics(pipeline, n=options.n) | {"trained parameters": parameters}
        print(name, result[name])
    command = f"python results/tools/ablate_text_encoders.py --steps {options.steps} --n {options.n}"
    record = {"steps": options.steps, "encoders": result, "command": command}
    OUT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
