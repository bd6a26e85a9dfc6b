"""The reward model: the fine-tuned model with a scalar head, fitted to the preferences."""

from __future__ import annotations

from concordant.data.types import Preference
from concordant.errors import UserError
from concordant.feedback.store import Store
from concordant.feedback.views import preferences
from concordant.models.load import new_reward_model, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import fit_stage, with_adapter
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.preferences import examples_of
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
    objective = reward_objective(model, centering=recipe.reward.centering)
    last = fit_stage(context, model, kept, objective, recipe.reward, title="reward model")
    save_model(model, context.tokenizer, context.folder.model)
    return {"loss": last["loss"], "examples": len(kept), "pairs": sum(len(e.pairs) for e in kept)}


def split_preferences(context: Context) -> tuple[list[Preference], list[Preference]]:
    """Training and validation pairs of the run's votes, split by prompt."""
    with Store.open(context.store_path) as store:
        rows = preferences(store, ties=context.recipe.feedback.ties)
    if not rows:
        raise UserError(
            "there are no preferences to learn from",
            where=str(context.store_path),
            expected="at least one vote that prefers one completion",
            fix="set data.preferences, or use a world with simulated labelers",
        )
    sides: tuple[list[Preference], list[Preference]] = ([], [])
    for row in rows:
        sides[context.material.validation(row.prompt)].append(row)
    if not sides[0] or not sides[1]:
        raise UserError(
            f"{len(sides[0])} preferences for training and {len(sides[1])} for validation",
            where="data.validation",
            expected="some of each; the split goes by prompt",
            fix="give more preferences, or change data.validation",
        )
    return sides
