"""Measuring: every model answers the same prompts, the reward model judges held-out pairs, and n are compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer, describe, differences, gold_gaps, gold_mean, kl_to_reference
from concordant.evaluation.best_of_n import best_of_n, fit_gold
from concordant.evaluation.changes import changes
from concordant.evaluation.config import SAMPLES, EvaluateConfig
from concordant.evaluation.judged import Judged, judge
from concordant.evaluation.labelers import against_gold
from concordant.evaluation.leaderboard import standings
from concordant.evaluation.reward_metrics import gold_accuracy, length_correlation, pair_metrics
from concordant.evaluation.showing import side_by_side, spread
from concordant.evaluation.text_metrics import unique_of
from concordant.evaluation.win_rates import duels_of
from concordant.feedback.answering.simulated import simulated_labelers
from concordant.feedback.reading.summary import summarise
from concordant.feedback.store import Store
from concordant.models.load import load_policy
from concordant.models.memory import Budget
from concordant.pipeline.context import Context
from concordant.pipeline.parts.judging import golds_of, reward_model_of
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.preferences import examples_of, split_preferences
from concordant.pipeline.parts.sampling import kept_sampler_of, with_ids
from concordant.rollout.rollout import Asked, Rollout, Sample
from concordant.train.rewards import RewardModel


@dataclass(frozen=True)
class Study:
    """What the measurements share."""

    context: Context
    config: EvaluateConfig
    reference: Any
    reward: RewardModel | None
    tokens: Budget  # of a pass through the reference
    splits: dict[str, list[Asked]]

    @property
    def main(self) -> list[Asked]:
        """The prompts of the split reported first."""
        return next(iter(self.splits.values()))

    def few(self, n: int) -> list[Asked]:
        """`n` prompts of this split to look at closely."""
        return [self.main[place] for place in spread([prompt for prompt, _ in self.main], n)]

    def sample(self, model: Any, asked: list[Asked], samples: int, what: str) -> Rollout:
        sampler = kept_sampler_of(
            self.context,
            model,
            completion=self.config.completion,
            temperature=self.config.temperature,
            most=None,
        )
        with self.context.timed("sample") as timer:
            rollout = sampler.sample([ids for _, ids in asked], samples=samples, seed=self.context.seed(what))
            timer.tokens = rollout.tokens
        self.context.stop.check()
        return rollout

    def answers(self, name: str, split: str, asked: list[Asked], rollout: Rollout) -> list[Answer]:
        """Everything that is known about the completions of a rollout."""
        prompts = [prompt for prompt, _ in asked]
        with self.context.timed("score") as timer:
            timer.tokens = rollout.read
            kl = kl_to_reference(
                self.reference,
                rollout,
                pad_id=self.context.template.pad_id,
                tokens=self.tokens,
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
    reward = reward_model_of(context, config.tokens) if "reward" in context.inputs else None
    splits = {
        split: with_ids(context, prompts, reference, config.completion, what="evaluation prompts")
        for split, prompts in context.material.evaluation(config.prompts).items()
    }
    tokens = Budget(config.tokens, "tokens", context.reporter.say)
    study = Study(context, config, reference, reward, tokens, splits)
    results: dict[str, Any] = {"models": {}}
    main: dict[str, list[Answer]] = {}
    repeated: dict[str, list[list[Answer]]] = {}
    for log in (context.folder.samples, context.folder.duels):
        log.unlink(missing_ok=True)
    names = [name for name in ("base", "sft", "policy") if name == "base" or name in context.inputs]
    with context.reporter.activity("evaluating", len(names) + 2, "parts") as progress:
        for done, name in enumerate(names, start=1):
            model = reference if name == context.start else load_policy(context.model_path(name)).to(device)
            results["models"][name], main[name], repeated[name] = measure_model(study, name, model)
            progress.to(done, name)
        if context.material.world is not None:
            results["models"]["ideal"] = measure_ideal(study)
        results["gaps"] = {name: mean.as_dict() for name, mean in gold_gaps(main).items()}
        results["changes"] = changes(main, repeated)
        results |= measure_duels(study, main)
        if reward is not None:
            results["reward_model"] = measure_reward(study, repeated)
            progress.to(len(names) + 1, "reward model")
            if config.best_of_prompts:
                results |= measure_best_of_n(study)
    if "feedback" in context.inputs or Path(context.store).exists():
        with Store.open(context.store) as store:
            results["feedback"] = summarise(store)
            world = context.material.world
            if world is not None:
                rates = against_gold(store, lambda prompt, text: world.gold(prompt, text).total)
                results["feedback"]["against_gold"] = {name: asdict(one) for name, one in rates.items()}
    results["samples"] = side_by_side(main)
    results["gate_before"] = context.recipe.gate.digest() if context.recipe.gate else None
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
    few = study.few(study.config.diversity_prompts)
    rollout = study.sample(model, few, SAMPLES, "repeated")
    many = study.answers(name, "repeated", few, rollout)
    groups = [many[i : i + SAMPLES] for i in range(0, len(many), SAMPLES)]
    unique = unique_of([a.text for a in group] for group in groups).as_dict()
    figures["distinct"] |= {"unique_of_16": unique["mean"], "unique_of_16_se": unique["se"]}
    study.context.folder.append(
        study.context.folder.samples, (a.as_row() for rows in (*by_split.values(), many) for a in rows)
    )
    return figures, main, groups


def measure_duels(study: Study, main: dict[str, list[Answer]]) -> dict[str, Any]:
    """Who beats whom: by gold, by the score, and by labelers who see each pair in both orders."""
    duels = duels_of({name: [answer.as_row() for answer in answers] for name, answers in main.items()})
    judged = judge_duels(study, main)
    if judged:
        duels["labelers"] = [one.duels for one in judged]
        study.context.folder.append(study.context.folder.duels, (row for one in judged for row in one.rows))
    found = standings(duels, study.context.start)
    if judged:
        found["order_shown"] = {f"{one.duels.second} or {one.duels.first}": one.position() for one in judged}
    return found


def judge_duels(study: Study, main: dict[str, list[Answer]]) -> list[Judged]:
    """What the labelers of the recipe's evaluation say of every two models; nothing where it names none."""
    world, config = study.context.material.world, study.config
    if world is None or not config.labelers:
        return []
    seed = study.context.seed("labelers")
    labelers = simulated_labelers(config.labelers, world.gold, seed=seed)
    with study.context.timed("label"):
        return [
            judge("labelers", labelers, main[first][: config.compared], main[second][: config.compared])
            for first, second in combinations(main, 2)
        ]


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


def measure_reward(study: Study, groups: dict[str, list[list[Answer]]]) -> dict[str, Any]:
    """The reward model on held-out votes, and against gold on pairs of the reference and of the policy."""
    context = study.context
    figures = pair_metrics(*judged_pairs(study))
    start = groups[context.start]
    figures["length_correlation"] = length_correlation(
        [[(a.length, a.score or 0.0) for a in group] for group in start]
    )
    if context.material.world is not None:
        for key, name in (("gold_accuracy", context.start), ("on_policy_accuracy", "policy")):
            if name in groups:
                rate = gold_accuracy(*zip(*differences(groups[name]), strict=True))
                figures |= {key: rate.rate, f"{key}_ci": [rate.low, rate.high], f"{key}_n": rate.n}
    return figures


@torch.inference_mode()
def judged_pairs(study: Study) -> tuple[list[float], list[float], list[float]]:
    """Score differences of the held-out pairs, how probably the first is the better one, and weights."""
    assert study.reward is not None
    context, model = study.context, study.reward.model
    _, held_out = split_preferences(context)
    examples = examples_of(context.template, held_out)
    examples = fit_examples(context, examples, context.limit(model), what="held-out preferences")
    scores = study.reward.score_rows([row for example in examples for row in example.rows]).tolist()
    deltas: list[float] = []
    first = 0
    for example in examples:
        deltas += [scores[first + pair.chosen] - scores[first + pair.rejected] for pair in example.pairs]
        first += len(example.rows)
    pairs = [pair for example in examples for pair in example.pairs]
    return deltas, [pair.p_chosen for pair in pairs], [pair.weight for pair in pairs]


def measure_best_of_n(study: Study) -> dict[str, Any]:
    """What happens when the best of n by the reward model is taken, without any training."""
    few, n = study.few(study.config.best_of_prompts), study.config.best_of
    rollout = study.sample(study.reference, few, n, "best of n")
    assert study.reward is not None
    prompts = [prompt for prompt, _ in few]
    with study.context.timed("score") as timer:
        timer.tokens = rollout.read
        scores = study.reward.score(prompts, rollout).view(len(few), n).tolist()
    golds = golds_of(study.context, prompts, rollout)
    rows = best_of_n(scores, [golds[i : i + n] for i in range(0, len(golds), n)] if golds else None)
    fit = fit_gold(rows)
    found: dict[str, Any] = {"best_of_n": rows}
    if fit is not None:
        found["best_of_n_fit"] = {"alpha": fit.alpha, "beta": fit.beta, "d_star": fit.d_star}
    return found
