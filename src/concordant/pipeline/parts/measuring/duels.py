"""Who beats whom."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from concordant.evaluation.answers import Answer
from concordant.evaluation.judged import Judged, judge
from concordant.evaluation.leaderboard import standings
from concordant.evaluation.win_rates import duels_of
from concordant.feedback.answering.simulated import simulated_labelers
from concordant.pipeline.parts.measuring.study import Study


def measure_duels(study: Study, main: dict[str, list[Answer]]) -> dict[str, Any]:
    """Who beats whom: by gold, by the score, and by labelers who see each pair in both orders."""
    duels = duels_of({name: [answer.as_row() for answer in answers] for name, answers in main.items()})
    judged = judge_duels(study, main)
    if judged:
        duels["labelers"] = [one.duels for one in judged]
        study.context.folder.append(study.context.folder.duels, (row for one in judged for row in one.rows))
    found = standings(duels, study.context.start)
    if judged:
        found["order_shown"] = {f"{one.duels.second} or {one.duels.first}": one.position() for one in judged}
    return found


def judge_duels(study: Study, main: dict[str, list[Answer]]) -> list[Judged]:
    """What the labelers of the recipe's evaluation say of every two models; nothing where it names none."""
    world, config = study.context.material.world, study.config
    if world is None or not config.labelers:
        return []
    seed = study.context.seed("labelers")
    labelers = simulated_labelers(config.labelers, world.gold, seed=seed)
    with study.context.timed("label"):
        return [
            judge("labelers", labelers, main[first][: config.compared], main[second][: config.compared])
            for first, second in combinations(main, 2)
        ]
