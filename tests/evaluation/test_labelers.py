"""How often labelers tell the truth, where there is one."""

from __future__ import annotations

from pathlib import Path

from concordant.data.types import Completion, Prompt
from concordant.evaluation.labelers import against_gold
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, prefer


def test_pairs_without_a_truth_count_for_nothing(tmp_path: Path) -> None:
    worth = {"good": 1.0, "bad": 0.0, "fair": 1.0}
    pairs = {"known": ("good", "bad"), "equal": ("good", "fair"), "unheard of": ("good", "bad")}
    with Store.open(tmp_path / "feedback.sqlite") as store:
        sampled = [
            (Prompt.user(text), Completion(one), {}, True) for text, pair in pairs.items() for one in pair
        ]
        ids = store.add_completions(sampled)
        store.create_tasks("pairwise", [ids[i : i + 2] for i in range(0, len(ids), 2)])
        ada = store.add_labeler("ada", "human")
        for lease in store.lease_many(ada, 3):
            asked = lease.comparison
            better = next(one for one in asked.completions if one.text == "good")
            store.submit(lease.token, lease.token, Vote(asked.task_id, prefer(better.id)))

        def gold(prompt: Prompt, text: str) -> float | None:
            return None if prompt.text == "unheard of" else worth[text]

        (found,) = against_gold(store, gold).items()
    assert found[0] == "ada (human)"
    assert (found[1].value, found[1].n) == (1.0, 1)
