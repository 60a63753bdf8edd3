"""Diffusion: tables, q(x_t | x_0), q(x_s | x_t, x_0), losses, guidance and the sampling loop.

Imports no network.
"""
