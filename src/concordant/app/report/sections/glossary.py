"""The words of the report."""

from __future__ import annotations

from concordant.app.report.document import Facts, Section
from concordant.app.report.source import ReportInput

WORDS = (
    (
        "SFT",
        "The model after supervised fine-tuning on demonstrations. Everything later is measured from here.",
    ),
    (
        "Reward model, proxy score",
        "A model that learned from labelers which of two answers is better. Its score stands in for people, hence "
        "proxy.",
    ),
    (
        "Gold reward",
        "The truth about an answer, known only where the world is a program. Training sees it only through the eyes "
        "of labelers.",
    ),
    (
        "KL",
        "How far the policy has moved from SFT, in nats. Far from SFT the reward model has seen little and errs more.",
    ),
    (
        "Over-optimisation",
        "The proxy still rises while gold falls: the policy has found the errors of the reward model. Also called "
        "reward hacking.",
    ),
    (
        "± and interval",
        "95 % intervals. A difference is called a difference only if its interval leaves out zero.",
    ),
)


def section(_: ReportInput) -> Section:
    """What a reader may not know."""
    return Section("words", "Words", "Words", (Facts(WORDS, look="words"),))
