"""What a run's directory says of who beats whom: answers that were sampled, and what people voted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from concordant.errors import UserError
from concordant.evaluation.answers import IDEAL
from concordant.evaluation.gate import start_of
from concordant.evaluation.leaderboard import standings
from concordant.evaluation.win_rates import Duels, Row, duels_of
from concordant.feedback.reading.projects import projects
from concordant.feedback.reading.versus import Result, is_versus, result
from concordant.feedback.store import Store
from concordant.pipeline.afterwards import finished_stages, model_id
from concordant.pipeline.folder import read_jsonl


def sampled_answers(run_folder: Path) -> dict[str, list[Row]]:
    """What the evaluate stage sampled, on the split that is reported first, by model."""
    evaluate = finished_stages(run_folder).get("evaluate")
    rows = read_jsonl(evaluate.samples) if evaluate is not None else []
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["split"] == rows[0]["split"] and row["model"] != IDEAL:
            found.setdefault(row["model"], []).append(row)
    return found


def people_duels(address: str | Path, run_folder: Path) -> list[Duels]:
    """What people say, so far, of the run's models as they are now: not of earlier ones of the same names."""
    if isinstance(address, Path) and not address.is_file():
        return []
    now = {name: model_id(folder) for name, folder in finished_stages(run_folder).items()}
    with Store.open(address) as store:
        found = [result(store, one.id) for one in projects(store) if is_versus(one.settings)]
    return [_duels(one) for one in found if one.outcomes and _current(one, now)]


def _current(found: Result, now: Mapping[str, str]) -> bool:
    """A base model that no stage has made is the one that was given."""
    named = zip((found.first, found.second), found.models, strict=True)
    return all(now.get(name, model) == model for name, model in named)


def _duels(found: Result) -> Duels:
    return Duels(
        "people",
        found.first,
        found.second,
        tuple(one.prompt for one in found.outcomes),
        np.array([one.share for one in found.outcomes]),
        np.array([float(one.longer) for one in found.outcomes]),
    )


def with_people(results: Mapping[str, Any], address: str | Path, run_folder: Path) -> dict[str, Any]:
    """`results` with win rates and board by people as the store has them now, in place of any that were there."""
    kept = {
        key: [row for row in results.get(key, ()) if row["by"] != "people"]
        for key in ("win_rates", "leaderboards")
    }
    found = people_duels(address, run_folder)
    added = standings({"people": found}, start_of(results)) if found else {}
    return {**results, **{key: [*rows, *added.get(key, ())] for key, rows in kept.items()}}


def between_runs(run_folders: Sequence[Path], anchor: str) -> dict[str, Any]:
    """Win rates and boards over all stages of several runs, on the prompts that all of them answered.

    A stage that two runs share takes part once. Scores of different reward models are not compared. Errors:
    UserError where a run has sampled nothing, or where no prompt is shared.
    """
    names = [folder.name for folder in {folder.resolve() for folder in run_folders}]
    if len(set(names)) < len(names):
        raise UserError(
            "two of these runs have the same name, by which their models are told apart",
            where=" and ".join(map(str, run_folders)),
            expected="folders of different names",
            fix="rename one of the folders",
        )
    answers: dict[str, Sequence[Row]] = {}
    models: dict[str, str] = {}
    scorers = set()
    for run_folder in run_folders:
        done = finished_stages(run_folder)
        scorers.add(model_id(done["reward"]) if "reward" in done else "")
        for name, rows in _answers_of(run_folder).items():
            model = model_id(done[name]) if name in done else f"{run_folder}/{name}"
            if model not in models.values():
                models[f"{run_folder.resolve().name}/{name}"] = model
                answers[f"{run_folder.resolve().name}/{name}"] = rows
    duels = duels_of(answers)
    if len(scorers) > 1:
        duels.pop("score", None)
    if not any(len(one.values) for found in duels.values() for one in found):
        raise UserError(
            "nothing decides between these runs",
            where=" and ".join(map(str, run_folders)),
            expected="the same prompts, and a gold reward or one and the same reward model",
            fix="measure them with the same seed, data and evaluate.prompts",
        )
    first = run_folders[0].resolve().name
    return standings(duels, f"{first}/{anchor}")


def _answers_of(run_folder: Path) -> dict[str, list[Row]]:
    found = sampled_answers(run_folder)
    if not found:
        raise UserError(
            "the models of this run have not been measured",
            where=str(run_folder),
            expected="samples.jsonl of a finished evaluate stage",
            fix=f"concordant run {run_folder / 'recipe.toml'} --run {run_folder}",
        )
    return found
