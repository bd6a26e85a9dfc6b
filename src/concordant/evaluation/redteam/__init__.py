"""Attacks on a model and what comes of them: everything about a red team that needs no model."""
