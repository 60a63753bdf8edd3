"""One paper, one file, in the paper's order. A family is a config dataclass that builds a pipeline and turns batches into training examples."""
from .ddpm import DDPM
from .glide import GLIDE
from .imagen import Imagen
from .vqgan import VQCodec
from .vq_diffusion import VQDiffusion

FAMILIES = {"ddpm": DDPM, "glide": GLIDE, "imagen": Imagen, "vq_codec": VQCodec, "vq_diffusion": VQDiffusion}
