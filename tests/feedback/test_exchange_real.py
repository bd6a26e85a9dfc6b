"""Imports of real files, checked against figures that others have published or that the files themselves give."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from concordant.data.layouts.reading import read_preferences
from concordant.feedback.answering.imports import import_preferences
from concordant.feedback.exchange.exporting import Settings, export_view
from concordant.feedback.exchange.importing import import_votes
from concordant.feedback.reading.board import board
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.views import (
    LiveVotes,
    judgements,
    preferences,
    read_live_votes,
    view_preferences,
)
from concordant.feedback.store import Store

OASST = "oasst-trees/en_100_tree.jsonl"
PANDALM = "pandalm-testset/testset-v1.json"
HH = "hh-harmless/pairs.jsonl"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite") as opened:
        yield opened


def test_the_trees_of_open_assistant(store: Store, shared_data: Path) -> None:
    done = import_votes(store, OASST, root=shared_data)
    assert (done.format, done.rows, done.votes) == ("oasst", 100, 212)
    assert done.counts == {"unranked": 46}
    ballots = read_live_votes(store)
    assert sum(map(len, ballots.members.values())) == 641
    rows = preferences(store)
    assert len(rows) == 754
    assert sum(one.weight for one in rows) == pytest.approx(212)  # each prompt counts once
    ranks = _ranks(shared_data / OASST)
    assert len(ranks) == 641
    for one in rows:
        before = one.prompt.messages[-1].content
        assert ranks[before, one.chosen.text] < ranks[before, one.rejected.text]


def _ranks(path: Path) -> dict[tuple[str, str], int]:
    """Rank of each ranked answer by (question, answer), read straight from the file."""
    found: dict[tuple[str, str], int] = {}

    def walk(message: dict[str, Any]) -> None:
        for reply in message["replies"]:
            if "rank" in reply:
                found[message["text"], reply["text"]] = reply["rank"]
            walk(reply)

    for line in path.read_text(encoding="utf-8").splitlines():
        walk(json.loads(line)["prompt"])
    return found


def test_the_three_people_of_pandalm_agree_as_published(store: Store, shared_data: Path) -> None:
    done = import_votes(store, PANDALM, root=shared_data)
    assert (done.rows, done.votes, done.tasks, done.dropped) == (999, 2997, 999, 0)
    assert done.counts == {"empty answer": 54, "type": 6, "empty": 1}
    ballots = read_live_votes(store)
    assert _fleiss(_verdicts(ballots)) == pytest.approx(0.86418, abs=5e-6)
    by_name = Counter(one.payload["verdict"] for one in ballots.votes)
    raw = json.loads((shared_data / PANDALM).read_text(encoding="utf-8"))
    labels = Counter(row[f"annotator{n}"] for row in raw for n in (1, 2, 3))
    assert by_name == {"tie": labels[0], "prefer": labels[1] + labels[2]}
    texts = Counter(one.chosen.text for one in preferences(store))
    won = Counter(
        str(row[f"response{row[f'annotator{n}']}"]) for row in raw for n in (1, 2, 3) if row[f"annotator{n}"]
    )
    assert texts == won


def _verdicts(ballots: LiveVotes) -> list[Counter[str]]:
    """What the voters of each task said, by winner."""
    by_task: dict[str, Counter[str]] = {}
    for one in ballots.votes:
        # The side is by position in the file: members stand in its order.
        winner = one.payload["winner"]
        said = "tie" if winner is None else str(ballots.members[one.task_id].index(winner))
        by_task.setdefault(one.task_id, Counter())[said] += 1
    return list(by_task.values())


def _fleiss(tasks: list[Counter[str]]) -> float:
    """Fleiss' kappa (Psychological Bulletin 76, 1971) of tasks with equally many voters."""
    voters = sum(tasks[0].values())
    assert {sum(one.values()) for one in tasks} == {voters}
    alike = sum(n * (n - 1) for one in tasks for n in one.values()) / (len(tasks) * voters * (voters - 1))
    total = sum(tasks, Counter[str]())
    chance = sum((n / (len(tasks) * voters)) ** 2 for n in total.values())
    return (alike - chance) / (1 - chance)


def test_hh_pairs_come_as_the_readers_read_them(store: Store, shared_data: Path, tmp_path: Path) -> None:
    done = import_votes(store, HH, root=shared_data)
    assert (done.format, done.rows, done.votes, done.dropped) == ("pairs", 1500, 1495, 5)
    assert done.counts == {"empty answer": 4, "turns joined": 3, "no common prompt": 1}
    with Store.open(tmp_path / "other.sqlite") as other:
        import_preferences(other, read_preferences(HH, root=shared_data).rows, labeler="imported")
        assert digest(other) == digest(store)


@pytest.mark.parametrize(
    ("file", "kind", "votes"), [("dpo_en_demo.json", "pairs", 300), ("kto_en_demo.json", "judgements", 300)]
)
def test_layouts_of_a_trainer(store: Store, shared_data: Path, file: str, kind: str, votes: int) -> None:
    done = import_votes(store, f"llamafactory-demo/{file}", root=shared_data)
    assert (done.format, done.votes, done.problems) == (kind, votes, ())
    assert len(preferences(store) if kind == "pairs" else judgements(store)) == votes


def test_real_votes_go_round(store: Store, shared_data: Path, tmp_path: Path) -> None:
    import_votes(store, OASST, root=shared_data)
    import_votes(store, "llamafactory-demo/kto_en_demo.json", root=shared_data)
    export_view(store, tmp_path / "votes.jsonl", "jsonl", Settings(view="votes"))
    export_view(store, tmp_path / "pairs.parquet", "parquet")
    with Store.open(tmp_path / "other.sqlite") as other:
        assert import_votes(other, "votes.jsonl", root=tmp_path).problems == ()
        assert digest(other) == digest(store)
        assert other.counts() == store.counts()
    with Store.open(tmp_path / "pairs.sqlite") as other:
        import_votes(other, "pairs.parquet", root=tmp_path)
        found, expected = (
            [(one.prompt.id, one.chosen.text, one.rejected.text) for one in view_preferences(one).preferences]
            for one in (other, store)
        )
        assert found == expected


def test_the_models_of_pandalm_make_a_board(store: Store, shared_data: Path) -> None:
    """LLaMA above all and Cerebras-GPT below, as in arXiv:2306.05087, whichever of the three people is left out."""
    import_votes(store, PANDALM, root=shared_data)
    found = board(store)
    assert found is not None
    assert found.votes == 2997
    names = [place.item for place in found.places]
    assert (names[0], names[-1]) == ("llama-7b", "cerebras-gpt-6.7B")
    assert found.places[-1].rank_bound > found.places[0].rank_bound == 1
    assert sorted(one.n for one in found.absences) == [999] * 3
    assert not any(one.matters for one in found.absences)


def test_real_answers_in_the_columns_of_lmsys(store: Store, shared_data: Path, tmp_path: Path) -> None:
    """The first person's verdicts, written as that data set writes them, give the pairs the file itself gives."""
    raw = json.loads((shared_data / PANDALM).read_text(encoding="utf-8"))
    rows = [
        {
            "prompt": json.dumps([str(row["instruction"])]),
            "response_a": json.dumps([str(row["response1"])]),
            "response_b": json.dumps([str(row["response2"])]),
            **{
                f"winner_{side}": int(row["annotator1"] == n)
                for n, side in enumerate(("tie", "model_a", "model_b"))
            },
        }
        for row in raw
    ]
    (tmp_path / "battles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = import_votes(store, "battles.jsonl", root=tmp_path)
    assert (done.format, done.rows) == ("lmsys-55k", 999)
    assert done.votes + done.dropped + done.repeated == 999
    labels = Counter(row["annotator1"] for row in raw)
    view = view_preferences(store)
    assert (
        labels[1] + labels[2] - done.dropped - done.repeated <= len(view.preferences) <= labels[1] + labels[2]
    )
    won = {
        (str(row["instruction"]), str(row[f"response{row['annotator1']}"]))
        for row in raw
        if row["annotator1"]
    }
    assert all((one.prompt.text, one.chosen.text) in won for one in view.preferences)
