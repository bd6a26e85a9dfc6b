"""What a run's figures come from: every value in force, versions, the machine, and hashes of code and data."""

from __future__ import annotations

import platform
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from concordant.evaluation.config import GateConfig
from concordant.files import sha256_of
from concordant.pipeline.material import source_fingerprints
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.toml import to_toml

if TYPE_CHECKING:
    from concordant.models.hardware import Machine

PACKAGES = ("torch", "transformers", "peft", "datasets", "numpy")


def resolved_toml(recipe: Recipe, machine: Machine | None = None) -> str:
    """Every value in force, with versions and what the machine decided, if it was asked."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    if machine is not None:
        values["machine"] |= {
            "device": str(machine.device),
            "precision": str(machine.precision).removeprefix("torch."),
            "threads": machine.threads,
        }
    data = {
        key: [
            f"{row['path']} {row['content']}" for row in source_fingerprints(sources, Path(recipe.data_root))
        ]
        for key, sources in recipe.data.sources.items()
        if sources
    }
    gate = {"gate": recipe.gate.digest()} if recipe.gate else {}
    known = {"code": code_fingerprint(), **gate, **data}
    return to_toml({**values, "versions": versions(), "fingerprints": known})


def restated(resolved: str, gate: GateConfig | None) -> str:
    """The text of a `resolved.toml` with these demands in place of its own, and all else as it is."""
    values = tomllib.loads(resolved)
    values.pop("gate", None)
    last = {name: values.pop(name) for name in ("versions", "fingerprints")}
    last["fingerprints"].pop("gate", None)
    if gate is not None:
        values["gate"] = gate.model_dump(mode="json")
        last["fingerprints"]["gate"] = gate.digest()
    return to_toml(values | last)


def versions() -> dict[str, str]:
    """Versions of what computes."""
    from concordant import __version__

    return {
        "concordant": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def code_fingerprint() -> str:
    """Hash of this package's source."""
    root = Path(__file__).resolve().parents[1]
    files = sorted(p for p in root.rglob("*") if p.suffix in (".py", ".j2", ".css"))
    return sha256_of({str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in files})
