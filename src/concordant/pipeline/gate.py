"""The release gate of a run: when it was stated, and what it says of the figures as they are now.

What reads figures brings numpy, and is imported where it is done: a run that has nothing to do asks first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from concordant.errors import UserError
from concordant.evaluation.config import GateConfig
from concordant.files import write_json
from concordant.pipeline.context import store_address
from concordant.pipeline.folder import read_json
from concordant.pipeline.recipe import Recipe

if TYPE_CHECKING:
    from concordant.evaluation.gate import Decision

NO_GATE = "none"  # stands for the hash where figures were there and no gate


def gate_row(
    gate: GateConfig, results: Mapping[str, Any], before: str | None, hashes: Sequence[str]
) -> dict[str, Any]:
    """The gate for `results.json`: its demands, their hash, when they were stated, and the decision.

    `before`: hash of the gate that stood in the recipe when the models were measured; `hashes`: those of all gates by
    which figures of the run were judged.
    """
    from concordant.evaluation.gate import decide

    digest = gate.digest()
    return {
        "hash": digest,
        "stated_before": digest == before,
        "earlier": [one for one in hashes if one != digest],
        "demands": gate.model_dump(mode="json"),
        **decide(gate, results).as_dict(),
    }


def judged_by(run_folder: Path, gate: GateConfig | None) -> list[str]:
    """Hashes of all gates by which figures of a run were judged, this one among them; they are kept in `run.json`."""
    marker = run_folder / "run.json"
    known = read_json(marker) or {}
    digest = gate.digest() if gate else NO_GATE
    hashes = list(dict.fromkeys([*known.get("gates", ()), digest]))
    write_json(marker, known | {"gates": hashes})
    return hashes


def is_judged(recipe: Recipe, run_folder: Path) -> bool:
    """Whether the gate of the recipe is the one by which its results were judged; none by none."""
    row = (read_json(run_folder / "results.json") or {}).get("gate") or {}
    return row.get("hash") == (recipe.gate.digest() if recipe.gate else None)


def decide_run(recipe: Recipe, run_folder: Path) -> tuple[Decision, dict[str, Any]]:
    """What the gate by which a run was judged says now, with the votes there are, and its row in `results.json`.

    Errors: UserError for a run that has not been measured, or whose recipe stated no gate.
    """
    from concordant.evaluation.gate import decide
    from concordant.pipeline.duels import with_people
    from concordant.pipeline.tax import with_tax

    results = read_json(run_folder / "results.json")
    row = (results or {}).get("gate")
    if results is None or row is None:
        raise UserError(
            "no gate was stated for this run" if results else "this run has no results yet",
            where=str(run_folder),
            expected="results.json of a run whose recipe has a section [gate]",
            fix=f"add [gate] to its recipe (docs/evaluation.md) and run it: concordant run RECIPE --run {run_folder}",
        )
    try:
        gate = GateConfig.model_validate(row["demands"])
    except ValidationError as error:
        raise UserError(
            f"the gate of these results cannot be read: {error.errors()[0]['msg']}",
            where=str(run_folder / "results.json"),
            expected="demands as [gate] of a recipe has them",
            fix="ask with the version of concordant that made the run, or run its recipe again",
        ) from None
    now = with_tax(with_people(results, store_address(recipe, run_folder), run_folder), run_folder)
    return decide(gate, now), row
