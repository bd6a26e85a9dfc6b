"""Optimising the policy directly on preferences: DPO and its relatives, KTO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concordant.data.batches import Example
from concordant.models.load import Reference, load_policy, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import fit_stage, with_adapter
from concordant.pipeline.parts.judgements import judged_examples
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.preferences import examples_of, split_preferences
from concordant.pipeline.parts.reference import with_reference
from concordant.train.config import (
    MOST_VALIDATED,
    DirectPolicyConfig,
    DPOConfig,
    IPOConfig,
    KTOConfig,
    PairConfig,
)
from concordant.train.fit import always
from concordant.train.objectives.direct import pair_objective
from concordant.train.objectives.kto import kto_objective


def learn(context: Context, config: DirectPolicyConfig) -> dict[str, Any]:
    """Fit the policy to the preferences, or to judgements, and leave it as a transformers folder."""
    policy = load_policy(context.model_path(context.start)).to(context.machine.device)
    limit = context.limit(policy)
    if isinstance(config, KTOConfig):
        examples = judged_examples(context, limit)
        held_out: list[Example] = []
    else:
        examples, held_out = _compared(context, limit)
        _say_what_is_not_read(context, examples, config)
    if isinstance(config, DPOConfig | IPOConfig | KTOConfig):
        # Here the policy still is its reference: what it says now is what the reference says for good.
        both = with_reference(context, Reference(policy), [*examples, *held_out], config.tokens)
        examples, held_out = both[: len(examples)], both[len(examples) :]
    policy = with_adapter(context, policy)

    if isinstance(config, KTOConfig):
        objective_of = kto_objective(
            policy,
            config,
            pad_id=context.template.pad_id,
            machine=context.machine,
            say=context.reporter.say,
        )
    else:
        objective_of = always(pair_objective(policy, config))
    title = config.algorithm.upper()
    last = fit_stage(context, policy, examples, objective_of, config, title=title, held_out=held_out)
    save_model(policy, context.tokenizer, context.folder.model)
    return {**last, "examples": len(examples)}


def _compared(context: Context, limit: int) -> tuple[list[Example], list[Example]]:
    """The pairs to learn from, and those to look at now and then."""
    training, held_out = (examples_of(context.template, rows) for rows in split_preferences(context))
    kept = fit_examples(context, training, limit, what="preferences")
    return kept, fit_examples(context, held_out[:MOST_VALIDATED], limit, what="held-out preferences")


def _say_what_is_not_read(context: Context, examples: Sequence[Example], config: PairConfig) -> None:
    """Only a reward model has a use for margins."""
    pairs = [pair for example in examples for pair in example.pairs]
    strong = sum(pair.margin != 0 for pair in pairs)
    if strong:
        name = config.algorithm.upper()
        context.reporter.say(
            f"  {strong} of {len(pairs)} preferences state a margin, which {name} does not read"
        )
