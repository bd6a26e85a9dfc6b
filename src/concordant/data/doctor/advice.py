"""Of each kind of problem what was expected instead, and what to do."""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    expected: str
    fix: str


_MEND = "mend the row, or leave it out: --fix OUT, or data.skip_bad_rows = true in the recipe"

ADVICE = {
    "broken line": Advice(
        "one complete row, in UTF-8", "mend the line: was the file cut off, are two lines joined?"
    ),
    "missing": Advice("every column that the layout needs, in every row", _MEND),
    "null": Advice("text in every cell that is needed", _MEND),
    "type": Advice("text, or a list of turns", _MEND),
    "empty": Advice("a prompt and an answer that are not empty", _MEND),
    "role": Advice("turns of user and assistant in turn, a system turn first if any", _MEND),
    "number": Advice("a finite number in its range", _MEND),
    "label": Advice("true, false, 1 or 0", _MEND),
    "identical": Advice(
        "two different answers", "leave the pair out: --fix OUT; a run leaves it out and counts it"
    ),
    "undesirable": Advice(
        "an answer to imitate", "read the file as judgements for KTO, or leave the row out"
    ),
    "no common prompt": Advice("two conversations that differ in their last turn alone", _MEND),
    "empty answer": Advice("an answer at the end of the conversation", _MEND),
    "open end": Advice("a conversation that ends with an answer", "nothing: the last question is left out"),
    "turns joined": Advice("turns of two speakers in turn", "nothing: turns of one speaker were joined"),
    "duplicate": Advice("each row once", "leave the copies out: --fix OUT"),
    "contradiction": Advice(
        "one verdict on a pair or an answer",
        "pairs become one pair with the share of verdicts as p_chosen: --fix OUT; of judgements keep one",
    ),
    "leak": Advice("no prompt on both sides", "leave the rows out of training: --fix OUT"),
    "too long": Advice("rows within the limit", "leave them out: --fix OUT; or raise the limit"),
    "trimmed": Advice(
        "rows within the limit", "nothing: the prompt loses its oldest tokens; or raise the limit"
    ),
    "template": Advice("a conversation that the chat template takes", _MEND),
    "template token": Advice("text before a template was applied", "take the texts from before the template"),
    "script": Advice(
        "an answer in the script of its prompt", "nothing if it translates; else look at the row"
    ),
}

_UNKNOWN = Advice("a row as the others", "look at the row")


def advice_on(kind: str) -> Advice:
    """What to say about a kind of problem."""
    return ADVICE.get(kind, _UNKNOWN)
