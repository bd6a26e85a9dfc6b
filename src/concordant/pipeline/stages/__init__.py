"""One file per stage, each with a function `run(context)` that leaves a finished folder behind."""
