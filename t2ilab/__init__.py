"""t2ilab: learn how text-to-image diffusion works, then keep using what you learned with."""
__version__ = "0.1.0"
