"""Families of models: one paper, one file, in the paper's order.  What a family is: base.py."""
from .base import FamilyConfig
from .ddpm import DDPMConfig
from .glide import GLIDEConfig
from .imagen import ImagenConfig
from .latent_diffusion import LatentDiffusionConfig
from .rectified_flow import RectifiedFlowConfig
from .span_corruption import SpanCorruptionConfig
from .vq_diffusion import VQDiffusionConfig
from .vqgan import VQGANRunConfig

FAMILIES = {
    "ddpm": DDPMConfig,
    "glide": GLIDEConfig,
    "imagen": ImagenConfig,
    "vq_codec": VQGANRunConfig,
    "vq_diffusion": VQDiffusionConfig,
    "rectified_flow": RectifiedFlowConfig,
    "latent_diffusion": LatentDiffusionConfig,
    "span_corruption": SpanCorruptionConfig,
}


def family_of(model: FamilyConfig) -> str:
    """Name of a config's family in FAMILIES, as config.json holds it.  TypeError if it has none."""
    for name, kind in FAMILIES.items():
        if type(model) is kind:
            return name
    known = ", ".join(kind.__name__ for kind in FAMILIES.values())
    raise TypeError(f"{type(model).__name__} is the config of no family: choose one of {known}")
