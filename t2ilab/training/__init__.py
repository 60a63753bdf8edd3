"""Training: one loop for every family, exact resume, and checkpoints that survive a kill.

It knows neither text nor pixels.
"""
