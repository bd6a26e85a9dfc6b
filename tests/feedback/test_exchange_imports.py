"""Votes in the formats of others: who said what of which answer, and what could not be read, with its line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from concordant.errors import UserError
from concordant.feedback.database.schema import completion, item, labeler, task, vote
from concordant.feedback.exchange.formats import FORMATS
from concordant.feedback.exchange.importing import ImportedVotes, import_votes
from concordant.feedback.reading.views import judgements, preferences, view_preferences
from concordant.feedback.store import Store

Rows = Sequence[Mapping[str, Any]]
Import = Callable[..., ImportedVotes]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite") as opened:
        yield opened


@pytest.fixture
def bring(store: Store, tmp_path: Path) -> Import:
    """Write rows as JSON lines and import the file; line n of the file is row n."""

    def run(*rows: Mapping[str, Any], format: str | None = None) -> ImportedVotes:
        file = tmp_path / "file.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return import_votes(store, "file.jsonl", format, root=tmp_path)

    return run


def said(store: Store) -> list[tuple[str, dict[str, Any]]]:
    """(labeler, payload) of every vote in the order of import, completion ids replaced by their texts."""
    with store.reading() as connection:
        texts = {row.id: row.text for row in connection.execute(select(completion))}
        query = select(labeler.c.name, vote.c.payload).join_from(vote, labeler).join(task)
        rows = connection.execute(query.order_by(task.c.seq, labeler.c.name, vote.c["pass"])).all()
    return [(row.name, _named(row.payload, texts)) for row in rows]


def _named(value: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {texts.get(key, key): _named(one, texts) for key, one in value.items()}
    if isinstance(value, list):
        return [_named(one, texts) for one in value]
    return texts.get(value, value) if isinstance(value, str) else value


def column(store: Store, wanted: Any) -> list[Any]:
    with store.reading() as connection:
        return list(connection.scalars(select(wanted)))


def wins(store: Store) -> list[tuple[str, str, float]]:
    return [(one.chosen.text, one.rejected.text, one.margin) for one in preferences(store)]


def where(done: ImportedVotes, kind: str) -> list[str]:
    return [problem.where for problem in done.problems if problem.kind == kind]


# UltraFeedback


def rated(model: str, text: str, overall: Any, fine: Any, helpful: Any = "4") -> dict[str, Any]:
    return {
        "model": model,
        "response": text,
        "annotations": {"helpfulness": {"Rating": helpful, "Rationale": "because"}},
        "overall_score": overall,
        "fine-grained_score": fine,
    }


def ultra(*completions: dict[str, Any], source: str = "sharegpt") -> dict[str, Any]:
    return {"source": source, "instruction": "sing", "completions": list(completions)}


def test_ultrafeedback_is_one_rating_of_all_answers(store: Store, bring: Import) -> None:
    done = bring(ultra(rated("gpt-4", "la", 10, 4.5, "5"), rated("alpaca-7b", "lo", 5.5, 3.0, "3")))
    assert (done.format, done.votes, done.by_type) == ("ultrafeedback", 1, {"rating": 1})
    ((name, payload),) = said(store)
    assert name == "ultrafeedback gpt-4"
    assert payload["scores"] == {
        "la": {"helpfulness": 7.0, "overall": 7.0},
        "lo": {"helpfulness": 4.0, "overall": 4.0},
    }
    assert column(store, labeler.c.kind) == ["judge"]
    assert {one["model"] for one in column(store, completion.c.producer)} == {"gpt-4", "alpaca-7b"}
    assert wins(store) == [("la", "lo", 0.0)]


def test_a_score_of_ten_that_meant_one_is_put_right_and_counted(store: Store, bring: Import) -> None:
    done = bring(
        ultra(rated("a", "bad", 10, 1.5, "1"), rated("b", "good", 7, 4.0)),
        ultra(rated("a", "edge", 10, 2.0, "2"), rated("b", "fine", 10, 2.25, "2")),
    )
    assert where(done, "10 meant 1") == ["file.jsonl:1", "file.jsonl:2"]
    assert done.dropped == 0
    assert [pair[:2] for pair in wins(store)] == [("good", "bad"), ("fine", "edge")]
    assert said(store)[0][1]["scores"]["bad"]["overall"] == 1.0


def test_without_a_fine_grained_score_the_aspects_tell(store: Store, bring: Import) -> None:
    done = bring(ultra(rated("a", "bad", 10, None, "1"), rated("b", "good", 10, None, "5")))
    assert done.counts == {"10 meant 1": 1}
    assert [pair[:2] for pair in wins(store)] == [("good", "bad")]


def test_truthfulqa_is_left_out_and_missing_ratings_are_counted(store: Store, bring: Import) -> None:
    done = bring(
        ultra(rated("a", "x", 3, 2.5), source="truthful_qa"),
        ultra(rated("a", "y", 3, 2.5, "N/A"), rated("b", "z", None, None, None)),
    )
    assert where(done, "benchmark") == ["file.jsonl:1"]
    assert where(done, "not rated") == ["file.jsonl:2"]
    assert where(done, "number") == ["file.jsonl:2"]
    assert (done.votes, done.dropped) == (1, 2)
    assert [list(payload["scores"]) for _, payload in said(store)] == [["y"]]


# HelpSteer


def third(overall: Any, *scores: Any) -> dict[str, Any]:
    return {
        "domain": "general",
        "language": "english",
        "context": [{"role": "user", "content": "why"}],
        "response1": "one",
        "response2": "two",
        "overall_preference": overall,
        "individual_preference": [
            {"score": score, "reasoning": "so", "feedback1": "f", "feedback2": "g"} for score in scores
        ],
    }


@pytest.mark.parametrize(
    ("score", "won"),
    [
        (-3, ("one", "two", 1.0)),
        (-1, ("one", "two", 1 / 3)),
        (2, ("two", "one", 2 / 3)),
        (3, ("two", "one", 1)),
    ],
)
def test_a_positive_preference_of_helpsteer_is_for_the_second(
    store: Store, bring: Import, score: int, won: tuple[str, str, float]
) -> None:
    assert bring(third(score)).format == "helpsteer3"
    assert wins(store) == [pytest.approx(won)]


def test_each_person_of_helpsteer_3_has_a_vote_and_the_overall_has_none(store: Store, bring: Import) -> None:
    done = bring(third(1, 2, 0, -1), third(0, "much", True, 4, 1.5, 1))
    assert (done.votes, done.labelers, done.counts) == (4, 4, {"number": 4})
    names = [(name, one["verdict"], one["winner"], one["strength"]) for name, one in said(store)]
    assert names == [
        ("helpsteer3 #1", "prefer", "two", 2),
        ("helpsteer3 #2", "tie", None, 0),
        ("helpsteer3 #3", "prefer", "one", 1),
        ("helpsteer3 #5", "prefer", "two", 1),
    ]
    assert said(store)[0][1]["rationale"] == "so"
    assert column(store, item.c.family) == ["general"]


def test_helpsteer_2_has_preferences_ratings_and_turns_inside_its_text(store: Store, bring: Import) -> None:
    prompt = "hi\n<extra_id_1>Assistant\nhello\n<extra_id_1>User\nwhy?"
    pair = {"prompt": prompt, "response_1": "one", "response_2": "two", "preference_strength": 2}
    done = bring(pair, pair | {"three_most_similar_preferences": [{"strength": -1, "elaboration": "e"}] * 3})
    assert (done.format, done.votes) == ("helpsteer2", 4)
    assert [name for name, _ in said(store)] == [
        "helpsteer2 #1",
        "helpsteer2 #2",
        "helpsteer2 #3",
        "helpsteer2 overall",
    ]
    (messages,) = column(store, item.c.messages)
    assert [(one["role"], one["content"]) for one in messages] == [
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "why?"),
    ]


def test_helpsteer_ratings_are_kept_person_by_person(store: Store, bring: Import) -> None:
    row = {"prompt": "hi", "response": "yes", "correctness": 4, "coherence": 2, "verbosity": 9}
    done = bring(row | {"helpfulness": 0}, row | {"response": "no", "helpfulness": [4, 1], "verbosity": 0})
    assert (done.format, done.votes) == ("helpsteer2-ratings", 3)
    assert where(done, "number") == ["file.jsonl:1"]
    votes = said(store)
    assert votes[0] == (
        "helpsteer2 mean",
        {
            "type": "rating",
            "scores": {"yes": {"overall": 1.0, "helpfulness": 1.0, "correctness": 7.0, "coherence": 4.0}},
        },
    )
    assert [name for name, _ in votes[1:]] == ["helpsteer2 #1", "helpsteer2 #2"]
    assert [one.desirable for one in judgements(store)] == [False, True, False]


# Open-Assistant


def message(key: str, role: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"message_id": key, "text": f"text {key}", "role": role, "replies": list(replies), **more}


def test_siblings_of_a_tree_are_one_ranking_with_the_best_first(store: Store, bring: Import) -> None:
    deep = message(
        "q2", "prompter", message("d", "assistant", rank=1), message("e", "assistant", rank=0, model_name="m")
    )
    tree = message(
        "q1",
        "prompter",
        message("a", "assistant", rank=2),
        message("b", "assistant", deep, rank=0),
        message("c", "assistant", rank=0),
        message("u", "assistant"),
        message("v", "assistant", rank=True),
        message("x", "assistant", message("y", "prompter"), rank=1, deleted=True),
    )
    done = bring({"message_tree_id": "q1", "tree_state": "ready_for_export", "prompt": tree})
    assert (done.format, done.votes, done.by_type) == ("oasst", 2, {"ranking": 2})
    assert [payload["tiers"] for _, payload in said(store)] == [
        [["text b", "text c"], ["text a"]],
        [["text e"], ["text d"]],
    ]
    assert done.counts == {"unranked": 2, "deleted": 1}
    turns = [[one["content"] for one in messages] for messages in column(store, item.c.messages)]
    assert sorted(turns, key=len)[1] == ["text q1", "text b", "text q2"]
    assert {"imported": "oasst", "model": "m"} in column(store, completion.c.producer)
    assert view_preferences(store).tied_pairs == 1


def test_flat_messages_give_the_same_rankings(store: Store, bring: Import) -> None:
    def flat(key: str, parent: str | None, role: str, rank: int | None = None) -> dict[str, Any]:
        return {"message_id": key, "parent_id": parent, "role": role, "text": f"text {key}", "rank": rank}

    done = bring(
        flat("b", "q", "assistant", 1),
        flat("q", None, "prompter"),
        flat("a", "q", "assistant", 0),
        flat("lone", "gone", "assistant", 0),
        flat("loop1", "loop2", "assistant", 0),
        flat("loop2", "loop1", "prompter"),
    )
    assert done.format == "oasst-messages"
    assert [payload["tiers"] for _, payload in said(store)] == [[["text a"], ["text b"]]]
    assert where(done, "no parent") == ["file.jsonl:4"]
    assert where(done, "no root") == ["file.jsonl:5", "file.jsonl:6"]


def test_one_ranked_answer_ranks_nothing(bring: Import) -> None:
    tree = message("q", "prompter", message("a", "assistant", rank=0))
    good = message("q", "prompter", message("a", "assistant", rank=0), message("b", "assistant", rank=1))
    done = bring(
        {"message_tree_id": "1", "prompt": tree},
        {"message_tree_id": "2", "prompt": good},
        {"message_tree_id": "3", "prompt": message("q", "assistant", message("r", "prompter", good))},
    )
    assert where(done, "one answer") == ["file.jsonl:1"]
    assert where(done, "role") == ["file.jsonl:3"]
    assert done.votes == 1


# LMSYS


def battle(winner: Any, *more: str, judge: str | None = "arena_user_7") -> dict[str, Any]:
    def side(name: str) -> list[dict[str, str]]:
        said = [("user", "hi"), ("assistant", f"from {name}")]
        said += [pair for text in more for pair in (("user", text), ("assistant", f"more from {name}"))]
        return [{"role": role, "content": content} for role, content in said]

    row = {"question_id": "1", "model_a": "m1", "model_b": "m2", "winner": winner}
    row |= {"conversation_a": side("a"), "conversation_b": side("b"), "turn": 1 + len(more), "anony": True}
    return row | ({"judge": judge} if judge else {})


def test_a_battle_is_a_vote_with_the_order_shown(store: Store, bring: Import) -> None:
    done = bring(battle("model_b"))
    assert (done.format, done.votes) == ("lmsys", 1)
    assert wins(store) == [("from b", "from a", 0.0)]
    assert [name for name, _ in said(store)] == ["lmsys arena_user_7"]
    (shown,) = column(store, vote.c.shown)
    with store.reading() as connection:
        texts = {row.id: row.text for row in connection.execute(select(completion))}
    assert [texts[key] for key in shown] == ["from a", "from b"]


def test_bothbad_is_not_a_plain_tie(store: Store, bring: Import) -> None:
    bring(battle("tie", judge="a"), battle("tie (bothbad)", judge="b"))
    assert [payload["verdict"] for _, payload in said(store)] == ["tie", "both_bad"]
    view = view_preferences(store, ties="half")
    assert (len(view.preferences), view.tied_pairs, view.both_bad) == (1, 1, 1)
    assert [one.desirable for one in judgements(store)] == [False, False]


def test_battles_of_several_turns_share_no_prompt(bring: Import) -> None:
    done = bring(battle("model_a"), battle("model_a", "and then?"), battle("model_c"))
    assert where(done, "no common prompt") == ["file.jsonl:2"]
    assert where(done, "label") == ["file.jsonl:3"]
    assert done.votes == 1


def test_the_55k_set_has_columns_of_zero_and_one(store: Store, bring: Import) -> None:
    def row(a: Any, b: Any, even: Any, **changed: Any) -> dict[str, Any]:
        texts = {"prompt": '["hi"]', "response_a": '["from a"]', "response_b": '["from b"]'}
        return {"id": 1, "model_a": "x", "model_b": "y", **texts, **changed} | {
            "winner_model_a": a,
            "winner_model_b": b,
            "winner_tie": even,
        }

    done = bring(
        row("0", "1", "0"),
        row(1, 0, 0),
        row(0, 0, 1),
        row(1, 1, 0),
        row(1, 0, 0, response_b="[null]"),
        row(1, 0, 0, prompt='["hi", "and"]', response_a='["a", "a2"]', response_b='["b", "b2"]'),
        row(1, 0, 0, response_a="not json"),
        row(1, 0, 0, prompt='["hi", "and"]'),
    )
    assert done.format == "lmsys-55k"
    # Three strangers judged the same two answers: three labelers, not one who changed their mind.
    assert [(name, one["winner"]) for name, one in said(store)] == [
        ("lmsys visitors", "from b"),
        ("lmsys visitors (2)", "from a"),
        ("lmsys visitors (3)", None),
    ]
    assert where(done, "tie or both bad") == ["file.jsonl:3"]
    assert where(done, "label") == ["file.jsonl:4"]
    assert where(done, "null") == ["file.jsonl:5"]
    assert where(done, "no common prompt") == ["file.jsonl:6"]
    assert where(done, "type") == ["file.jsonl:7"]
    assert where(done, "role") == ["file.jsonl:8"]


def test_parts_of_text_are_joined_and_images_are_not_read(store: Store, bring: Import) -> None:
    row = battle("model_a", judge=None)
    row["conversation_a"][1]["content"] = [
        {"type": "text", "text": "from "},
        {"type": "text", "text": "parts"},
    ]
    picture = battle("model_a", judge=None)
    picture["conversation_a"][0]["content"] = [{"type": "image", "image": "…"}]
    done = bring(row, picture)
    assert wins(store) == [("from parts", "from b", 0.0)]
    assert where(done, "type") == ["file.jsonl:2"]


# Argilla

FIELDS = {"prompt": "hi", "response-1": "one", "response-2": "two", "response-3": "three"}


def test_ties_of_an_argilla_ranking_are_kept(store: Store, bring: Import) -> None:
    value = [
        {"value": "response-2", "rank": 1},
        {"value": "response-1", "rank": 2},
        {"value": "response-3", "rank": 2},
    ]
    sides = {"value": ["response-1", "response-2", "response-3"], "rank": [1, 1, 3]}
    done = bring(
        {"fields": FIELDS, "responses": {"best": [{"value": value, "user_id": "u1"}]}},
        {
            "fields": FIELDS,
            "responses": [{"user_id": "u2", "status": "submitted", "values": {"best": {"value": value}}}],
        },
        {"fields": FIELDS, "responses": {"best": [{"value": sides, "user_id": "u3", "status": "submitted"}]}},
    )
    assert (done.format, done.votes, done.counts) == ("argilla", 3, {})
    tied = [["two"], ["one", "three"]]
    assert [(name, payload["tiers"]) for name, payload in said(store)] == [
        ("argilla u1", tied),
        ("argilla u2", tied),
        ("argilla u3", [["one", "two"], ["three"]]),
    ]


def test_a_list_of_values_has_lost_its_ties_and_says_so(store: Store, bring: Import) -> None:
    flat = dict(FIELDS, id="r1", status="completed") | {
        "best.responses": [["response-3", "response-1", "response-2"], None],
        "best.responses.users": ["u1", "u2"],
        "best.responses.status": ["submitted", "discarded"],
    }
    done = bring(flat)
    assert done.by_type == {"ranking": 1, "skip": 1}
    assert where(done, "ranks lost") == ["file.jsonl:1"]
    assert said(store)[0] == (
        "argilla u1",
        {"type": "ranking", "tiers": [["three"], ["one"], ["two"]], "unacceptable": []},
    )
    assert said(store)[1] == ("argilla u2", {"type": "skip", "reason": "discarded"})
    assert column(store, task.c.n_done) == [1]  # a skip is no verdict


def test_an_argilla_label_chooses_between_two_fields(store: Store, bring: Import) -> None:
    fields = {"prompt": "hi", "a": "one", "b": "two"}
    said_of_it = [("u1", "b"), ("u2", "tie"), ("u3", "neither")]
    replies = [{"value": value, "user_id": user, "status": "submitted"} for user, value in said_of_it]
    bring({"fields": fields, "responses": {"which": replies}})
    assert [(one["verdict"], one["winner"]) for _, one in said(store)] == [
        ("prefer", "two"),
        ("tie", None),
        ("both_bad", None),
    ]


def test_what_argilla_does_not_explain_is_counted(bring: Import) -> None:
    ranked = [{"value": "response-1", "rank": 1}, {"value": "response-2", "rank": 2}]
    good = {"best": [{"value": ranked, "user_id": "u"}]}
    done = bring(
        {"fields": FIELDS, "responses": good | {"stars": [{"value": 4, "user_id": "u"}]}},
        {"fields": FIELDS, "responses": {"best": [{"value": ranked, "user_id": "d", "status": "draft"}]}},
        {"fields": FIELDS, "responses": {"best": [{"value": [{"value": "response-9", "rank": 1}]}]}},
        {"fields": FIELDS, "responses": {"best": [{"value": [{"value": "response-1"}]}]}},
        {"fields": {"x": "hi", "y": "ho", **FIELDS} | {"prompt": ""}, "responses": good},
    )
    assert done.votes == 1
    assert where(done, "unread question") == ["file.jsonl:1"]
    assert where(done, "draft") == ["file.jsonl:2"]
    assert where(done, "missing") == ["file.jsonl:3"]
    assert where(done, "number") == ["file.jsonl:4"]
    assert where(done, "empty") == ["file.jsonl:5"]


# Label Studio


def annotated(result: Any, **more: Any) -> dict[str, Any]:
    return {"id": 1, "completed_by": 3, "lead_time": 12.34, "result": result, "was_cancelled": False, **more}


def pairwise(side: str, to: Any = "pw") -> list[dict[str, Any]]:
    return [{"from_name": "pw", "to_name": to, "type": "pairwise", "value": {"selected": side}}]


def ranker(value: Any) -> list[dict[str, Any]]:
    return [{"from_name": "rank", "to_name": "items", "type": "ranker", "value": {"ranker": value}}]


PAIR = {"prompt": "hi", "text1": "one", "text2": "two"}
ITEMS = {"prompt": "hi", "items": [{"id": key, "body": f"text {key}"} for key in "abc"]}


def test_left_and_right_with_time_and_order(store: Store, bring: Import) -> None:
    done = bring(
        {"id": 1, "data": PAIR, "annotations": [annotated(pairwise("right"))]},
        {
            "id": 2,
            "data": PAIR | {"prompt": "ho"},
            "annotations": [annotated(pairwise("right", ["text2", "text1"]))],
        },
    )
    assert (done.format, done.votes, done.labelers) == ("label-studio", 2, 1)
    assert [pair[:2] for pair in wins(store)] == [("two", "one"), ("one", "two")]
    assert column(store, vote.c.wall_ms) == [12340, 12340]
    assert column(store, vote.c.active_ms) == [None, None]
    with store.reading() as connection:
        texts = {row.id: row.text for row in connection.execute(select(completion))}
    assert [[texts[key] for key in shown] for shown in column(store, vote.c.shown)] == [
        ["one", "two"],
        ["two", "one"],
    ]


def test_a_cancelled_annotation_is_a_skip_and_the_task_stays_open(store: Store, bring: Import) -> None:
    done = bring({"data": PAIR, "annotations": [annotated([], was_cancelled=True, completed_by={"id": 8})]})
    assert done.by_type == {"skip": 1}
    assert said(store) == [("label-studio 8", {"type": "skip", "reason": "was_cancelled"})]
    assert column(store, task.c.state) == ["open"]


@pytest.mark.parametrize(
    ("value", "tiers"),
    [
        ({"rank": ["b", "c", "a"]}, [["text b"], ["text c"], ["text a"]]),
        ({"tier2": ["a"], "tier1": ["c", "b"]}, [["text c", "text b"], ["text a"]]),
        ({"bad": ["a", "b"], "good": ["c"], "_": []}, [["text c"], ["text a", "text b"]]),
        ({"1": ["a"], "2": [], "3": ["b"], "_": ["c"]}, [["text a"], ["text b"]]),
    ],
)
def test_buckets_are_tiers(store: Store, bring: Import, value: Any, tiers: list[list[str]]) -> None:
    bring({"data": ITEMS, "annotations": [annotated(ranker(value))]})
    assert [payload["tiers"] for _, payload in said(store)] == [tiers]


def test_what_a_label_studio_task_does_not_say_is_counted(bring: Import) -> None:
    choice = {"type": "choices", "value": {"choices": ["tie"]}}
    done = bring(
        {"data": PAIR, "annotations": [annotated([*pairwise("left"), choice])]},
        {"data": ITEMS, "annotations": [annotated(ranker({"north": ["a"], "south": ["b"]}))]},
        {"data": ITEMS, "annotations": [annotated(ranker({"rank": ["a", "z"]}))]},
        {"data": PAIR, "annotations": [annotated(pairwise("middle")), annotated([])]},
        {"data": {"text1": "one", "text2": "two"}, "annotations": [annotated(pairwise("left"))]},
        {"data": PAIR, "annotations": []},
        {"data": PAIR | {"text3": "x"}, "annotations": [annotated(pairwise("left"))]},
    )
    assert done.votes == 1
    assert where(done, "unread result") == ["file.jsonl:1"]
    assert where(done, "buckets") == ["file.jsonl:2"]
    assert where(done, "label") == ["file.jsonl:3", "file.jsonl:4"]
    assert where(done, "missing") == ["file.jsonl:4", "file.jsonl:5", "file.jsonl:7"]
    assert where(done, "no votes") == ["file.jsonl:6"]


# PandaLM


def panda(*labels: Any, **changed: Any) -> dict[str, Any]:
    row = {"idx": 0, "motivation_app": "Mail", "cmp_key": "m-1_m-2", "instruction": "say", "input": "it"}
    row |= {"response1": "one", "response2": "two"}
    return row | {f"annotator{n}": label for n, label in enumerate(labels, 1)} | changed


def test_three_people_of_pandalm_are_three_labelers(store: Store, bring: Import) -> None:
    done = bring(panda(1, 2, 0))
    assert (done.format, done.votes, done.labelers) == ("pandalm", 3, 3)
    assert [(name, one["winner"]) for name, one in said(store)] == [
        ("pandalm annotator1", "one"),
        ("pandalm annotator2", "two"),
        ("pandalm annotator3", None),
    ]
    assert sorted(one["model"] for one in column(store, completion.c.producer)) == ["m-1", "m-2"]
    assert column(store, vote.c.shown) == [None, None, None]  # nobody recorded it


def test_pandalm_answers_that_are_empty_or_a_truth_value_are_kept(store: Store, bring: Import) -> None:
    done = bring(panda(2, 2, 3, response1="", instruction=" "), panda(1, True, 1, response2=True))
    assert done.counts == {"empty": 1, "empty answer": 1, "label": 2, "type": 1}
    assert (done.votes, done.dropped) == (4, 2)
    assert [pair[:2] for pair in wins(store)] == [("two", ""), ("two", ""), ("one", "True"), ("one", "True")]
    assert sorted(one[0]["content"] for one in column(store, item.c.messages)) == ["it", "say\n\nit"]


# Pairs and judgements


def test_hh_rows_without_a_common_prompt_are_reported_and_the_rest_goes_on(
    store: Store, bring: Import
) -> None:
    def row(chosen: str, rejected: str) -> dict[str, str]:
        return {"chosen": chosen, "rejected": rejected}

    start = "\n\nHuman: hi\n\nAssistant: "
    done = bring(
        row(start + "good", start + "bad"),
        row("\n\nHuman: one\n\nAssistant: good", "\n\nHuman: two\n\nAssistant: bad"),
        row(start + "better", start + "worse"),
    )
    assert done.format == "pairs"
    assert where(done, "no common prompt") == ["file.jsonl:2"]
    assert [pair[:2] for pair in wins(store)] == [("good", "bad"), ("better", "worse")]


def test_trl_rows_bring_probability_margin_and_label(store: Store, bring: Import) -> None:
    bring({"prompt": "hi", "chosen": "a", "rejected": "b", "p_chosen": 0.75, "margin": 0.5, "weight": 2.0})
    (one,) = preferences(store)
    assert (one.p_chosen, one.margin, one.weight) == (0.75, 0.5, 2.0)
    done = bring({"prompt": "hi", "completion": "c", "label": False})
    assert done.format == "judgements"
    assert [one.completion.text for one in judgements(store) if not one.desirable] == ["b", "c"]


def test_equal_sides_are_a_problem_and_not_a_vote(bring: Import) -> None:
    done = bring(battle("tie"), panda(1, 2, 0), format="lmsys")
    assert where(done, "missing") == ["file.jsonl:2"]
    same = battle("tie")
    same["conversation_b"] = same["conversation_a"]
    again = bring(battle("tie"), same)
    assert (again.votes, again.repeated) == (0, 1)
    assert where(again, "identical") == ["file.jsonl:2"]


# Whatever the format


def test_importing_again_adds_nothing_and_a_changed_vote_is_named(store: Store, bring: Import) -> None:
    assert bring(panda(1, 2, 0)).votes == 3
    again = bring(panda(1, 2, 0))
    assert (again.votes, again.repeated, again.tasks) == (0, 3, 0)
    changed = bring(panda(2, 2, 0))
    assert (changed.votes, changed.repeated) == (0, 2)
    assert where(changed, "contradiction") == ["file.jsonl:1"]
    assert said(store)[0][1]["winner"] == "one"


def test_answers_of_one_text_are_ranked_once(store: Store, bring: Import) -> None:
    replies = [message(key, "assistant", rank=rank) for rank, key in enumerate("abc")]
    replies[2]["text"] = replies[0]["text"]
    done = bring({"message_tree_id": "1", "prompt": message("q", "prompter", *replies)})
    assert where(done, "alike") == ["file.jsonl:1"]
    assert [payload["tiers"] for _, payload in said(store)] == [[["text a"], ["text b"]]]


def test_one_person_who_votes_again_makes_a_second_pass(store: Store, bring: Import) -> None:
    done = bring(battle("model_a"), battle("model_b"), battle("model_b", judge="other"))
    assert (done.votes, done.labelers) == (3, 2)
    assert [name for name, _ in said(store)] == ["lmsys arena_user_7", "lmsys arena_user_7", "lmsys other"]
    assert sorted(column(store, vote.c["pass"])) == [0, 0, 1]
    assert [one.weight for one in preferences(store)] == [0.5, 0.5, 1.0]
    again = bring(battle("model_a"), battle("model_b"), battle("model_b", judge="other"))
    assert (again.votes, again.repeated) == (0, 3)


def test_later_rows_that_lack_what_the_first_has_are_counted(bring: Import) -> None:
    good = {"prompt": "hi", "response": "yes", "helpfulness": 3}
    done = bring(good, {"prompt": "hi", "response": "no"}, good | {"response": "so", "helpfulness": []})
    assert (done.votes, where(done, "missing")) == (1, ["file.jsonl:2", "file.jsonl:3"])
    torn = battle("model_a")
    torn["conversation_a"] = ["hi", *torn["conversation_a"][1:]]
    done = bring(battle("tie"), torn, battle("tie") | {"conversation_b": None})
    assert (done.votes, where(done, "type"), where(done, "null")) == (1, ["file.jsonl:2"], ["file.jsonl:3"])
    ranked = [{"value": [{"value": f"response-{n}", "rank": n} for n in (1, 2)], "user_id": "u"}]
    done = bring(
        {"fields": FIELDS, "responses": {"best": ranked}},
        {"fields": FIELDS, "responses": {}},
        {**FIELDS, "best.responses": "response-1"},
    )
    assert (done.votes, where(done, "no votes"), where(done, "type")) == (
        1,
        ["file.jsonl:2"],
        ["file.jsonl:3"],
    )


def test_broken_lines_are_counted_with_their_place(store: Store, tmp_path: Path) -> None:
    lines = [json.dumps(panda(1, 1, 1)), "{broken", json.dumps(panda(1, 1, 1, input="else"))]
    (tmp_path / "file.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = import_votes(store, "file.jsonl", root=tmp_path)
    assert (done.rows, done.votes) == (3, 6)
    assert where(done, "broken line")[0].startswith("file.jsonl:2:")


@pytest.mark.parametrize("named", [one.name for one in FORMATS])
def test_a_file_of_the_wrong_shape_says_what_was_expected(bring: Import, named: str) -> None:
    with pytest.raises(UserError) as raised:
        bring({"apples": 1, "pears": 2}, format=named)
    error = raised.value
    assert "[apples, pears]" in error.what
    assert error.where == "file.jsonl"
    assert f"({named})" in error.expected
    assert error.fix


def test_unknown_columns_and_names_say_what_is_known(bring: Import) -> None:
    with pytest.raises(UserError) as raised:
        bring({"apples": 1})
    assert all(f"({one.name})" in raised.value.expected for one in FORMATS)
    with pytest.raises(UserError, match="argila") as raised:
        bring({"apples": 1}, format="argila")
    assert "argilla" in raised.value.fix


def test_a_file_without_a_usable_vote_is_an_error_that_says_why(store: Store, bring: Import) -> None:
    with pytest.raises(UserError, match="1 label") as raised:
        bring(battle("nobody"))
    assert raised.value.where == "file.jsonl:1"
    assert store.counts()["tasks"] == 0


def test_every_format_is_recognised_by_its_own_columns_first() -> None:
    assert len({one.name for one in FORMATS}) == len(FORMATS)
    rows = {
        "ultrafeedback": ultra(),
        "helpsteer3": third(0),
        "pandalm": panda(0, 0, 0),
        "lmsys": battle("tie"),
        "label-studio": {"data": PAIR, "annotations": []},
        "argilla": {"fields": FIELDS, "responses": {}},
        "pairs": {"chosen": "", "rejected": ""},
        "judgements": {"prompt": "", "completion": "", "label": True},
    }
    for name, row in rows.items():
        assert next(one.name for one in FORMATS if one.fits(row)) == name
