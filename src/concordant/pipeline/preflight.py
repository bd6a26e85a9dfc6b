"""What would stop a run after hours is said before its first stage: recipes, files and lengths that do not fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from concordant.data.config import Source
from concordant.data.sources import is_hub_name, read_rows
from concordant.data.types import Demonstration, Prompt, check_strength
from concordant.errors import UserError, located
from concordant.evaluation.config import EvaluateConfig
from concordant.evaluation.figures import TASK, WIN_RATE, compared_figures
from concordant.models.config import check_device_name
from concordant.pipeline.context import path_of
from concordant.pipeline.material import Material, check_split
from concordant.pipeline.recipe import GOLD, JUDGE, PEOPLE, Recipe
from concordant.pipeline.trackers.tracker import check_installed
from concordant.train.config import (
    EnsemblePartConfig,
    FunctionPartConfig,
    KTOConfig,
    LabelersPartConfig,
    ModelPartConfig,
    OnPolicyConfig,
    PPOConfig,
    RoundsConfig,
    ScoredConfig,
    ServerPartConfig,
)
from concordant.worlds.config import WorldConfig
from concordant.worlds.names import nearest


def check_recipe(recipe: Recipe) -> None:
    """Refuse recipes whose parts do not fit together, and files that are not there. Reads nothing."""
    if recipe.feedback.url and urlsplit(recipe.feedback.url).password:
        raise UserError(
            "a password stands in the recipe, and would be kept in the run's directory",
            where="feedback.url",
            expected="an address without one",
            fix="put it into ~/.pgpass or the variable PGPASSWORD, which PostgreSQL reads by itself",
        )
    if recipe.feedback.rubric:
        from concordant.feedback.asking.rubric import read_rubric

        with located("feedback.rubric"):
            read_rubric(Path(recipe.data_root) / recipe.feedback.rubric)
    _check_model(recipe)
    _check_data(recipe)
    _check_policy(recipe)
    _check_gate(recipe)
    _check_monitor(recipe)
    if not recipe.model.path:
        _check_room(recipe, min(recipe.model.length or 2**31, recipe.model.embedded.context))
    check_device_name(recipe.machine.device)
    check_installed(recipe.track.to, where="track.to")


def _check_monitor(recipe: Recipe) -> None:
    """Refuse alarms that nobody could raise, and labelers that nobody knows."""
    policy, by, action = recipe.policy, recipe.probed_by, recipe.monitor.on_alarm
    if not isinstance(policy, OnPolicyConfig | RoundsConfig):
        return
    if by not in ("", JUDGE, PEOPLE) and recipe.world is None:
        raise UserError(
            f"no world tells {by!r} what is true",
            where="monitor.probed_by",
            expected="[world], a judge or people",
            fix='set monitor.judge = "folder or hub name", or monitor.probed_by = "people"',
        )
    if by == JUDGE and not recipe.monitor.judge:
        raise UserError(
            "no model is named that judges",
            where="monitor.judge",
            expected="a folder or hub name",
            fix='set monitor.judge = "folder or hub name"',
        )
    if action in ("pause", "rollback") and not by:
        raise UserError(
            f"nobody compares answers, so no alarm would ever be one to {action} at",
            where="monitor.on_alarm",
            expected="somebody who answers probes",
            fix='set monitor.judge or monitor.probed_by, and monitor.probes; or monitor.on_alarm = "brake"',
        )
    if action == "rollback" and by == PEOPLE:
        raise UserError(
            "people answer later, when the step that they liked best may be gone",
            where="monitor.on_alarm",
            expected="labelers that answer at once",
            fix='set monitor.on_alarm = "pause"',
        )
    if action == "rollback" and policy.checkpoint.best:
        raise UserError(
            f"two say which checkpoint is to stay: {policy.checkpoint.best!r} and whoever answers probes",
            where="policy.checkpoint.best",
            expected="one of them",
            fix='leave it empty, or set monitor.on_alarm = "brake"',
        )


def _check_model(recipe: Recipe) -> None:
    if not recipe.model.path and (recipe.pretrain is None or recipe.world is None):
        raise UserError(
            "this recipe has no model to start from",
            where="model.path",
            expected="model.path; or [world] and [pretrain], for the embedded model",
            fix='set model.path = "folder or hub name"',
        )
    if recipe.model.path and recipe.pretrain is not None:
        raise UserError(
            "both a model and [pretrain] are given",
            where="model.path",
            expected="one of them: [pretrain] makes the embedded model",
            fix="remove [pretrain] to start from your model",
        )


def _check_data(recipe: Recipe) -> None:
    if recipe.world is None:
        _check_files(recipe)
    else:
        _check_world(recipe, recipe.world)


def _check_world(recipe: Recipe, settings: WorldConfig) -> None:
    from concordant.worlds.world import make_world

    named = [f"data.{kind}" for kind, sources in recipe.data.sources.items() if sources]
    named += ["evaluate.text"] if recipe.evaluate is not None and recipe.evaluate.text else []
    if named:
        raise UserError(
            f"both a world and {named[0]} are given",
            where=named[0],
            expected="one of them",
            fix="remove [world] to train on your files",
        )
    with located("world.name"):
        world = make_world(settings.name, recipe.seed)
    if recipe.reads_votes or (isinstance(recipe.policy, ScoredConfig) and recipe.policy.asks_labelers):
        from concordant.feedback.answering.simulated import simulated_labelers

        with located("feedback.labelers"):
            simulated_labelers(recipe.feedback.labelers, world.gold)
    if recipe.evaluate is not None and recipe.evaluate.labelers:
        from concordant.feedback.answering.simulated import simulated_labelers

        with located("evaluate.labelers"):
            simulated_labelers(recipe.evaluate.labelers, world.gold)
    if recipe.probed_by not in ("", GOLD, JUDGE, PEOPLE):
        from concordant.feedback.answering.simulated import simulated_labelers

        with located("monitor.probed_by"):
            simulated_labelers(recipe.probed_by, world.gold)


def _check_files(recipe: Recipe) -> None:
    data = recipe.data
    if recipe.sft is not None and not data.demonstrations:
        raise UserError(
            "there is nothing to fine-tune on",
            where="data.demonstrations",
            expected="a file, folder or hub name, or a world",
            fix='set data.demonstrations = "rows.jsonl", or leave [sft] out',
        )
    judged = isinstance(recipe.policy, KTOConfig) and recipe.reward is None
    if judged and not data.judgements and not data.preferences:
        raise UserError(
            "nobody says which answers are good",
            where="data.judgements",
            expected="a file, folder or hub name; data.preferences; or a world with simulated labelers",
            fix='set data.judgements = "judged.jsonl"',
        )
    people = recipe.feedback.source == "human" and bool(data.prompts)
    if recipe.reads_votes and not judged and not data.preferences and not people:
        raise UserError(
            "nobody says which answers are better",
            where="data.preferences",
            expected="a file, folder or hub name; a world with simulated labelers; or people and prompts for them",
            fix='set data.preferences = "pairs.jsonl", or data.prompts and feedback.source = "human"',
        )
    if recipe.evaluate is not None and recipe.evaluate.labelers:
        raise UserError(
            f"no world tells the labelers {recipe.evaluate.labelers!r} what is true",
            where="evaluate.labelers",
            expected="[world], or no simulated labelers",
            fix="leave it out, and let people compare: concordant label RUN --compare sft policy",
        )
    if recipe.evaluate is not None and not (data.prompts or data.preferences or data.judgements):
        raise UserError(
            "there are no prompts to measure on",
            where="data.prompts",
            expected="a file, folder or hub name; or the prompts of data.preferences or data.judgements",
            fix='set data.prompts = "prompts.jsonl"',
        )
    files = {f"data.{kind}": sources for kind, sources in data.sources.items()}
    files["evaluate.text"] = recipe.evaluate.text if recipe.evaluate is not None else ()
    for key, sources in files.items():
        for source in sources:
            with located(key):
                _check_there(source, Path(recipe.data_root))


def _check_there(source: Source, root: Path) -> None:
    """Local files have to exist; the hub is not asked."""
    if not (root / source.path).expanduser().exists() and not is_hub_name(source.path, root):
        try:
            read_rows(source.path, root=root)  # says what is there instead
        except UserError as error:
            fix = f"{error.fix.rstrip('?')}? Relative paths start at data_root = {str(root)!r}"
            raise UserError(error.what, where=error.where, expected=error.expected, fix=fix) from error


def _check_policy(recipe: Recipe) -> None:
    policy = recipe.policy
    if policy is None:
        return
    if not isinstance(policy, ScoredConfig):
        return
    for part in policy.rewards.values():
        if isinstance(part, FunctionPartConfig):
            from concordant.train.reward_sources import function_named

            function_named(part.function)
    if policy.asks_labelers and recipe.world is None:
        raise UserError(
            "nobody is there to rank completions while the policy is trained",
            where="policy.rewards",
            expected="a world with simulated labelers",
            fix="add [world], or take another source of scores",
        )
    if policy.asks_labelers and isinstance(policy, OnPolicyConfig) and policy.group < 2:
        raise UserError(
            "labelers compare the completions of a prompt, and there is one of each",
            where="policy.group",
            expected="at least 2 completions per prompt",
            fix="set policy.group=4 (or take an algorithm that compares: rloo, grpo, online_dpo)",
        )
    if policy.needs_reward_stage and recipe.reward is None:
        raise UserError(
            f"policy.algorithm = {policy.algorithm!r} needs a reward model",
            where="[policy]",
            expected="a [reward] section",
            fix="add [reward] or [policy.rewards], take an algorithm that needs none (dpo), or leave [policy] out",
        )
    if isinstance(policy, PPOConfig) and policy.critic == "reward_model" and recipe.reward is None:
        raise UserError(
            "policy.critic = 'reward_model' starts from a reward model, and there is none",
            where="policy.critic",
            expected="a [reward] section, or a critic on the policy's own trunk",
            fix="set policy.critic = 'shared', or take an algorithm without critic (rloo)",
        )
    if (
        isinstance(policy, OnPolicyConfig)
        and policy.kl_target is not None
        and policy.batch >= 5 * policy.kl_horizon
    ):
        raise UserError(
            f"policy.kl_horizon = {policy.kl_horizon:g} is too short for a batch of {policy.batch}",
            where="policy.kl_horizon",
            expected=f"more than {policy.batch / 5:g}, or the controller could drive kl_coef to zero",
            fix="set policy.kl_horizon=10000",
        )


def _check_gate(recipe: Recipe) -> None:
    """Refuse demands on figures that a run of this recipe cannot have."""
    gate = recipe.gate
    if gate is None:
        return
    if recipe.policy is None or recipe.evaluate is None:
        raise UserError(
            "there is a gate, and no policy that could pass it",
            where="[gate]",
            expected="[policy], and [evaluate], which measures it",
            fix="add what is missing, or leave [gate] out",
        )
    known = _figures_of(recipe, recipe.evaluate)
    for figure, rule, _ in gate.demands():
        if figure not in known and not figure.startswith(TASK):
            raise nearest("figure", figure, known, "gate.target" if rule == "better" else f"gate.{rule}")
    if gate.target.startswith(WIN_RATE) and gate.margin >= 0.5:
        raise UserError(
            f"no win rate is above {0.5 + gate.margin:g}",
            where="gate.margin",
            expected="less than 0.5: the win rate has to be above one half by more than it",
            fix="set gate.margin=0.05, for more than 0.55",
        )
    raised = isinstance(recipe.policy, ScoredConfig) and recipe.policy.needs_reward_stage
    if raised and gate.target in ("score", f"{WIN_RATE}score"):
        raise UserError(
            f"gate.target = {gate.target!r} is what the policy is trained to raise",
            where="gate.target",
            expected="a figure that took no part in training",
            fix=f"set gate.target = {f'{WIN_RATE}people'!r}, and let people compare: concordant label RUN --compare",
        )


def _figures_of(recipe: Recipe, evaluate: EvaluateConfig) -> list[str]:
    """The names of all figures that are going to be compared."""
    from concordant.worlds.world import make_world

    world = make_world(recipe.world.name, recipe.seed) if recipe.world else None
    return compared_figures(
        families=world.families if world else None,
        behaviors=[canary.name for canary in world.canaries()] if world else (),
        scored=recipe.reward is not None,
        labelers=bool(evaluate.labelers),
        text=evaluate.documents > 0 and bool(recipe.world or evaluate.text),
        held_out=recipe.reward is not None and recipe.reward.held_out > 0,
    )


def check_rewards(recipe: Recipe) -> None:
    """Ask each source of scores once: functions and servers to score an example, models to be what they should."""
    if not isinstance(recipe.policy, ScoredConfig):
        return
    for name, part in recipe.policy.rewards.items():
        with located(f"policy.rewards.{name}"):
            if isinstance(part, EnsemblePartConfig):
                paths: Sequence[str] = part.paths
            elif isinstance(part, ModelPartConfig):
                paths = (part.path,)
            else:
                if not isinstance(part, LabelersPartConfig):
                    try_reward(part)
                continue
            for path in filter(None, paths):
                check_reward_model(path_of(recipe, path))


def check_judge(recipe: Recipe) -> None:
    """Refuse a judge of probes that is no model, or has no tokenizer with a chat template. Weights are not read."""
    if recipe.probed_by != JUDGE or not isinstance(recipe.policy, OnPolicyConfig | RoundsConfig):
        return
    from concordant.data.template import Template, load_tokenizer
    from concordant.models.load import context_length_at

    path = path_of(recipe, recipe.monitor.judge)
    with located("monitor.judge"):
        context_length_at(path)
        Template(load_tokenizer(path))


def try_reward(part: FunctionPartConfig | ServerPartConfig) -> None:
    """Have two completions of an example scored, and refuse what a run could not use."""
    from concordant.rollout.rollout import Rollout, Sample
    from concordant.train.reward_sources import source_outside

    samples = tuple(Sample(0, (0,), (number,), (0.0,), True) for number in range(2))
    answers = ("It takes two hours.", "I do not know.")
    source = source_outside(part, lambda sample: answers[sample.completion[0]], tries=1)
    source.score([Prompt.user("How long does it take ?")], Rollout(samples, 1.0))


def check_reward_model(path: str) -> None:
    """Refuse a folder or hub name that holds no reward model, or no tokenizer. Weights are not read."""
    from concordant.data.template import load_tokenizer
    from concordant.models.load import refuse_unless_reward_model

    refuse_unless_reward_model(path)
    load_tokenizer(path)


def check_material(recipe: Recipe, material: Material, stages: Collection[str]) -> None:
    """Read everything that `stages` are going to read, and refuse what would leave one of them without rows."""
    if "sft" in stages:
        _some(material.demonstrations(), "demonstrations to learn from", "data.demonstrations")
    if "feedback" in stages or "reward" in stages:
        _check_votes(recipe, material)
    if "policy" in stages and isinstance(recipe.policy, KTOConfig) and recipe.world is None:
        _check_judged(material)
    if "policy" in stages:
        _some(material.prompts(), "prompts to train on", "data.prompts")
    if "evaluate" in stages:
        for split, prompts in material.evaluation(1).items():
            _some(prompts, f"prompts of the {split} split to measure on", "data.validation")
        material.held_out_text(1)


def _check_votes(recipe: Recipe, material: Material) -> None:
    """Pairs, or prompts that are going to have some, have to be there for training and for validation."""
    preferences = material.preferences()
    for row in preferences:
        check_strength(row.p_chosen, row.margin, row.prompt.where)
    if material.judgements() and not preferences:
        return
    kind = "preferences" if preferences else "prompts"
    asked = [row.prompt for row in preferences] or material.to_compare()[: recipe.feedback.prompts]
    kept_out = sum(map(material.validation, asked))
    check_split(len(asked) - kept_out, kept_out, kind)


def _check_judged(material: Material) -> None:
    """What KTO needs of rows that are there already, said as it would say it."""
    from concordant.pipeline.parts.judgements import check_classes, mismatches

    where = "data.judgements" if material.judgements() else "data.preferences"
    judged = [row for row in material.judgements() if not material.validation(row.prompt)]
    decided = [row for row in material.preferences() if row.p_chosen != 0.5]
    pairs = [row for row in decided if not material.validation(row.prompt)]
    if not pairs:  # each of them has a good side and a bad one
        check_classes(judged, where)
    asked = [row.prompt for row in judged] + [row.prompt for row in pairs]
    mismatches([prompt.id for prompt in asked], where)


def _some(rows: Sequence[Any], what: str, where: str) -> None:
    if not rows:
        raise UserError(
            f"there are no {what}",
            where=where,
            expected="at least one; the split goes by a hash of the prompt",
            fix="give more rows, or change data.validation",
        )


def check_machine(recipe: Recipe) -> None:
    """Refuse a device that is not there, before anything is removed or computed."""
    from concordant.models.hardware import probe

    probe(recipe.machine.model_copy(update={"threads": recipe.machine.threads or 1}))


def check_lengths(
    recipe: Recipe, material: Material, template: Any, limit: int, stages: Collection[str]
) -> None:
    """Refuse rows and completions that do not fit into `limit` tokens, for a model that is there already.

    Stops at the first row that fits, except where the recipe asks that all do.
    """
    _check_room(recipe, limit)
    policy = recipe.data.overlong
    if "sft" in stages:
        rows = _demonstration_lengths(template, material.demonstrations(), whole=policy != "trim_prompt_left")
        _check_fit(rows, limit, "demonstrations", every=policy == "error")
    for stage, completion in _completions(recipe).items():
        if stage in stages and policy != "trim_prompt_left":
            prompts = (
                material.prompts() if stage == "policy" else next(iter(material.evaluation(2**31).values()))
            )
            lengths = _prompt_lengths(template, prompts)
            _check_fit(lengths, limit - completion, f"prompts of {stage}", every=policy == "error")


def _completions(recipe: Recipe) -> dict[str, int]:
    """Most tokens of a completion, by the stage that samples them."""
    found = {}
    if recipe.reads_votes and recipe.world is not None:
        found["feedback"] = recipe.feedback.completion
    if isinstance(recipe.policy, ScoredConfig):
        found["policy"] = recipe.policy.completion
    if recipe.evaluate is not None:
        found["evaluate"] = recipe.evaluate.completion
    return found


def _check_room(recipe: Recipe, limit: int) -> None:
    for stage, completion in _completions(recipe).items():
        if completion >= limit:
            raise UserError(
                f"{stage}.completion = {completion} leaves no room for a prompt",
                where=f"{stage}.completion",
                expected=f"less than the {limit} tokens of the model's context (or of model.length)",
                fix=f"set {stage}.completion={max(1, limit // 2)}, or take a model with a longer context",
            )


def _demonstration_lengths(template: Any, demos: Iterable[Demonstration], *, whole: bool) -> Iterator[int]:
    """Tokens of each chat, or of its last answer with one token before it where the rest may be trimmed."""
    for demo in demos:
        answer = len(template.completion_ids(demo.prompt.messages, demo.completion.text))
        yield answer + (len(template.prompt_ids(demo.prompt.messages)) if whole else 1)


def _prompt_lengths(template: Any, prompts: Iterable[Prompt]) -> Iterator[int]:
    return (len(template.prompt_ids(prompt.messages)) for prompt in prompts)


def _check_fit(lengths: Iterator[int], limit: int, what: str, *, every: bool) -> None:
    shortest = longest = read = 0
    for length in lengths:
        if not every and length <= limit:
            return
        shortest = min(shortest or length, length)
        longest = max(longest, length)
        read += 1
    if shortest > limit or (every and longest > limit):
        from concordant.pipeline.parts.lengths import no_room

        raise no_room(read, what, limit, shortest, longest, every=every)
