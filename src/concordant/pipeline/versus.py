"""Two stages of a run before people, blind: their answers to the same prompts that were kept out of training.

What the evaluate stage has sampled is used as far as it goes; for more prompts both models are asked anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from concordant.data.types import Prompt, messages_from
from concordant.errors import UserError
from concordant.feedback.reading.versus import Pair, Side
from concordant.pipeline.afterwards import MODELS, context_after, fingerprint_of_model, finished_stages
from concordant.pipeline.context import Context
from concordant.pipeline.folder import StageFolder, read_jsonl
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Reporter

PROMPTS = 100  # where nobody says how many, and nothing has been sampled


def answered_by_both(
    recipe: Recipe, run_folder: Path, stages: Sequence[str], n: int | None, reporter: Reporter
) -> tuple[tuple[Side, Side], list[Pair]]:
    """The two models in the order in which they were made, and what both say to `n` prompts, fewer where there are few.

    Without `n` they are those that the evaluate stage has asked, or PROMPTS. Errors: UserError for a stage that is
    not done or answers no prompts, and for twice the same.
    """
    if len(set(stages)) != 2 or not set(stages) <= set(MODELS):
        raise UserError(
            f"a comparison of {' and '.join(stages)}",
            where="--compare",
            expected=f"two of {', '.join(MODELS)}",
            fix="name two, such as --compare sft policy",
        )
    done = finished_stages(run_folder)
    first, second = sorted(stages, key=MODELS.index)
    sides = tuple(
        Side(name, fingerprint_of_model(recipe, run_folder, done, name)) for name in (first, second)
    )
    pairs = _sampled(done, (first, second))
    wanted = n or len(pairs) or PROMPTS
    if len(pairs) < wanted:
        known = {one.prompt.id for one in pairs}
        pairs += _sample(recipe, run_folder, done, (first, second), wanted - len(pairs), known, reporter)
    if len(pairs) < wanted:
        reporter.say(f"  there are {len(pairs)} prompts that were kept out of training, not {wanted}")
    return (sides[0], sides[1]), pairs[:wanted]


def _sampled(done: Mapping[str, StageFolder], names: tuple[str, str]) -> list[Pair]:
    """What the evaluate stage sampled of these models as they are now: of every prompt the first draw.

    The prompts are those of the split that is reported first.
    """
    evaluate = done.get("evaluate")
    if evaluate is None or any(_newer(done[name], evaluate) for name in names if name in done):
        return []
    rows = read_jsonl(evaluate.samples)
    split = rows[0]["split"] if rows else ""
    answers = {(row["model"], row["draw"]): row for row in rows if row["split"] == split}
    pairs: dict[str, Pair] = {}
    for (model, draw), row in answers.items():
        other = answers.get((names[1], draw))
        if model == names[0] and other is not None and row["prompt_id"] not in pairs:
            prompt = Prompt(messages_from(row["prompt"]), row["family"], where=f"evaluation prompts, {split}")
            ended = (row["ended"], other["ended"])
            pairs[row["prompt_id"]] = Pair(prompt, (row["text"], other["text"]), ended)
    return list(pairs.values())


def _newer(model: StageFolder, evaluate: StageFolder) -> bool:
    """Whether a model was made after it was measured: then what was sampled is of an earlier one."""
    markers = [(folder.path / "stage.json").stat().st_mtime_ns for folder in (model, evaluate)]
    return markers[0] > markers[1]


def _sample(
    recipe: Recipe,
    run_folder: Path,
    done: Mapping[str, StageFolder],
    names: tuple[str, str],
    n: int,
    known: set[str],
    reporter: Reporter,
) -> list[Pair]:
    """Ask both models about `n` more prompts."""
    from concordant.evaluation.config import EvaluateConfig
    from concordant.models.load import load_policy
    from concordant.pipeline.parts.sampling import sampler_of, with_ids

    config = recipe.evaluate or EvaluateConfig()
    context = context_after(recipe, run_folder, done, reporter, purpose="versus")
    prompts = _more(context, n, known)
    if not prompts:
        return []
    texts: list[list[tuple[str, bool]]] = []
    asked = None
    for name in names:
        model = load_policy(context.model_path(name)).to(context.machine.device)
        asked = asked or with_ids(context, prompts, model, config.completion)
        sampler = sampler_of(context, model, completion=config.completion, temperature=config.temperature)
        reporter.say(f"  sampling {len(asked)} answers of {name}")
        rollout = sampler.sample([ids for _, ids in asked], seed=context.seed(name))
        texts.append([(context.template.text(one.completion), one.ended) for one in rollout.samples])
    assert asked is not None
    return [
        Pair(prompt, (a, b), (a_ended, b_ended))
        for (prompt, _), (a, a_ended), (b, b_ended) in zip(asked, *texts, strict=True)
    ]


def _more(context: Context, n: int, known: set[str]) -> list[Prompt]:
    """`n` different prompts to measure on that are not among the `known` ones (ids), fewer where there are few.

    A world draws with replacement, so several times as many are drawn.
    """
    drawn = next(iter(context.material.evaluation(8 * (n + len(known))).values()))
    fresh = {prompt.id: prompt for prompt in drawn if prompt.id not in known}
    return list(fresh.values())[:n]
