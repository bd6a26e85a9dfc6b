import pytest

from concordant.evaluation.text_metrics import distinct_n, duplicate_bigrams, unique_of


def test_distinct_counts_over_the_whole_set():
    texts = ["it is blue .", "it is red ."]
    assert distinct_n(texts, 1) == pytest.approx(5 / 8)  # it is blue . red
    assert distinct_n(texts, 2) == pytest.approx(5 / 6)  # "it is" twice
    assert distinct_n(texts, 5) == 0.0


def test_a_collapsed_model_has_low_distinct():
    assert distinct_n(["it is blue ."] * 100, 2) == pytest.approx(3 / 300)


def test_unique_of_is_a_mean_over_prompts():
    share = unique_of([["a", "a", "a", "a"], ["a", "b", "c", "d"]])
    assert share.mean == pytest.approx((0.25 + 1) / 2)
    assert share.n == 2


def test_duplicate_bigrams_by_hand():
    # "a b a b": bigrams ab ba ab, one of three repeats; "yes": none
    assert duplicate_bigrams(["a b a b", "yes", ""]).mean == pytest.approx((1 / 3) / 3)


def test_line_breaks_are_only_spaces():
    assert distinct_n(["a\nb  a"], 1) == pytest.approx(2 / 3)
