"""Diversity and repetition of sampled texts, counted in whitespace-separated words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from concordant.evaluation.intervals import Mean, mean_of


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Share of distinct n-grams among all n-grams of a set of texts; 0.0 where there are none.

    The figure falls as the set grows, so compare sets of one size only. Source: Li et al. (2016), distinct-n.
    """
    ngrams = list(chain.from_iterable(_ngrams(text, n) for text in texts))
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def unique_of(samples_per_prompt: Iterable[Sequence[str]]) -> Mean:
    """Mean over prompts of the share of different texts among the samples of one prompt.

    With 16 samples a prompt this is "unique of 16": 1 = all differ, 1/16 = the model always says the same.
    """
    return mean_of([len(set(samples)) / len(samples) for samples in samples_per_prompt])


def duplicate_bigrams(texts: Sequence[str]) -> Mean:
    """Mean over texts of the share of bigrams that repeat an earlier bigram of the same text.

    A text of fewer than two words repeats nothing and counts as 0.
    """
    shares = []
    for text in texts:
        bigrams = _ngrams(text, 2)
        shares.append(1 - len(set(bigrams)) / len(bigrams) if bigrams else 0.0)
    return mean_of(shares)
