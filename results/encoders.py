"""Does it matter who reads the captions? `python results/encoders.py` trains the same 32 px base three times and marks its pictures.

Readers: the frozen language model that ships with the project, the same one with random weights (frozen too), and GLIDE's text transformer, which
learns with the pictures. Equal steps, batches and U-Net; the scene parser marks the pictures. Writes imagen-shapes/encoders.json; runs go to runs/encoders/ and are resumed.
"""
import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from t2ilab.evaluate.alignment import alignment
from t2ilab.evaluate.captions import KINDS, fresh_scenes
from t2ilab.evaluate.report import sample_many
from t2ilab.families.glide import GLIDE
from t2ilab.nets.text_transformer import TextConfig
from t2ilab.presets import PRESETS
from t2ilab.runs import load, train
from t2ilab.shipped import shipped_run

OUT = Path(__file__).parent / "imagen-shapes" / "encoders.json"


def random_encoder(folder: Path) -> Path:
    """The shipped encoder's architecture and tokenizer with random weights."""
    from transformers import AutoConfig, T5EncoderModel
    if not folder.is_dir():
        torch.manual_seed(0)
        shutil.copytree(shipped_run("t5-shapes"), folder)
        T5EncoderModel(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def presets(steps: int, runs: Path) -> dict:
    """The three presets, alike but for who reads."""
    preset = PRESETS["imagen-shapes"]
    preset = replace(preset, fit=replace(preset.fit, steps=steps), save=replace(preset.save, sample_steps=0), then=())
    model = preset.model
    learned = GLIDE(size=model.size, text=TextConfig(512, 24, text_layers=3, text_heads=4), net=model.net, sampling_steps=model.sampling_steps,
                    guidance_scale=model.guidance_scale, objective=model.objective)
    return {"frozen language model": preset,
            "frozen random weights": replace(preset, model=replace(model, encoder=str(random_encoder(runs / "random-t5")))),
            "learned with the pictures": replace(preset, model=learned, family="glide")}


def marks(pipeline, n: int) -> dict[str, float]:
    """Alignment of n fresh captions of each kind."""
    captions = {kind: [caption for _, caption in fresh_scenes(kind, n)] for kind in KINDS}
    return {kind: round(alignment(sample_many(pipeline, said), said).score, 4) for kind, said in captions.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000, help="after 1,500 the parser reads next to nothing")
    parser.add_argument("--n", type=int, default=64, help="captions of each kind")
    parser.add_argument("--runs", type=Path, default=Path("runs/encoders"))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    result = {}
    for name, preset in presets(options.steps, options.runs).items():
        folder = options.runs / name.replace(" ", "-")
        losses = [log.loss for log, _ in train(preset, folder)]
        pipeline = load(folder, cascade=False)
        trained = sum(p.numel() for p in preset.model.build().stages[0].denoiser.parameters())
        result[name] = marks(pipeline, options.n) | {"trained parameters": trained}
        print(name, result[name], f"last losses {sum(losses[-100:]) / max(1, len(losses[-100:])):.4f}" if losses else "")
    record = {"steps": options.steps, "samples": options.n, "encoders": result,
              "command": f"python results/encoders.py --steps {options.steps} --n {options.n}"}
    OUT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
