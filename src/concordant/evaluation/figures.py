"""The names of figures that are compared between models: where `results.json` has them for each of them, dotted."""

from __future__ import annotations

from collections.abc import Sequence

PARTS = ("helpful", "honest", "harmless", "concise")  # of a gold reward
OF_ANY_MODEL = ("length", "eos_rate", "kl", "duplicate_bigrams", "loops", "distinct.unique_of_16")
TASK = "task."  # asked of every stage by a command of its own: `task.NAME.METRIC`
OF_TEXT = ("text.nll_per_token", "text.nll_per_byte")  # that nobody has learnt from
WIN_RATE = (
    "win_rate."  # against the model the policy started from, as people, labelers, gold or the score decide
)


def compared_figures(
    *,
    families: Sequence[str] | None,
    behaviors: Sequence[str] = (),
    scored: bool,
    labelers: bool,
    text: bool,
    held_out: bool = False,
) -> list[str]:
    """All that are measured: with `families` and `behaviors` of a world; without one `families` is None.

    `held_out`: there is a second reward model.
    """
    found = [*OF_ANY_MODEL, f"{WIN_RATE}people"]
    if text:
        found += OF_TEXT
    if labelers:
        found.append(f"{WIN_RATE}labelers")
    if scored:
        found += ["score", f"{WIN_RATE}score"]
    if held_out:
        found.append("held_out")
    if families is not None:
        found += ["gold", f"{WIN_RATE}gold", *(f"gold_parts.{part}" for part in PARTS)]
        for table in ("gold_by_family", "refusals_by_family"):
            found += [f"{table}.{family}" for family in families]
        found += [f"behaviors.{name}" for name in behaviors]
    return found
