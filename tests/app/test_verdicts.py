"""The release gate in sentences that people understand."""

from __future__ import annotations

import pytest

from concordant.app.verdicts import in_words, sentence, sentences
from concordant.evaluation.config import Rule
from concordant.evaluation.gate import GO, NO_GO, NOT_ENOUGH, Decision, Reason, Verdict
from concordant.evaluation.intervals import Change


def reason(figure: str, verdict: Verdict, rule: Rule = "no_more", needed: int | None = None) -> Reason:
    return Reason(figure, rule, 0.3, Change(0.4, 0.2, 0.6, 1500), verdict, needed)


def test_what_is_broken_comes_first() -> None:
    reasons = (reason("gold", GO, "better"), reason("length", NOT_ENOUGH), reason("kl", NO_GO))
    row = {"hash": "abc", "stated_before": True}
    said, *lines = sentences(Decision(NO_GO, reasons), row)
    assert said == "gate: NO-GO"
    assert [line.split(" changed")[0].strip() for line in lines[:-1]] == [
        "KL to the start",
        "length in tokens",
        "gold",
    ]


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ("refusals_by_family.benign", "refusals of benign questions"),
        ("gold_by_family.unknown", "gold of unknown questions"),
        ("win_rate.people", "win rate by people"),
        ("distinct.unique_of_16", "share of different answers among 16"),
        ("task.choice.acc", "task.choice.acc"),
        ("behaviors.over-refusal", "behaviors.over-refusal"),
    ],
)
def test_figures_have_words_and_others_keep_their_names(figure: str, words: str) -> None:
    assert in_words(figure) == words


def test_what_would_decide_it_is_no_more_exact_than_it_can_be() -> None:
    assert "; about 120,000 prompts would decide it" in sentence(reason("gold", NOT_ENOUGH, needed=118_932))
    assert "; about 97 prompts" in sentence(reason("gold", NOT_ENOUGH, needed=97))
