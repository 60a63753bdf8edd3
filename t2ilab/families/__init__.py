"""One paper, one file, in the paper's order; one row here.  What a family is: base.py."""
from .base import FamilyConfig
from .ddpm import DDPMConfig
from .glide import GLIDEConfig
from .imagen import ImagenConfig
from .latent_diffusion import LatentDiffusionConfig
from .rectified_flow import RectifiedFlowConfig
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
}


def family_of(model: FamilyConfig) -> str:
    """The name of a config's family in FAMILIES, as config.json holds it.  TypeError for anything else."""
    for name, kind in FAMILIES.items():
        if type(model) is kind:
            return name
    raise TypeError(f"{type(model).__name__} is the config of no family: choose one of "
                    f"{', '.join(k.__name__ for k in FAMILIES.values())}")
