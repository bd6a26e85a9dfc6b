"""Measuring models and reward models: every figure with its n and its uncertainty."""
