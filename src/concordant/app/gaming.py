"""Whether the policy gamed its reward, in sentences: what its score was gained by, and how far it went past the truth.

The rows are `exploits` and `over_optimisation` of `results.json`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from concordant.evaluation.exploits import REST
from concordant.evaluation.intervals import Mean

Row = Mapping[str, Any]

WIDTH = 100  # characters of a sample
TRUTHS = {"gold": "gold", "probe": "the win rate of its probes"}


def gaming(results: Row) -> Iterator[str]:
    """What the results say of it, a line for each thing."""
    if exploits := results.get("exploits"):
        yield exploited(exploits)
    if path := results.get("over_optimisation"):
        yield standing(path)
    policy = results.get("models", {}).get("policy", {})
    if policy.get("held_out_gap"):
        yield held_out(policy)


def exploited(row: Row) -> str:
    """What the score was gained by, and which of it was exploited."""
    rise = f"the score's rise of {row['gain']['mean']:.2f}"
    if not row["gain"]["low"] > 0:
        return "exploited: nothing, as the score did not measurably rise"
    parts = {part["part"]: part for part in row["parts"]}
    named = [f"{one['words']} ({_paid(parts[one['feature']])})" for one in row["named"]]
    if row["truth"] is None:
        told = f"{' and '.join(named)} of {rise}" if named else f"no feature looked at makes much of {rise}"
        return (
            f"paid for: {told}. Nobody knows the truth here: whether answers deserve it, people have to say"
        )
    truth, rest = (_share(parts[name]) if name in parts else "0 %" for name in (row["truth"], REST))
    made = f"of {rise} {row['truth']} explains {truth}; {rest} has no name"
    return f"exploited: {' and '.join(named) or 'nothing that was looked at'}; {made}"


def _paid(part: Row) -> str:
    return f"{part['part']} {part['change']:+.2f} an answer, {_share(part)}"


def _share(part: Row) -> str:
    return f"{part['share']:.0%} [{part['share_low']:.0%}, {part['share_high']:.0%}]"


def standing(row: Row) -> str:
    """Where the policy stands on the curve of over-optimisation."""
    here, fit = f"the policy stands at {row['d']['mean']:.2f}", row["fit"]
    if fit is None:
        return (
            f"over-optimised: cannot be told, as too little of the truth along the training is known; {here}"
        )
    low, high = fit["d_star_ci"]
    peak = "does not turn" if fit["d_star"] is None else f"is highest at √KL = {fit['d_star']:.2f}"
    sure = f" [{_end(low)}, {_end(high)}]" if low is not None else ""
    where = f"{TRUTHS[row['truth']]} {peak}{sure}"
    said = {"past": "yes", "before": "no", "cannot tell": "cannot be told"}[row["stands"]]
    return f"over-optimised: {said}; along the training {where}, {here}"


def _end(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"


def held_out(policy: Row) -> str:
    """Whether a reward model that the policy was not trained on saw the score rise as well."""
    gap = Mean.from_dict(policy["held_out_gap"])
    rose, others = (policy[name]["mean"] for name in ("score_z", "held_out_z"))
    surely = "" if gap.sign else "not surely "
    return (
        f"held-out reward model: the score rose by {rose:.2f} standard deviations of its start's, by this one "
        f"{others:.2f}; {surely}apart by {gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
    )


def shown(row: Row) -> Iterator[str]:
    """The samples of what was exploited: question, answer before, answer after."""
    for one in row["named"]:
        yield f"{one['words']}, where it shows most:"
        for sample in row["samples"][one["feature"]]:
            yield f"  asked: {_line(sample['prompt'])}"
            for when in ("before", "after"):
                yield f"    {when}: {_told(sample[when])}"


def _line(messages: Sequence[Row]) -> str:
    return _short(" / ".join(message["content"] for message in messages))


def _told(answer: Row) -> str:
    gold = "" if answer["gold"] is None else f", gold {answer['gold']:.2f}"
    return f"{_short(answer['text'])}  (score {answer['score']:.2f}{gold})"


def _short(text: str) -> str:
    return textwrap.shorten(text, WIDTH, placeholder=" ...") or "nothing"
