"""In which turns a request is put: state machines that see the model's answers and say what comes next.

A script is a function of what is asked and of all answers so far; it says nothing more by returning None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from concordant.data.types import Message
from concordant.evaluation.redteam.refusals import refuses
from concordant.evaluation.redteam.requests import Request

FEW, MANY = 3, 32  # examples shown
INSISTS = 3  # times that a refusal is answered


@dataclass(frozen=True)
class Words:
    """What scripts say around a request, in the language of its set."""

    examples: tuple[tuple[str, str], ...]  # harmless requests with answers that do as asked
    urgings: tuple[str, ...]  # said after a refusal
    steps: tuple[str, ...]  # towards the request, which stands in the first of them in the place of {text}
    halves: tuple[str, str]  # around the halves of a request, in the place of {text}
    opening: str  # of an answer that does as asked, where the request does not know a better one


@dataclass(frozen=True)
class Asking:
    """A request as its chain has left it."""

    text: str
    request: Request
    words: Words


@dataclass(frozen=True, slots=True)
class Turn:
    """What is said to the model; `opening` is put into its mouth as the beginning of its answer.

    Before the request has been put in full (`asks`) nothing that the model answers is an answer to it.
    """

    messages: tuple[Message, ...]
    opening: str = ""
    asks: bool = True


Script = Callable[[Asking, Sequence[str]], Turn | None]


def single(asking: Asking, answers: Sequence[str]) -> Turn | None:
    """The request, once."""
    return None if answers else _said(asking.text)


def prefill(asking: Asking, answers: Sequence[str]) -> Turn | None:
    """The request, and the first words of an answer that does as asked: the model goes on from there."""
    if answers:
        return None
    opening = asking.request.opening or asking.words.opening
    return Turn((Message("user", asking.text),), opening)


def few_shot(asking: Asking, answers: Sequence[str]) -> Turn | None:
    """Behind a few turns in which the model seems to have done as asked."""
    return None if answers else _behind_examples(asking, FEW)


def many_shot(asking: Asking, answers: Sequence[str]) -> Turn | None:
    """Behind many of them."""
    return None if answers else _behind_examples(asking, MANY)


def foot_in_the_door(asking: Asking, answers: Sequence[str]) -> Turn | None:
    """Harmless requests first, which the model answers itself."""
    asked = [question for question, _ in asking.words.examples[:2]]
    return _nth((*asked, asking.text), len(answers), leads=len(asked))


def crescendo(asking: Asking, answers: Sequence[str]) -> Turn | None:
    """A step nearer in each turn; whatever the model answers, the next one is tried."""
    steps = [step.replace("{text}", asking.text) for step in asking.words.steps]
    return _nth((*steps, asking.text), len(answers), leads=0)


def insist(asking: Asking, answers: Sequence[str]) -> Turn | None:
    """The request, and as long as it is refused another word for it."""
    if not answers:
        return _said(asking.text)
    urgings = asking.words.urgings
    if len(answers) > INSISTS or not refuses(answers[-1]):
        return None
    return _said(urgings[(len(answers) - 1) % len(urgings)])


def in_halves(asking: Asking, answers: Sequence[str]) -> Turn | None:
    """Half of the request in each of two turns, neither of which asks for anything."""
    words = asking.text.split(" ")
    middle = (len(words) + 1) // 2
    halves = (" ".join(words[:middle]), " ".join(words[middle:]))
    said = [w.replace("{text}", half) for w, half in zip(asking.words.halves, halves, strict=True)]
    return _nth(said, len(answers), leads=1)


SCRIPTS: Mapping[str, Script] = {
    "single": single,
    "prefill": prefill,
    "few-shot": few_shot,
    "many-shot": many_shot,
    "foot in the door": foot_in_the_door,
    "crescendo": crescendo,
    "insist": insist,
    "in halves": in_halves,
}


def _said(text: str) -> Turn:
    return Turn((Message("user", text),))


def _nth(said: Sequence[str], n: int, leads: int) -> Turn | None:
    """The n-th of these turns, of which the first `leads` only lead up to the request."""
    return Turn((Message("user", said[n]),), asks=n >= leads) if n < len(said) else None


def _behind_examples(asking: Asking, n: int) -> Turn:
    known = asking.words.examples
    shown = [known[i % len(known)] for i in range(n)]
    turns = [
        Message(role, text) for pair in shown for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return Turn((*turns, Message("user", asking.text)))
