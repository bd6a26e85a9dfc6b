"""One seed of a run becomes an unrelated one for every purpose."""

from __future__ import annotations

from concordant.seeds import derive


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert derive(0, "policy", "updates") == derive(0, "policy", "updates") == 97910219627871577


def test_purposes_and_neighbouring_seeds_share_nothing() -> None:
    found = {derive(seed, name, number) for seed in range(50) for name in "ab" for number in range(50)}
    assert len(found) == 5000
    assert all(0 <= value < 2**63 for value in found)
    assert derive(1, 23) != derive(12, 3)
