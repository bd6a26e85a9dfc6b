"""Recipes, stages and run directories: what runs when, on what, and what it left behind."""
