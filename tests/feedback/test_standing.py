"""What a lead is told: agreement beyond chance, and who votes without looking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_simulated import gold

from concordant.data.types import Completion, Prompt
from concordant.feedback.aggregation.fits import latest_fit
from concordant.feedback.answering.labelers import Identity, collect
from concordant.feedback.answering.simulated import SimulatedLabeler, Traits
from concordant.feedback.exchange.importing import import_votes
from concordant.feedback.reading.standing import fit_project, standing
from concordant.feedback.store import Store
from concordant.feedback.votes import Comparison, Vote, prefer


class AlwaysLeft:
    """Takes what is shown on the left, whatever it is."""

    identity = Identity("left", "rule", {})

    def label(self, comparisons: Sequence[Comparison]) -> list[Vote]:
        return [Vote(one.task_id, prefer(one.completions[0].id)) for one in comparisons]


def pairs(store: Store, n: int, need: int) -> None:
    prompts = [Prompt.user(f"question {i}") for i in range(n)]
    texts = ("g=1.0 this is a good answer", "g=-0.5 this one is not")
    sampled = [(p, Completion(f"{t} {i}"), {}, True) for i, p in enumerate(prompts) for t in texts]
    ids = store.add_completions(sampled)
    store.create_tasks("pairwise", [ids[i : i + 2] for i in range(0, 2 * n, 2)], need=need)


@pytest.mark.parametrize("seed", range(5))
def test_who_always_takes_the_left_is_known_after_thirty_votes(address: str, seed: int) -> None:
    with Store.open(address) as store:
        pairs(store, 30, need=6)
        careful = [SimulatedLabeler(f"careful {n}", Traits(), gold, seed) for n in range(5)]
        collect(store, [*careful, AlwaysLeft()])
        found = fit_project(store)
        names = standing(store).names
        flagged = {names[key] for key, one in latest_fit(store).items() if one.flagged}
    assert [one.n for one in found] == [30] * 6
    assert flagged == {"left"}


def test_nobody_is_judged_on_questions_answered_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "one.sqlite") as store:
        pairs(store, 10, need=1)
        collect(store, [AlwaysLeft()])
        assert fit_project(store) == ()
        found = standing(store)
    assert found.alpha.units == 0
    assert math.isnan(found.fleiss)


def test_published_figures_of_pandalm(tmp_path: Path, shared_data: Path) -> None:
    with Store.open(tmp_path / "panda.sqlite") as store:
        import_votes(store, str(shared_data / "pandalm-testset" / "testset-v1.json"))
        found = standing(store)
    assert found.alpha.value == pytest.approx(0.864, abs=5e-4)
    assert found.fleiss == pytest.approx(0.864, abs=5e-4)
    assert sorted(round(kappa, 3) for _, _, kappa, _ in found.cohen) == [0.852, 0.862, 0.879]
