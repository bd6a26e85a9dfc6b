"""The figures of a reward model, from labelled pairs and from answers whose gold reward is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from concordant.evaluation.answers import Answer, differences
from concordant.evaluation.intervals import Array, Rate, clustered_wilson, wilson
from concordant.evaluation.pairs import HELD_OUT, TRAINING, LabelledPair
from concordant.evaluation.reward_metrics import (
    accuracy,
    correctness,
    gold_accuracy,
    length_correlation,
    pair_metrics,
)
from concordant.evaluation.style import style_figures

FOUR = 4
LABEL_STRENGTHS = 4  # groups of pairs by how strong their labels are, at most


def reward_figures(
    pairs: Iterable[LabelledPair], groups: Mapping[str, Sequence[Sequence[Answer]]], start: str
) -> dict[str, Any]:
    """On held-out labels, and where the truth is known on answers of the start and of the policy; ready for JSON.

    `groups` has by model several answers to each of a few prompts.
    """
    sides = {name: [pair for pair in pairs if pair.split == name] for name in (HELD_OUT, TRAINING)}
    held_out = sides[HELD_OUT]
    given = _columns(held_out)
    figures = pair_metrics(*given)
    lengths = np.array([(pair.chosen.length, pair.rejected.length) for pair in held_out], dtype=np.float64)
    figures |= style_figures(*given, lengths)
    if sides[TRAINING]:
        delta, p_chosen, weights, prompts = _columns(sides[TRAINING])
        figures["train"] = accuracy(correctness(delta, p_chosen), weights, prompts)
    if held_out[0].chosen.held_out is not None:
        figures["held_out"] = pair_metrics(*_columns(held_out, "held_out"))
    figures["by_label"] = _by_label(held_out)
    figures["by_family"] = _by_family(held_out)
    figures["suspect_labels"] = suspect_labels(held_out)
    figures["length_correlation"] = length_correlation(
        [[(a.length, a.score or 0.0) for a in group] for group in groups[start]]
    )
    figures["best_of_4"] = best_of_4(_labelled_fours(held_out)).as_dict()
    if groups[start][0][0].gold is not None:
        figures["gold_best_of_4"] = best_of_4(_gold_fours(groups[start])).as_dict()
        for key, name in (("gold_accuracy", start), ("on_policy_accuracy", "policy")):
            if name in groups:
                rate = _against_gold(groups[name])
                figures |= {
                    key: rate.as_dict()["rate"],
                    f"{key}_ci": [rate.low, rate.high],
                    f"{key}_n": rate.n,
                }
    return figures


def _columns(pairs: Sequence[LabelledPair], by: str = "score") -> tuple[Array, Array, Array, list[str]]:
    """Differences in a score, how probably the first is the better one, weights, and prompts."""
    delta = np.array([pair.delta_by(by) for pair in pairs], dtype=np.float64)
    p_chosen, weights = (
        np.array([getattr(pair, name) for pair in pairs], dtype=np.float64) for name in ("p_chosen", "weight")
    )
    return delta, p_chosen, weights, [pair.prompt_id for pair in pairs]


def _by_label(pairs: Sequence[LabelledPair]) -> list[dict[str, Any]]:
    """Accuracy by how strong the labels are, weakest first: by their margins, or by their probability.

    Empty where all are alike.
    """
    margins = any(pair.margin for pair in pairs)
    strength = np.array([pair.margin if margins else pair.p_chosen for pair in pairs])
    delta, p_chosen, weights, prompts = _columns(pairs)
    correct = correctness(delta, p_chosen)
    edges = np.unique(np.quantile(strength, np.arange(1, LABEL_STRENGTHS) / LABEL_STRENGTHS))
    which = np.searchsorted(edges, strength, side="left")
    if len(np.unique(which)) < 2:
        return []
    found = []
    for number in np.unique(which):
        inside = np.flatnonzero(which == number)
        row = accuracy(correct[inside], weights[inside], [prompts[i] for i in inside])
        found.append({"low": float(strength[inside].min()), "high": float(strength[inside].max()), **row})
    return found


def _by_family(pairs: Sequence[LabelledPair]) -> dict[str, Any]:
    """Accuracy on each kind of question, where the source of the prompts knows it: the worst one is what gets gamed."""
    families: dict[str, list[LabelledPair]] = {}
    for pair in sorted(pairs, key=lambda one: one.family):
        if pair.family:
            families.setdefault(pair.family, []).append(pair)
    found = {}
    for family, some in families.items():
        delta, p_chosen, weights, prompts = _columns(some)
        found[family] = accuracy(correctness(delta, p_chosen), weights, prompts)
    return found


def suspect_labels(pairs: Sequence[LabelledPair]) -> dict[str, Any]:
    """The share of labels that a reward model which has not seen them contradicts.

    `gold_contradicts`: of these, how many the gold reward contradicts as well, where it is known and not the same
    for both answers.
    """
    delta, _, _, prompts = _columns(pairs)
    rate = clustered_wilson((delta < 0).astype(np.float64), prompts)
    judged = [
        pair.chosen.gold < pair.rejected.gold
        for pair in pairs
        if pair.delta < 0
        and pair.chosen.gold is not None
        and pair.rejected.gold is not None
        and pair.chosen.gold != pair.rejected.gold
    ]
    return rate.as_dict() | {
        "gold_contradicts": wilson(sum(judged), len(judged)).as_dict() if judged else None
    }


Four = tuple[
    str, list[float], int
]  # a prompt, the scores of four answers to it, and which of them is the best one


def best_of_4(fours: Iterable[Four]) -> Rate:
    """How often the best of four answers has the highest score; of several with the highest, a share. Chance is 1/4."""
    prompts, hits = [], []
    for prompt, scores, best in fours:
        top = [number for number, score in enumerate(scores) if score == max(scores)]
        prompts.append(prompt)
        hits.append((best in top) / len(top))
    return clustered_wilson(hits, prompts)


def _gold_fours(groups: Sequence[Sequence[Answer]]) -> Iterable[Four]:
    """Four and four of the answers to a prompt, as far as one of them alone is the best by gold."""
    for group in groups:
        for begin in range(0, len(group) - FOUR + 1, FOUR):
            some = group[begin : begin + FOUR]
            golds = [answer.gold.total for answer in some if answer.gold is not None]
            if golds.count(max(golds)) == 1:
                yield some[0].prompt.id, [a.score or 0.0 for a in some], golds.index(max(golds))


def _labelled_fours(pairs: Sequence[LabelledPair]) -> Iterable[Four]:
    """Rankings of four answers in which one is preferred to each of the others."""
    rankings: dict[str, list[LabelledPair]] = {}
    for pair in pairs:
        rankings.setdefault(pair.group, []).append(pair)
    for ranking in rankings.values():
        scores = {side.text: side.score or 0.0 for pair in ranking for side in (pair.chosen, pair.rejected)}
        beaten: dict[str, set[str]] = {}
        for pair in ranking:
            if pair.p_chosen > 0.5:
                beaten.setdefault(pair.chosen.text, set()).add(pair.rejected.text)
        best = [text for text, others in beaten.items() if len(others - {text}) == FOUR - 1]
        if len(scores) == FOUR and len(best) == 1:
            yield ranking[0].prompt_id, list(scores.values()), list(scores).index(best[0])


def _against_gold(groups: Sequence[Sequence[Answer]]) -> Rate:
    found = [(number, *pair) for number, group in enumerate(groups) for pair in differences([group])]
    prompts, scores, golds = zip(*found, strict=True)
    return gold_accuracy(scores, golds, prompts)
