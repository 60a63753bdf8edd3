"""Networks: what a picture, a time and a condition go through. They know no diffusion."""
