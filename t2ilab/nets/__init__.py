"""Networks: U-Nets, transformers and the layers they are made of. They know no diffusion."""
