"""inspect, the framework of the UK AI Security Institute: logs of what a run said, and its models in tasks of inspect.

Needs the extra `inspect`. The package loads `registry.py` by an entry point whenever inspect starts.
"""
