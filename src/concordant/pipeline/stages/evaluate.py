"""Measuring: every model answers the same prompts, the reward model judges held-out pairs, and n are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from concordant.data.batches import micro_batches
from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer, describe, gold_gap, gold_mean, kl_to_reference
from concordant.evaluation.best_of_n import best_of_n, fit_gold
from concordant.evaluation.config import EvaluateConfig
from concordant.evaluation.reward_metrics import gold_accuracy, length_correlation, pair_metrics
from concordant.evaluation.text_metrics import unique_of
from concordant.feedback.store import Store
from concordant.feedback.summary import summarise
from concordant.models.forward import sequence_scores
from concordant.models.load import load_policy, load_reward_model
from concordant.pipeline.context import Context
from concordant.pipeline.stages.lengths import fit_examples
from concordant.pipeline.stages.preferences import examples_of
from concordant.pipeline.stages.reward import split_preferences
from concordant.pipeline.stages.sampling import sampler_of, with_ids
from concordant.rollout.rollout import Rollout, Sample
from concordant.train.rewards import RewardModel

SAMPLES = 16  # completions per prompt for diversity
SHOWN_PER_FAMILY = 2

Asked = list[tuple[Prompt, tuple[int, ...]]]


@dataclass(frozen=True)
class Study:
    """What the measurements share."""

    context: Context
    config: EvaluateConfig
    reference: Any
    reward: RewardModel | None
    splits: dict[str, Asked]

    @property
    def main(self) -> Asked:
        """The prompts of the split reported first."""
        return next(iter(self.splits.values()))

    def sample(self, model: Any, asked: Asked, samples: int, what: str) -> Rollout:
        sampler = sampler_of(
            self.context, model, completion=self.config.completion, temperature=self.config.temperature
        )
        with self.context.timed("sample") as timer:
            rollout = sampler.sample([ids for _, ids in asked], samples=samples, seed=self.context.seed(what))
            timer.tokens = rollout.tokens
        self.context.stop.check()
        return rollout

    def answers(self, name: str, split: str, asked: Asked, rollout: Rollout) -> list[Answer]:
        """Everything that is known about the completions of a rollout."""
        prompts = [prompt for prompt, _ in asked]
        with self.context.timed("score") as timer:
            timer.tokens = rollout.read
            kl = kl_to_reference(
                self.reference,
                rollout,
                pad_id=self.context.template.pad_id,
                tokens=self.config.tokens,
                machine=self.context.machine,
            )
            scores = self.reward.score(prompts, rollout).tolist() if self.reward else [None] * len(kl)
        return [
            self._answer(name, split, prompts[sample.prompt], sample, kl_i, score)
            for sample, kl_i, score in zip(rollout.samples, kl, scores, strict=True)
        ]

    def _answer(
        self, name: str, split: str, prompt: Prompt, sample: Sample, kl: float, score: float | None
    ) -> Answer:
        text = self.context.template.text(sample.completion)
        gold = self.context.material.gold(prompt, text)
        return Answer(
            name, split, sample.prompt, prompt, text, len(sample.completion), sample.ended, kl, score, gold
        )


def run(context: Context) -> dict[str, Any]:
    """Measure all models of the run; the figures go into `results.json`, the answers into `samples.jsonl`."""
    config = context.recipe.evaluate
    assert config is not None
    device = context.machine.device
    reference = load_policy(context.model_path(context.start)).to(device)
    reward = None
    if "reward" in context.inputs:
        model = load_reward_model(str(context.inputs["reward"].model)).to(device)
        reward = RewardModel(model, context.template.pad_id, config.tokens, context.machine)
    splits = {
        split: with_ids(context, prompts, reference, config.completion, what="evaluation prompts")
        for split, prompts in context.material.evaluation(config.prompts).items()
    }
    study = Study(context, config, reference, reward, splits)
    results: dict[str, Any] = {"models": {}}
    main: dict[str, list[Answer]] = {}
    repeated: dict[str, list[list[Answer]]] = {}
    context.folder.samples.unlink(missing_ok=True)
    names = [name for name in ("base", "sft", "policy") if name == "base" or name in context.inputs]
    with context.reporter.activity("evaluating", len(names) + 2, "parts") as progress:
        for done, name in enumerate(names, start=1):
            model = reference if name == context.start else load_policy(context.model_path(name)).to(device)
            results["models"][name], main[name], repeated[name] = measure_model(study, name, model)
            progress.to(done, name)
        if context.material.world is not None:
            results["models"]["ideal"] = measure_ideal(study)
        results["gaps"] = gaps(main)
        if reward is not None:
            results["reward_model"] = measure_reward(study, repeated)
            progress.to(len(names) + 1, "reward model")
            if config.best_of_prompts:
                results |= measure_best_of_n(study)
    if context.store_path.exists():
        with Store.open(context.store_path) as store:
            results["feedback"] = summarise(store)
    results["samples"] = side_by_side(main)
    return results


def measure_model(
    study: Study, name: str, model: Any
) -> tuple[dict[str, Any], list[Answer], list[list[Answer]]]:
    """Figures of one model, its answers to the main split, and 16 answers to each of a few prompts."""
    by_split = {
        split: study.answers(name, split, asked, study.sample(model, asked, 1, split))
        for split, asked in study.splits.items()
    }
    main = next(iter(by_split.values()))
    figures = describe(main)
    if main[0].gold is not None:
        figures["gold_by_split"] = {split: gold_mean(rows).as_dict() for split, rows in by_split.items()}
    few = spread(study.main, study.config.diversity_prompts)
    rollout = study.sample(model, few, SAMPLES, "repeated")
    many = study.answers(name, "repeated", few, rollout)
    groups = [many[i : i + SAMPLES] for i in range(0, len(many), SAMPLES)]
    unique = unique_of([a.text for a in group] for group in groups).as_dict()
    figures["distinct"] |= {"unique_of_16": unique["mean"], "unique_of_16_se": unique["se"]}
    study.context.folder.append(
        study.context.folder.samples, (a.as_row() for rows in (*by_split.values(), many) for a in rows)
    )
    return figures, main, groups


def spread(asked: Asked, n: int) -> Asked:
    """`n` prompts, different ones as far as there are any, in turn from all families."""
    families: dict[str, dict[str, tuple[Prompt, tuple[int, ...]]]] = {}
    for prompt, ids in asked:
        families.setdefault(prompt.family, {}).setdefault(prompt.id, (prompt, ids))
    columns = [list(members.values()) for members in families.values()]
    longest = max(map(len, columns))
    return [column[i] for i in range(longest) for column in columns if i < len(column)][:n]


def measure_ideal(study: Study) -> dict[str, Any]:
    """The best answers the world knows, as if by a policy that always gives them: its KL is -log reference."""
    world = study.context.material.world
    assert world is not None
    template = study.context.template
    by_split = {}
    for split, asked in study.splits.items():
        samples = []
        for number, (prompt, ids) in enumerate(asked):
            completion = tuple(template.completion_ids(prompt.messages, world.ideal(prompt)))
            samples.append(Sample(number, ids, completion, (0.0,) * len(completion), ended=True))
        rollout = Rollout(tuple(samples), study.config.temperature)
        by_split[split] = study.answers("ideal", split, asked, rollout)
    figures = describe(next(iter(by_split.values())))
    figures["gold_by_split"] = {split: gold_mean(rows).as_dict() for split, rows in by_split.items()}
    figures["distinct"] |= {"unique_of_16": 1 / SAMPLES, "unique_of_16_se": 0.0}
    return figures


def gaps(main: dict[str, list[Answer]]) -> dict[str, Any]:
    """Differences in gold between consecutive models, paired by draw."""
    names = list(main)
    return {
        f"{after}_minus_{before}": gold_gap(main[after], main[before]).as_dict()
        for before, after in pairwise(names)
        if main[after][0].gold is not None
    }


@torch.inference_mode()
def measure_reward(study: Study, groups: dict[str, list[list[Answer]]]) -> dict[str, Any]:
    """The reward model on held-out votes, and against gold on pairs of the reference and of the policy."""
    assert study.reward is not None
    context = study.context
    _, held_out = split_preferences(context)
    examples = fit_examples(
        context,
        examples_of(context.template, held_out),
        context.limit(study.reward.model),
        what="held-out preferences",
    )
    deltas: list[float] = []
    p_chosen: list[float] = []
    weights: list[float] = []
    for batch in micro_batches(examples, study.config.tokens, context.template.pad_id):
        moved = batch.to(context.machine.device)
        with context.machine.autocast():
            scores = sequence_scores(study.reward.model, moved.ids_BT, moved.attention_BT, moved.last_B)
        deltas += (scores[moved.chosen_M] - scores[moved.rejected_M]).tolist()
        p_chosen += batch.p_chosen_M.tolist()
        weights += batch.weight_M.tolist()
    figures = pair_metrics(deltas, p_chosen, weights)
    start = groups[context.start]
    figures["length_correlation"] = length_correlation(
        [[(a.length, a.score or 0.0) for a in group] for group in start]
    )
    if context.material.world is not None:
        for key, name in (("gold_accuracy", context.start), ("on_policy_accuracy", "policy")):
            if name in groups:
                rate = gold_accuracy(*zip(*_disjoint_pairs(groups[name]), strict=True))
                figures |= {key: rate.rate, f"{key}_ci": [rate.low, rate.high], f"{key}_n": rate.n}
    return figures


def _disjoint_pairs(groups: Sequence[Sequence[Answer]]) -> Iterator[tuple[float, float]]:
    """Score and gold differences of pairs that share no answer, so that they are nearly independent."""
    for group in groups:
        for a, b in zip(group[::2], group[1::2], strict=True):
            assert a.gold is not None
            assert b.gold is not None
            yield (a.score or 0.0) - (b.score or 0.0), a.gold.total - b.gold.total


def measure_best_of_n(study: Study) -> dict[str, Any]:
    """What happens when the best of n by the reward model is taken, without any training."""
    few, n = spread(study.main, study.config.best_of_prompts), study.config.best_of
    rollout = study.sample(study.reference, few, n, "best of n")
    assert study.reward is not None
    prompts = [prompt for prompt, _ in few]
    with study.context.timed("score") as timer:
        timer.tokens = rollout.read
        scores = study.reward.score(prompts, rollout).view(len(few), n).tolist()
    golds = None
    if study.context.material.world is not None:
        world, template = study.context.material.world, study.context.template
        flat = [world.gold(prompts[s.prompt], template.text(s.completion)).total for s in rollout.samples]
        golds = [flat[i * n : (i + 1) * n] for i in range(len(few))]
    rows = best_of_n(scores, golds)
    fit = fit_gold(rows)
    found: dict[str, Any] = {"best_of_n": rows}
    if fit is not None:
        found["best_of_n_fit"] = {"alpha": fit.alpha, "beta": fit.beta, "d_star": fit.d_star}
    return found


def side_by_side(main: dict[str, list[Answer]]) -> list[dict[str, Any]]:
    """A few prompts of each family with the answers of all models, for people."""
    rows = zip(*main.values(), strict=True)
    chosen: dict[str, list[dict[str, Any]]] = {}
    for answers in rows:
        prompt = answers[0].prompt
        seen = chosen.setdefault(prompt.family, [])
        limit = SHOWN_PER_FAMILY if prompt.family else 12
        if len(seen) < limit and all(row["id"] != prompt.id for row in seen):
            seen.append(
                {
                    "id": prompt.id,
                    "family": prompt.family,
                    "prompt": [message.as_dict() for message in prompt.messages],
                    "answers": {
                        a.model: {
                            "text": a.text,
                            "gold": None if a.gold is None else a.gold.total,
                            "score": a.score,
                        }
                        for a in answers
                    },
                }
            )
    return [row for rows_of_family in chosen.values() for row in rows_of_family]
