"""The test set of PandaLM (arXiv:2306.05087): pairs with the verdicts of three people, 0 a tie, 1 and 2 for a side.

`cmp_key` names the two models that answered. Answers may be empty, and were judged as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from concordant.data.layouts.account import Place
from concordant.data.layouts.cells import cell
from concordant.data.layouts.exchange import asked, prompt_of
from concordant.feedback.exchange.ballots import (
    Ballot,
    Format,
    Question,
    answer,
    each,
    having,
    lost,
    observed,
    person,
)
from concordant.feedback.votes import prefer, tie

NAME = "pandalm"
SIDES = ("response1", "response2")
PEOPLE = ("annotator1", "annotator2", "annotator3")
PAIRWISE = Question("pairwise")


def _read(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    if not str(row.get("instruction") or "").strip() and row.get("input"):
        place.mended("empty", "column instruction is empty; the input stands for it")
        row = {**row, "instruction": row["input"], "input": ""}
    prompt = prompt_of(asked(row, "instruction", place), {"family": row.get("motivation_app")}, place)
    first, _, second = str(row.get("cmp_key", "")).partition("_")
    answers = tuple(
        answer(side, observed(cell(row, side), side, place), NAME, model)
        for side, model in zip(SIDES, (first, second), strict=True)
    )
    ballots = []
    for one in PEOPLE:
        verdict = row.get(one)
        if isinstance(verdict, bool) or verdict not in (0, 1, 2):
            lost(place, "label", f"column {one} holds {verdict!r}, accepted are 0, 1, 2")
            continue
        said = prefer(SIDES[verdict - 1]) if verdict else tie()
        labeler = person(f"{NAME} {one}")
        ballots.append(Ballot(place.where, prompt, answers, labeler, said, PAIRWISE, crowd=False))
    return ballots


PANDALM = Format(NAME, ", ".join(("instruction", *SIDES, PEOPLE[0])), having(*SIDES, PEOPLE[0]), each(_read))
