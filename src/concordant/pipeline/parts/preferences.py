"""From the view of the votes to rows a loss can read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from concordant.data.batches import Example, Pair, Row
from concordant.data.splits import split_by_prompt
from concordant.data.template import Template
from concordant.data.types import Completion, Preference, Prompt
from concordant.errors import UserError
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from concordant.pipeline.context import Context
from concordant.pipeline.material import check_split
from concordant.seeds import derive


def examples_of(template: Template, preferences: Iterable[Preference]) -> list[Example]:
    """One example per group of pairs (a ranking, or a single pair), each of its completions one row."""
    return [example_of(template, group) for group in grouped(preferences)]


def grouped(preferences: Iterable[Preference]) -> list[list[Preference]]:
    """The pairs of each ranking, and single pairs by themselves, in the order of their first mention."""
    groups: dict[str, list[Preference]] = {}
    for number, preference in enumerate(preferences):
        groups.setdefault(preference.group or f"#{number}", []).append(preference)
    return list(groups.values())


def example_of(template: Template, preferences: Sequence[Preference]) -> Example:
    """The pairs of one group as an example: pair i of it is preference i."""
    prompt = preferences[0].prompt
    prompt_ids = tuple(template.prompt_ids(prompt.messages))
    numbers: dict[tuple[str, tuple[int, ...] | None, str], int] = {}
    rows: list[Row] = []

    def number(completion: Completion) -> int:
        key = (completion.id, completion.tokens, completion.text)
        if key not in numbers:
            numbers[key] = len(rows)
            rows.append(Row(prompt_ids, completion_ids(template, prompt, completion)))
        return numbers[key]

    pairs = tuple(
        Pair(number(p.chosen), number(p.rejected), p.p_chosen, p.weight, p.margin) for p in preferences
    )
    return Example(tuple(rows), pairs)


def completion_ids(template: Template, prompt: Prompt, completion: Completion) -> tuple[int, ...]:
    """The token ids as sampled, or those of the text where it came from elsewhere."""
    if completion.tokens is not None:
        return completion.tokens
    return tuple(template.completion_ids(prompt.messages, completion.text))


def split_preferences(context: Context) -> tuple[list[Preference], list[Preference]]:
    """Training and validation pairs of the run's votes, split by prompt; UserError unless there are some of both."""
    training, held_out = voted_preferences(context)
    if not training and not held_out:
        settings = context.recipe.feedback
        raise UserError(
            "there are no preferences to learn from",
            where=str(context.store),
            expected="at least one vote that prefers one completion"
            + (f" by feedback.dimension {settings.dimension!r}" if settings.dimension else ""),
            fix="set data.preferences, or use a world with simulated labelers",
        )
    check_split(len(training), len(held_out), "preferences")
    return training, held_out


def learnt_and_kept(
    context: Context, training: Sequence[Preference]
) -> tuple[list[Preference], list[Preference]]:
    """What the reward model learns from, and what is kept for a second one that checks it, split by prompt.

    Errors: UserError where the recipe wants a second one and there is one prompt only.
    """
    share = context.recipe.reward.held_out if context.recipe.reward else 0.0
    learnt, kept = split_by_prompt(training, share, derive(context.recipe.seed, "reward", "held out"))
    if share and not kept:
        raise UserError(
            "a second reward model has nothing to learn from: all preferences are of one prompt",
            where="reward.held_out",
            expected="preferences of two prompts at least",
            fix="give more preferences, or set reward.held_out=0",
        )
    return learnt, kept


def voted_preferences(context: Context) -> tuple[list[Preference], list[Preference]]:
    """The same, of which either side may be empty."""
    settings = context.recipe.feedback
    with Store.open(context.store) as store:
        rows = preferences(store, settings.view, settings.ties, settings.dimension)
    sides: tuple[list[Preference], list[Preference]] = ([], [])
    for row in rows:
        sides[context.material.validation(row.prompt)].append(row)
    return sides
