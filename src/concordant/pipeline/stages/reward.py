"""The reward model: the fine-tuned model with a scalar head, fitted to the preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from concordant.data.types import Preference
from concordant.models.load import new_reward_model, save_model
from concordant.pipeline.context import Context, Totals
from concordant.pipeline.parts.fitting import fit_stage, with_adapter
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.preferences import examples_of, learnt_and_kept, split_preferences
from concordant.train.config import MOST_VALIDATED
from concordant.train.fit import always
from concordant.train.objectives.reward import reward_objective


def run(context: Context) -> dict[str, Any]:
    """Fit on the pairs whose prompt is not kept out for validation, or for a second model that checks the first."""
    training, validation = split_preferences(context)
    learnt, kept = learnt_and_kept(context, training)
    second = {"held_out": second_model(context, kept, validation)} if kept else {}
    return fit_reward(context, learnt, validation, title="reward model") | second


def second_model(
    context: Context, preferences: Sequence[Preference], validation: Sequence[Preference]
) -> dict[str, Any]:
    """Fit a model of its own seed in a folder of its own, which is finished or half-done like that of a stage."""
    folder = context.folder.held_out
    if folder.finished() is None:
        fingerprint = context.folder.begun() or ""
        folder.begin(fingerprint)
        inside = replace(context, stage=f"{context.stage}, held out", folder=folder, totals=Totals())
        facts = fit_reward(inside, preferences, validation, title="held-out reward")
        folder.finish(fingerprint, {"totals": inside.totals.facts(), "facts": facts})
    found = folder.finished() or {}
    for activity, seconds in found["totals"]["seconds"].items():
        context.totals.add(activity, seconds, found["totals"]["tokens"].get(activity, 0))
    return dict(found["facts"])


def fit_reward(
    context: Context, preferences: Sequence[Preference], validation: Sequence[Preference], *, title: str
) -> dict[str, Any]:
    """Fit a reward model to these pairs and leave it in the folder of the context; `validation` is looked at alone."""
    recipe = context.recipe
    assert recipe.reward is not None
    template = context.template
    model = new_reward_model(
        context.model_path(context.start), pad_id=template.pad_id, seed=context.seed("head")
    )
    model.to(context.machine.device)
    limit = context.limit(model)
    fitted = fit_examples(context, examples_of(template, preferences), limit, what="preferences")
    kept_out = examples_of(template, validation)[:MOST_VALIDATED]
    looked_at = fit_examples(context, kept_out, limit, what="held-out preferences")
    model = with_adapter(context, model)
    objective = always(reward_objective(model, centering=recipe.reward.centering))
    last = fit_stage(context, model, fitted, objective, recipe.reward, title=title, held_out=looked_at)
    save_model(model, context.tokenizer, context.folder.model)
    return {"loss": last["loss"], "examples": len(fitted), "pairs": sum(len(e.pairs) for e in fitted)}
