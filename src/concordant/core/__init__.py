"""The equations of RLHF: tensors in, tensors out. Imports torch and nothing else."""
