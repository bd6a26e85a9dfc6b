"""Checkpoints: tensors as safetensors, everything else as JSON, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from concordant.files import disk_errors, fresh_folder


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stage after some step."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]  # step, controller, score normalisation: JSON-able


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder`; the old one goes when the new one is complete."""
    from safetensors.torch import save_file

    with fresh_folder(folder) as fresh:
        tensors = {name: t.detach().cpu().contiguous().clone() for name, t in checkpoint.tensors.items()}
        with disk_errors(folder):
            save_file(tensors, fresh / "tensors.safetensors")
            (fresh / "facts.json").write_text(json.dumps(checkpoint.facts))


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none."""
    from safetensors.torch import load_file

    if not (folder / "facts.json").is_file():
        return None
    facts = json.loads((folder / "facts.json").read_text())
    return Checkpoint(load_file(folder / "tensors.safetensors"), facts)
