"""Diversity and repetition of sampled texts, counted in whitespace-separated words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations

from concordant.evaluation.intervals import Mean, mean_of

EAD_ORDERS = range(1, 6)
LOOP_WORDS = 8  # most words of a phrase whose repetition is looked for


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


def ends_in_loop(text: str) -> bool:
    """Whether the text ends with the same one to `LOOP_WORDS` words three times running."""
    words = text.split()
    return any(
        words[-n:] == words[-2 * n : -n] == words[-3 * n : -2 * n]
        for n in range(1, min(LOOP_WORDS, len(words) // 3) + 1)
    )


def vocabularies(texts: Iterable[str]) -> dict[int, int]:
    """How many different n-grams a set of texts has, for each n of `EAD_ORDERS`: what `ead` is relative to."""
    kept = list(texts)
    return {n: len(set(chain.from_iterable(_ngrams(text, n) for text in kept))) for n in EAD_ORDERS}


def ead(texts: Iterable[str], n: int, vocabulary: int) -> float | None:
    """Expectation-adjusted distinct n-grams, N / (V (1 - ((V - 1) / V)^C)); None for texts without n-grams.

    N of the C n-grams are different; the denominator is how many of them would be if they were drawn evenly from
    V = `vocabulary`. Unlike `distinct_n` it does not fall merely because there are more texts, or longer ones.
    Source: Liu, Sabour, Zheng, Ke, Zhu and Huang (2022), Rethinking and Refining the Distinct Metric.
    """
    ngrams = list(chain.from_iterable(_ngrams(text, n) for text in texts))
    if not ngrams:
        return None
    missed = (1 - 1 / vocabulary) ** len(ngrams)
    return len(set(ngrams)) / (vocabulary * (1 - missed))


def mean_ead(texts: Sequence[str], vocabulary: Mapping[int, int]) -> float | None:
    """The mean of `ead` over all n that the texts have; None for texts without words."""
    found = [value for n, size in vocabulary.items() if (value := ead(texts, n, size)) is not None]
    return sum(found) / len(found) if found else None


def jaccard_distance(texts: Sequence[str]) -> float:
    """Mean over all pairs of texts of 1 - (words of both) / (words of either); 0 for two texts without words."""
    words = [set(text.split()) for text in texts]
    shares = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in combinations(words, 2)]
    return 1 - sum(shares) / len(shares)


def same_text(texts: Sequence[str]) -> Mean:
    """How probable it is that two of the texts are the same; whatever the number of texts, its expectation is one.

    The error is that of a mean over pairs (Hoeffding 1948): twice that of the share of others that each text equals.
    """
    counts = Counter(texts)
    shares = mean_of([(counts[text] - 1) / (len(texts) - 1) for text in texts])
    return Mean(shares.mean, 2 * shares.se, shares.n)
