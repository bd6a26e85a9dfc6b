"""Two loops, `fit` and `improve`, their objectives, the learner and its checkpoints."""
