"""The page on which people attack two models."""
