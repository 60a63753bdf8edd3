"""One paper, one file, in the paper's order; one row here.  What a family is: base.py."""
from .base import FamilyConfig
from .ddpm import DDPM
from .glide import GLIDE
from .imagen import Imagen
from .latent_diffusion import LatentDiffusion
from .rectified_flow import RectifiedFlow
from .vq_diffusion import VQDiffusion
from .vqgan import VQCodec

FAMILIES = {
    "ddpm": DDPM,
    "glide": GLIDE,
    "imagen": Imagen,
    "vq_codec": VQCodec,
    "vq_diffusion": VQDiffusion,
    "rectified_flow": RectifiedFlow,
    "latent_diffusion": LatentDiffusion,
}


def family_of(model: FamilyConfig) -> str:
    """The name of a config's family in FAMILIES, as config.json holds it.  TypeError for anything else."""
    for name, kind in FAMILIES.items():
        if type(model) is kind:
            return name
    raise TypeError(f"{type(model).__name__} is the config of no family: choose one of {', '.join(k.__name__ for k in FAMILIES.values())}")
