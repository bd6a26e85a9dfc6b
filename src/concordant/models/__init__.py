"""Policies, reward models, critics and adapters: loading, forward passes, saving."""
