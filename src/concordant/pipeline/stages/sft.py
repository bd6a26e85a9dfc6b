"""Supervised fine-tuning on demonstrations."""

from __future__ import annotations

from concordant.data.batches import Example, Row
from concordant.data.template import Template
from concordant.data.types import Demonstration, Message
from concordant.errors import UserError
from concordant.models.load import add_adapter, load_policy, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.stages.fitting import fit_stage
from concordant.train.objectives.sft import sft_objective


def run(context: Context) -> dict[str, float]:
    """Fine-tune the base model on the assistant's turns only."""
    recipe = context.recipe
    assert recipe.sft is not None
    model = load_policy(context.model_path("base")).to(context.machine.device)
    limit = context.limit(model)
    rows = [demonstration_row(context.template, demo) for demo in context.material.demonstrations()]
    examples = [Example((row,)) for row in rows if row.length <= limit]
    too_long = len(rows) - len(examples)
    if not examples:
        raise UserError(
            f"none of the {len(rows)} demonstrations fits into {limit} tokens",
            where="data.demonstrations",
            expected=f"shorter rows; the shortest has {min((r.length for r in rows), default=0)} tokens",
            fix="raise model.length, or take a model with a longer context",
        )
    if too_long:
        context.reporter.say(
            f"  {too_long} of {len(rows)} demonstrations left out: longer than {limit} tokens"
        )
    if recipe.model.adapter:
        model = add_adapter(model, recipe.model.adapter, recipe.seed)
    last = fit_stage(context, model, examples, sft_objective(model), recipe.sft, title="fine-tuning")
    save_model(model, context.tokenizer, context.folder.model)
    return {"loss": last["loss"], "rows": len(examples), "too_long": too_long}


def demonstration_row(template: Template, demo: Demonstration) -> Row:
    """Token ids of a chat: everything before the first assistant turn is prompt, only assistant turns count."""
    ids, mask = template.conversation((*demo.prompt.messages, Message("assistant", demo.completion.text)))
    first = mask.index(True)
    return Row(tuple(ids[:first]), tuple(ids[first:]), tuple(mask[first:]))
