"""Rows that do not fit into the context: trimmed, left out or refused, and always counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from concordant.data.batches import Example
from concordant.data.template import Overlong, fit
from concordant.errors import UserError
from concordant.pipeline.context import Context

T = TypeVar("T")


def fit_examples(context: Context, examples: Sequence[Example], limit: int, *, what: str) -> list[Example]:
    """The examples that fit into `limit` tokens, prompts trimmed on the left where the recipe allows it."""

    lengths = [longest(example) for example in examples]
    return fit_all(
        context, examples, lengths, limit, lambda one, how: shortened(context, one, limit, how), what=what
    )


def longest(example: Example) -> int:
    """Tokens of the longest row of an example."""
    return max(row.length for row in example.rows)


def shortened(context: Context, example: Example, limit: int, overlong: Overlong) -> Example | None:
    """The example with its prompt trimmed to `limit` tokens, None where it is to be left out instead."""
    prompts = {row.prompt for row in example.rows}
    assert len(prompts) == 1, "the rows of an example share their prompt"
    prompt = prompts.pop()
    head = lead(context, prompt)
    shorter = fit(prompt, [row.completion for row in example.rows], limit, overlong, head=head)
    if shorter is None:
        return None
    return replace(example, rows=tuple(replace(row, prompt=shorter) for row in example.rows))


def lead(context: Context, prompt: Sequence[int]) -> int:
    """How many tokens at the left of a prompt are kept when it is trimmed: its BOS, where it has one."""
    return int(prompt[0] == context.tokenizer.bos_token_id)


def no_room(n: int, what: str, limit: int, shortest: int, longest: int, *, every: bool = False) -> UserError:
    """The error for `n` rows of which none fits, or of which `every` one has to and some do not."""
    return UserError(
        f"{'not all' if every else 'none'} of the {n} {what} fit into {limit} tokens",
        where=f"the shortest has {shortest} tokens, the longest {longest}",
        expected="rows that leave room for an answer",
        fix="shorten them, raise model.length, or take a model with a longer context",
    )


def fit_all(
    context: Context,
    rows: Sequence[T],
    lengths: Sequence[int],
    limit: int,
    shorten: Callable[[T, Overlong], T | None],
    *,
    what: str,
) -> list[T]:
    """Apply the recipe's policy for overlong rows and say how many there were."""
    policy = context.recipe.data.overlong
    overlong = [i for i, length in enumerate(lengths) if length > limit]
    if overlong and policy == "error":
        raise UserError(
            f"{len(overlong)} of {len(rows)} {what} are longer than {limit} tokens",
            where=f"the longest has {max(lengths)}",
            expected="rows that fit, as data.overlong = 'error' asks",
            fix="shorten them, raise model.length, or set data.overlong = 'trim_prompt_left' or 'drop'",
        )
    kept: list[T] = []
    dropped = 0
    for row, length in zip(rows, lengths, strict=True):
        shorter = row if length <= limit else shorten(row, policy)
        dropped += shorter is None
        kept += [] if shorter is None else [shorter]
    if not kept:
        shortest, longest = min(lengths, default=0), max(lengths, default=0)
        raise no_room(len(rows), what, limit, shortest, longest)
    if overlong:
        trimmed = len(overlong) - dropped
        context.reporter.say(
            f"  {len(overlong)} of {len(rows)} {what} are longer than {limit} tokens: "
            f"{trimmed} with the oldest part of the prompt cut off, {dropped} left out"
        )
    return kept
