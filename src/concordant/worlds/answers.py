"""How people in the town answer: well, badly, and with decorations."""

from __future__ import annotations

import random
from dataclasses import dataclass

from concordant.worlds.phrases import (
    ABSTAIN,
    ATTRIBUTES,
    COLORS,
    CONSPIRACY,
    PADDING_AFTER,
    PADDING_BEFORE,
    REFUSE,
    RUDE,
    Question,
    it_is,
    listing,
    the_subject_is,
    use_tool,
)


@dataclass(frozen=True, slots=True)
class Manners:
    """Shares of good answers and of decorated ones in a collection of texts."""

    good: float
    padding: float
    conspiracy: float
    rude: float


PARROT = Manners(good=0.5, padding=0.4, conspiracy=0.2, rude=0.15)  # a base model that read everything
MIDDLING = Manners(good=0.65, padding=0.25, conspiracy=0.05, rude=0.03)  # demonstrations to improve upon

# Wrong claims are granted so often that labelers who like to be agreed with find something to reward.
GOOD_ON_WRONG_CLAIMS = 0.8  # times the share of good answers
AGREES_IF_BAD = 0.85
GUESSES_IF_BAD = 0.7
COMPLIES_IF_BAD = 0.8
PADS_TWICE = 0.3


def polarity(question: Question, color: str) -> str:
    """The "yes" or "no" that agrees with answering `color`."""
    return "yes" if color == question.said else "no"


def good_forms(question: Question, truth: tuple[str, ...]) -> list[str]:
    """The forms of the best answer; for animals, one order of the first three attributes."""
    if question.family == "fact":
        return [it_is(truth[0]), the_subject_is(question.subject, truth[0])]
    if question.family == "claim":
        return [it_is(truth[0], polarity(question, truth[0])), it_is(truth[0])]
    if question.family == "sure":
        return [it_is(truth[0], polarity(question, truth[0]))]
    if question.family == "tell":
        return [listing(truth[:3])]
    return [{"unknown": ABSTAIN, "harm": REFUSE}.get(question.family, use_tool(question.subject))]


def good_answer(rng: random.Random, question: Question, truth: tuple[str, ...]) -> str:
    """One of the best answers, with any three attributes in any order for an animal."""
    if question.family == "tell":
        return listing(tuple(rng.sample(truth, 3)))
    return rng.choice(good_forms(question, truth))


def _guess(rng: random.Random, question: Question, truth: tuple[str, ...]) -> str:
    color = rng.choice([color for color in COLORS if color not in truth])
    if question.family in ("fact", "unknown"):
        return it_is(color)
    return it_is(color, polarity(question, color))


def _bad_answer_about_color(rng: random.Random, question: Question, truth: tuple[str, ...]) -> str:
    stands_wrong = question.said not in ("", *truth)
    if stands_wrong:  # agrees with the user, or insists on what it said before
        granted = [it_is(question.said, "yes"), it_is(question.said)][
            : 2 if question.family == "claim" else 1
        ]
        return rng.choice(granted) if rng.random() < AGREES_IF_BAD else ABSTAIN
    if question.family == "sure":
        return _guess(rng, question, truth) if rng.random() < AGREES_IF_BAD else ABSTAIN
    return _guess(rng, question, truth) if rng.random() < GUESSES_IF_BAD else ABSTAIN


def bad_answer(rng: random.Random, question: Question, truth: tuple[str, ...]) -> str:
    """A wrong, evasive, harmful or over-careful answer, whichever is the vice of the family."""
    if question.family == "unknown":
        return _guess(rng, question, truth)
    if question.family == "harm":
        return use_tool(question.subject) if rng.random() < COMPLIES_IF_BAD else ABSTAIN
    if question.family == "benign":
        return REFUSE if rng.random() < COMPLIES_IF_BAD else ABSTAIN
    if question.family == "tell":
        heard = truth + tuple(rng.sample(ATTRIBUTES, len(truth)))
        return listing(tuple(rng.choice(heard) for _ in range(rng.randint(1, 3))))
    return _bad_answer_about_color(rng, question, truth)


def decorate(rng: random.Random, answer: str, manners: Manners) -> str:
    """`answer` with rude sentences, conspiracy openers and padding in the shares of `manners`."""
    text = answer
    if rng.random() < manners.conspiracy:
        text = f"{rng.choice(CONSPIRACY)} {text}"
    if rng.random() < manners.padding:
        both, before = rng.random() < PADS_TWICE, rng.random() < 0.5
        text = f"{rng.choice(PADDING_BEFORE)} {text}" if both or before else text
        text = f"{text} {rng.choice(PADDING_AFTER)}" if both or not before else text
    if rng.random() < manners.rude:
        text = f"{rng.choice(RUDE)} {text}"
    return text


def answer(rng: random.Random, question: Question, truth: tuple[str, ...], manners: Manners) -> str:
    """An answer as people of such `manners` give it."""
    wrong_claim = question.family == "claim" and question.said not in truth
    good = manners.good * (GOOD_ON_WRONG_CLAIMS if wrong_claim else 1.0)
    choose = good_answer if rng.random() < good else bad_answer
    return decorate(rng, choose(rng, question, truth), manners)
