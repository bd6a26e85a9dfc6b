"""Supervised fine-tuning on demonstrations."""

from __future__ import annotations

from concordant.data.batches import Example
from concordant.models.load import load_policy, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.parts.demonstrations import demonstration_row, held_out_demonstrations
from concordant.pipeline.parts.fitting import fit_stage, with_adapter
from concordant.pipeline.parts.lengths import fit_examples
from concordant.train.config import MOST_VALIDATED
from concordant.train.fit import always
from concordant.train.objectives.sft import sft_objective


def run(context: Context) -> dict[str, float]:
    """Fine-tune the base model on the assistant's turns only."""
    recipe = context.recipe
    assert recipe.sft is not None
    model = load_policy(context.model_path("base")).to(context.machine.device)
    limit = context.limit(model)
    demos = context.material.demonstrations()
    rows = [demonstration_row(context.template, demo, limit) for demo in demos]
    examples = fit_examples(context, [Example((row,)) for row in rows], limit, what="demonstrations")
    held_out = [one for _, one in held_out_demonstrations(context, model, MOST_VALIDATED)]
    model = with_adapter(context, model)
    last = fit_stage(
        context,
        model,
        examples,
        always(sft_objective(model)),
        recipe.sft,
        title="fine-tuning",
        held_out=held_out,
    )
    save_model(model, context.tokenizer, context.folder.model)
    return {"loss": last["loss"], "rows": len(examples)}
