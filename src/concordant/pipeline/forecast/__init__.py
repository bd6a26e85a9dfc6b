"""What a run is going to need: steps and tokens, memory, time and disk. `plan` prints it, `run` refuses by it.

Nothing here imports torch but `probe.py`, which measures.
"""
