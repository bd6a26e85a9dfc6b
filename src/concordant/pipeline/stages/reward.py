"""The reward model: the fine-tuned model with a scalar head, fitted to the preferences."""

from __future__ import annotations

from concordant.models.load import new_reward_model, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import fit_stage, with_adapter
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.preferences import examples_of, split_preferences
from concordant.train.fit import always
from concordant.train.objectives.reward import reward_objective


def run(context: Context) -> dict[str, float]:
    """Fit on the pairs whose prompt is not kept out for validation."""
    recipe = context.recipe
    assert recipe.reward is not None
    template = context.template
    training, _ = split_preferences(context)
    examples = examples_of(template, training)
    model = new_reward_model(
        context.model_path(context.start), pad_id=template.pad_id, seed=context.seed("head")
    )
    model.to(context.machine.device)
    kept = fit_examples(context, examples, context.limit(model), what="preferences")
    model = with_adapter(context, model)
    objective = always(reward_objective(model, centering=recipe.reward.centering))
    last = fit_stage(context, model, kept, objective, recipe.reward, title="reward model")
    save_model(model, context.tokenizer, context.folder.model)
    return {"loss": last["loss"], "examples": len(kept), "pairs": sum(len(e.pairs) for e in kept)}
