"""From completions judged one by one to rows that KTO can read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from concordant.data.batches import Example, Row
from concordant.data.types import Judgement
from concordant.errors import UserError
from concordant.feedback.reading.views import judgements
from concordant.feedback.store import Store
from concordant.pipeline.context import Context
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.preferences import completion_ids


def judged_examples(context: Context, limit: int) -> list[Example]:
    """One example per judgement that is not kept out for validation, each with a mismatched completion."""
    with Store.open(context.store) as store:
        judged = judgements(store, dimension=context.recipe.feedback.dimension)
        rows = [row for row in judged if not context.material.validation(row.prompt)]
    check_classes(rows, str(context.store))
    # Shuffled, as z is to rest on good and bad answers alike: votes name the better one first.
    random.Random(context.seed("mismatches")).shuffle(rows)
    template = context.template
    answers = [completion_ids(template, row.prompt, row.completion) for row in rows]
    prompts = [tuple(template.prompt_ids(row.prompt.messages)) for row in rows]
    others = mismatches([row.prompt.id for row in rows], str(context.store))
    # Own and other completion stand side by side until both fit: they share the prompt as it is trimmed.
    both = [
        Example(
            (Row(prompt, answer), Row(prompt, answers[other])), desirable=row.desirable, weight=row.weight
        )
        for row, prompt, answer, other in zip(rows, prompts, answers, others, strict=True)
    ]
    kept = fit_examples(context, both, limit, what="judged completions")
    return [replace(example, rows=example.rows[:1], mismatched=example.rows[1]) for example in kept]


def check_classes(rows: Sequence[Judgement], where: str) -> None:
    """Refuse judgements that are all good or all bad: the loss needs both."""
    good = sum(row.desirable for row in rows)
    if not 0 < good < len(rows):
        raise UserError(
            f"{good} desirable and {len(rows) - good} undesirable completions to learn from",
            where=where,
            expected="some of each: KTO sets them against each other",
            fix="add the other kind, or fine-tune on the good ones with [sft]",
        )


def mismatches(prompt_ids: Sequence[str], where: str) -> list[int]:
    """For each row the next one (round the end) that answers another prompt; the caller says `where` they stand."""
    if len(set(prompt_ids)) < 2:
        raise UserError(
            "all judged completions answer one prompt",
            where=where,
            expected="at least two prompts: KTO measures the policy's drift on answers to other prompts",
            fix="add completions of another prompt",
        )
    n = len(prompt_ids)
    found = [0] * n
    # Backwards over two rounds: each row takes the next one, or what the next one of its prompt found. The rows
    # at the end whose prompt goes on at the start find theirs in the second round.
    for place in range(2 * n - 1, -1, -1):
        i, j = place % n, (place + 1) % n
        found[i] = j if prompt_ids[i] != prompt_ids[j] else found[j]
    return found
