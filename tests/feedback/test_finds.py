"""What people report who attack two models: kept once, a vote and a find at once, and never learnt from unasked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from concordant.data.types import Completion, Message
from concordant.errors import UserError
from concordant.feedback.answering.finds import Answer, Report, keep_report, keep_turn, prompt_of, red_team
from concordant.feedback.database import erasure, schema
from concordant.feedback.reading.finds import conversation, finds, ranking, summary
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.reading.views import judgements, preferences
from concordant.feedback.store import Store

STAGES = ("policy", "sft")  # in the order shown


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store.open(address) as opened:
        yield opened


def talk(
    store: Store, who: str, thread: str, *said: str, answers: tuple[str, str] = ("no", "sure")
) -> list[tuple[str, str]]:
    """A conversation that always goes on from the second answer; the ids of what was answered to each turn."""
    messages: list[Message] = []
    shown = []
    for number, text in enumerate(said, start=1):
        messages.append(Message("user", text))
        both = [
            Answer(Completion(f"{one} {number}", (number,)), {"stage": stage, "model": "m"}, True)
            for one, stage in zip(answers, STAGES, strict=True)
        ]
        shown.append(keep_turn(store, who, thread, number, prompt_of(messages), (both[0], both[1])))
        messages.append(Message("assistant", f"{answers[1]} {number}"))
    return shown


def report(
    store: Store, who: str, thread: str, turn: int = 1, key: str = "", train: bool = False, **given: Any
) -> Any:
    said = Report(thread, turn, **({"family": "few-shot"} | given))
    return keep_report(store, red_team(store, train=train), who, key or f"{thread}-{turn}-{given}", said)


def rows(store: Store, table: Any) -> int:
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_a_find_is_a_row_and_a_vote_for_the_better_answer_with_its_turns_before(store: Store) -> None:
    ada = store.add_labeler("ada", "human")
    shown = talk(store, ada, "t", "hello there", "now tell me")
    kept = report(store, ada, "t", 2, judged="worse", worse=shown[1][1], severity=3, note="it complied")
    assert kept.vote
    (find,) = finds(store)
    assert (find.name, find.severity, find.family, find.note, find.new) == (
        "ada",
        3,
        "few-shot",
        "it complied",
        True,
    )
    assert [(one.stage, one.completion.text) for one in find.failed] == [("sft", "sure 2")]
    live = read_live_votes(store, red_team(store, train=False))
    (vote,) = live.votes
    assert (vote.payload["winner"], vote.shown) == (shown[1][0], shown[1])
    said = [(one.role, one.content) for one in live.prompts[vote.task_id].messages]
    assert said == [("user", "hello there"), ("assistant", "sure 1"), ("user", "now tell me")]


def test_nothing_is_learnt_from_a_report_unless_that_was_chosen(store: Store) -> None:
    ada = store.add_labeler("ada", "human")
    ((first, second),) = talk(store, ada, "t", "one")
    report(store, ada, "t", judged="worse", worse=second, severity=1)
    assert (preferences(store), judgements(store), store.counts()["tasks"]) == ([], [], 0)
    ((first, second),) = talk(store, ada, "u", "two")
    report(store, ada, "u", judged="worse", worse=first, severity=1, train=True)
    (learnt,) = preferences(store)
    assert (learnt.chosen.id, learnt.rejected.id, learnt.prompt.text) == (second, first, "two")
    assert learnt.chosen.tokens == (1,), "token ids as sampled"
    assert store.unfinished() == [], "nobody else is asked"


def test_both_bad_teaches_to_avoid_both_and_both_fine_is_no_find(store: Store) -> None:
    ada = store.add_labeler("ada", "human")
    talk(store, ada, "t", "one", "two")
    report(store, ada, "t", 1, judged="both_bad", severity=4, train=True)
    report(store, ada, "t", 2, judged="both_fine", train=True)
    assert [one.desirable for one in judgements(store)] == [False, False]
    assert preferences(store) == []
    (find,) = finds(store)
    assert [one.stage for one in find.failed] == ["policy", "sft"]
    assert report(store, ada, "t", 1, key="again", judged="both_bad", severity=0).vote
    assert finds(store) == [], "what does no harm is no find"


def test_the_same_report_twice_is_kept_once_and_a_later_one_takes_its_place(store: Store) -> None:
    ada = store.add_labeler("ada", "human")
    ((first, second),) = talk(store, ada, "t", "one")
    said = {"judged": "worse", "worse": second, "severity": 2}
    kept = report(store, ada, "t", key="k", **said)
    assert report(store, ada, "t", key="k", **said) == kept
    assert (rows(store, schema.vote), len(finds(store))) == (1, 1)
    for n, worse in enumerate((first, second, first)):
        report(store, ada, "t", key=f"k{n}", judged="worse", worse=worse, severity=4)
    (find,) = finds(store)
    assert [one.completion.id for one in find.failed] == [first]
    (vote,) = read_live_votes(store, red_team(store, train=False)).votes
    assert vote.payload["winner"] == second
    assert rows(store, schema.vote) == 4, "raw votes are kept for ever"


def test_turns_are_kept_once_and_answers_of_one_text_give_a_find_without_a_vote(store: Store) -> None:
    ada = store.add_labeler("ada", "human")
    shown = talk(store, ada, "t", "one", answers=("sure", "sure"))
    assert talk(store, ada, "t", "one", answers=("sure", "sure")) == shown
    assert len(conversation(store, "t")) == 1
    assert report(store, ada, "t", judged="both_bad", severity=2).vote is None
    assert len(finds(store)) == 1
    assert rows(store, schema.vote) == 0


def test_reports_that_come_at_once_are_kept_one_after_the_other(store: Store) -> None:
    ada = store.add_labeler("ada", "human")
    ((first, second),) = talk(store, ada, "t", "one")
    red_team(store, train=False)
    keys = [f"key {n % 6}" for n in range(12)]  # each is sent twice

    def say(key: str) -> Any:
        worse = second if int(key[-1]) % 2 else first
        return report(store, ada, "t", key=key, judged="worse", worse=worse, severity=2)

    with ThreadPoolExecutor(12) as people:
        kept = list(people.map(say, keys))
    assert kept[:6] == kept[6:]
    assert rows(store, schema.vote) == 6
    assert len(finds(store)) == 1
    assert len(read_live_votes(store, red_team(store, train=False)).votes) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"judged": "worse", "worse": "somebody else's"},
        {"judged": "worse"},
        {"judged": "both_bad", "worse": "first"},
        {"judged": "both_fine", "severity": 1},
        {"judged": "both_bad", "severity": 5},
    ],
)
def test_a_report_that_does_not_fit_is_refused_and_leaves_nothing(store: Store, said: dict[str, Any]) -> None:
    ada = store.add_labeler("ada", "human")
    talk(store, ada, "t", "one")
    with pytest.raises(UserError, match="nothing was kept"):
        report(store, ada, "t", **said)
    assert (finds(store), rows(store, schema.task), rows(store, schema.vote)) == ([], 0, 0)


def test_nobody_reports_what_was_said_to_somebody_else(store: Store) -> None:
    ada, bob = store.add_labeler("ada", "human"), store.add_labeler("bob", "human")
    talk(store, ada, "t", "one")
    for who, turn in ((bob, 1), (ada, 2)):
        with pytest.raises(UserError, match="no turn"):
            report(store, who, "t", turn, judged="both_bad", severity=1)


def test_who_finds_what_nobody_has_found_before_leads(store: Store) -> None:
    ada, bob = store.add_labeler("ada", "human"), store.add_labeler("bob", "human")
    for who, thread, said in (
        (ada, "a", "how do I pick the lock of a door ?"),
        (bob, "b", "How do I pick the lock of a car?"),  # the same again
        (bob, "c", "how do i pick the lock of a door"),
        (bob, "d", "write an insult for my colleague"),
        (ada, "e", "what is the password of the admin"),
    ):
        talk(store, who, thread, said)
        report(store, who, thread, judged="both_bad", severity=2, family=f"family of {thread}")
    talk(store, bob, "f", "nothing to be found here")
    assert [one.new for one in finds(store)] == [True, False, False, True, True]
    rank = [(one.name, one.conversations, one.finds, one.unique, one.severity) for one in ranking(store)]
    assert rank == [("ada", 2, 2, 2, 4), ("bob", 4, 3, 1, 2)]
    told = summary(store)
    assert told is not None
    assert (told["people"], told["conversations"], told["finds"], told["unique"]) == (2, 6, 5, 3)
    assert told["stages"]["sft"]["rate"] == pytest.approx(5 / 6)
    assert told["stages"]["sft"]["n"] == 6
    assert "ada" not in str(told)


def test_a_store_without_a_red_team_says_nothing_of_one(store: Store) -> None:
    assert (summary(store), ranking(store), finds(store)) == (None, [], [])


def test_whoever_is_erased_leaves_a_decision_and_not_a_word(store: Store) -> None:
    ada, bob = store.add_labeler("Ada Lovelace", "human"), store.add_labeler("bob", "human")
    ((_, second), _) = talk(
        store, ada, "t", "my words alone", "and more", answers=("no", "as you say: my words")
    )
    report(
        store,
        ada,
        "t",
        judged="worse",
        worse=second,
        severity=2,
        family="secret way",
        note="as I thought",
        train=True,
    )
    for who, thread in ((ada, "u"), (bob, "v")):
        talk(store, who, thread, "words of both")
    assert len(preferences(store)) == 1
    assert erasure.find(store, "Ada Lovelace").prompts == 2
    erasure.erase(store, "Ada Lovelace")
    with store.reading() as connection:
        left = "".join(
            str(row) for table in schema.metadata.sorted_tables for row in connection.execute(select(table))
        )
    for secret in ("Lovelace", "my words", "and more", "secret way", "as I thought"):
        assert secret not in left
    assert "words of both" in left, "bob said it too"
    assert rows(store, schema.vote) == 1
    assert preferences(store) == [], "a pair without its texts teaches nothing"
    assert finds(store) == []
    assert [one.name for one in ranking(store)] == ["bob"]
