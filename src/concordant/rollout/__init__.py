"""Samplers: from prompts to completions with the log-probability of every sampled token."""
