import random

import pytest

from concordant.evaluation.text_metrics import (
    distinct_n,
    duplicate_bigrams,
    ead,
    ends_in_loop,
    jaccard_distance,
    mean_ead,
    same_text,
    unique_of,
    vocabularies,
)


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


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("no no no", True),
        ("i see . have a nice day . have a nice day . have a nice day .", True),
        ("no no", False),
        ("no no no yes", False),  # it came out of it
        ("a b c d e f g h i " * 3, False),  # nine words are a refrain, not a loop
        ("", False),
    ],
)
def test_a_loop_is_a_phrase_three_times_at_the_end(text, loops):
    assert ends_in_loop(text) is loops


def test_ead_does_not_fall_with_the_number_of_texts():
    rng = random.Random(0)
    words = [f"w{n}" for n in range(50)]
    few, many = ([" ".join(rng.choices(words, k=5)) for _ in range(size)] for size in (10, 200))
    assert distinct_n(few, 1) > 5 * distinct_n(many, 1)
    assert ead(few, 1, 50) == pytest.approx(1, abs=0.15)
    assert ead(many, 1, 50) == pytest.approx(1, abs=0.02)


def test_ead_by_hand():
    # "a b", "a c": 3 of 4 words differ, of a vocabulary of 3; evenly drawn, 3 (1 - (2/3)^4) = 2.407 would
    assert ead(["a b", "a c"], 1, 3) == pytest.approx(3 / 2.4074, abs=1e-3)
    assert ead(["a b"], 3, 1) is None
    assert ead(["a a a"], 1, 1) == 1.0
    assert vocabularies(["a b", "a c"]) == {1: 3, 2: 2, 3: 0, 4: 0, 5: 0}
    assert mean_ead(["a b", "a c"], {1: 3, 2: 2, 3: 0}) == pytest.approx((3 / 2.4074 + 2 / 1.5) / 2, abs=1e-3)
    assert mean_ead(["", ""], {1: 3}) is None


def test_jaccard_distance_is_over_all_pairs():
    assert jaccard_distance(["a b", "b a", "c d"]) == pytest.approx((0 + 1 + 1) / 3)
    assert jaccard_distance(["a b", "b c"]) == pytest.approx(2 / 3)
    assert jaccard_distance(["", ""]) == 0


def test_the_chance_of_equal_texts_does_not_depend_on_how_many_there_are():
    rng = random.Random(1)
    few, many = ([rng.choice("abcd") for _ in range(size)] for size in (100, 3000))
    assert abs(same_text(few).mean - 0.25) < 3 * same_text(few).se
    assert same_text(many).mean == pytest.approx(0.25, abs=0.01)
    assert same_text(["a", "b", "c"]).mean == 0
    assert same_text(["a"] * 5).mean == 1
