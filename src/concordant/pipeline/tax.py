"""The alignment tax of a run: tasks of lm-evaluation-harness, asked of every stage, and each stage against the others.

What a stage scored lies in a folder named by all that it depends on, so that the same command finds what is finished.
Later runs of a recipe, and its gate, take the figures in as long as the models are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

from concordant.evaluation.config import EvaluateConfig
from concordant.evaluation.figures import TASK
from concordant.evaluation.tasks import Metric, Outcome, Scored, compared
from concordant.files import sha256_of, write_json, write_text
from concordant.pipeline.afterwards import (
    MODELS,
    answering,
    context_after,
    fingerprint_of_model,
    finished_stages,
    same_models,
)
from concordant.pipeline.context import Context
from concordant.pipeline.extras import require
from concordant.pipeline.folder import StageFolder, json_line, read_json, read_jsonl
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.material import content_fingerprint
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Reporter

TAX_SCHEMA = 1
FOLDER = "tax"  # of a run, beside its stages
HARNESS = "lm-eval"


@dataclass(frozen=True)
class Order:
    """What is asked, and how: settings of which every score depends on all but the margin."""

    tasks: tuple[str, ...]
    include: str = ""  # a folder of further tasks
    most: int | None = None  # documents of each task
    chat: bool = False  # behind the chat template
    margin: float = 0.02  # a fall of less is called not worse

    def fingerprint(self, recipe: Recipe, model: str) -> str:
        """Digest of all that scores depend on."""
        own = content_fingerprint(Path(self.include)) if self.include else ""
        given = [sorted(self.tasks), own, self.most, self.chat, recipe.seed, recipe.machine.precision]
        return sha256_of([model, version(HARNESS), *given])


@dataclass(frozen=True)
class Tax:
    """By task and stage what came of it, stages in the order in which they were made."""

    outcomes: Mapping[str, Mapping[str, Outcome]]
    margin: float

    @property
    def changes(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By task, later stages against earlier ones."""
        return {
            task: {
                f"{after}_minus_{before}": compared(of[after], of[before], self.margin)
                for before, after in combinations(of, 2)
            }
            for task, of in self.outcomes.items()
        }


def tax_stages(
    recipe: Recipe,
    run_folder: Path,
    stages: Sequence[str],
    order: Order,
    reporter: Reporter,
    *,
    stop: StopRequest | None = None,
) -> Tax:
    """Ask the models of these stages, or where none is named of all there are; figures go into `tax/results.json`.

    Errors: UserError for a stage that is not finished, and for tasks that cannot be had; Interrupted where `stop` asks
    for it, after which the same call goes on with the stage that was not finished.
    """
    require("lm_eval", HARNESS)
    done = finished_stages(run_folder)
    asked = stages or answering(recipe, done) or ("base",)
    models = {name: fingerprint_of_model(recipe, run_folder, done, name) for name in asked}
    contexts = {}
    for name in sorted(models, key=MODELS.index):
        fingerprint = order.fingerprint(recipe, models[name])
        folder = StageFolder(run_folder / FOLDER / f"{name}-{fingerprint[:8]}")
        contexts[name] = context_after(
            recipe, run_folder, done, reporter, purpose=FOLDER, folder=folder, stop=stop
        )
    _ask(recipe, {n: c for n, c in contexts.items() if c.folder.finished() is None}, order, models)
    by_stage = {name: _kept(context.folder) for name, context in contexts.items()}
    tasks = next(iter(by_stage.values()))
    tax = Tax({task: {name: of[task] for name, of in by_stage.items()} for task in tasks}, order.margin)
    samples = {name: f"{one.folder.path.name}/{one.folder.samples.name}" for name, one in contexts.items()}
    _keep(run_folder / FOLDER / "results.json", tax, {"models": models, "samples": samples, **_how(order)})
    return tax


def _how(order: Order) -> dict[str, Any]:
    return {"harness": version(HARNESS), "limit": order.most, "chat": order.chat, "margin": order.margin}


def _ask(recipe: Recipe, contexts: Mapping[str, Context], order: Order, models: Mapping[str, str]) -> None:
    """Ask those who have not been asked; tasks are loaded once for all of them."""
    if not contexts:
        return
    from concordant.evaluation.harness import load_tasks

    reporter = next(iter(contexts.values())).reporter
    with reporter.activity("asking tasks", len(contexts), "stages") as progress:
        loaded = load_tasks(order.tasks, order.include)
        for done, (name, context) in enumerate(contexts.items(), start=1):
            fingerprint = order.fingerprint(recipe, models[name])
            context.folder.begin(fingerprint)
            facts = _ask_stage(context, name, loaded, order)
            context.folder.finish(fingerprint, {"model": models[name], "tasks": facts})
            progress.to(done, name)


def _ask_stage(context: Context, name: str, loaded: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """Ask one model; a row for each document goes into `samples.jsonl`."""
    from concordant.evaluation.harness import Harness, ask
    from concordant.models.load import load_policy
    from concordant.models.memory import Budget

    model = load_policy(context.model_path(name)).to(context.machine.device)
    harness = Harness(
        model,
        context.template,
        limit=context.limit(model),
        tokens=Budget((context.recipe.evaluate or EvaluateConfig()).tokens, "tokens", context.reporter.say),
        machine=context.machine,
        seed=context.recipe.seed,
        check=context.stop.check,
    )
    found = ask(harness, loaded, most=order.most, chat=order.chat)
    lines = (json_line({"task": task, **row}) for task, (_, rows) in found.items() for row in rows)
    write_text(context.folder.samples, "".join(lines))
    return {
        task: {
            "version": one.version,
            "shots": one.shots,
            "metrics": {n: asdict(m) for n, m in one.metrics.items()},
        }
        for task, (one, _) in found.items()
    }


def _kept(folder: StageFolder) -> dict[str, Outcome]:
    """By task what a stage scored, from its folder."""
    scored: dict[str, list[Scored]] = {}
    for row in read_jsonl(folder.samples):
        scored.setdefault(row["task"], []).append(Scored.from_row(row))
    facts = (folder.finished() or {})["tasks"]
    return {
        task: Outcome(
            one["version"],
            one["shots"],
            {n: Metric(**m) for n, m in one["metrics"].items()},
            scored.get(task, []),
        )
        for task, one in facts.items()
    }


def _keep(file: Path, tax: Tax, facts: Mapping[str, Any]) -> None:
    """Put the figures of these tasks beside those of others."""
    changes = tax.changes
    tasks = {
        task: {
            **facts,
            "version": next(iter(of.values())).version,
            "shots": next(iter(of.values())).shots,
            "stages": {name: outcome.figures() for name, outcome in of.items()},
            "changes": changes[task],
        }
        for task, of in tax.outcomes.items()
    }
    before = (read_json(file) or {}).get("tasks", {})
    write_json(file, {"schema": TAX_SCHEMA, "tasks": {**before, **tasks}})


def with_tax(results: Mapping[str, Any], run_folder: Path) -> dict[str, Any]:
    """`results` with the changes in tasks that its models, as they are now, have been asked."""
    changes = {
        pair: {name: one for name, one in figures.items() if not name.startswith(TASK)}
        for pair, figures in results.get("changes", {}).items()
    }
    for task, row in (read_json(run_folder / FOLDER / "results.json") or {}).get("tasks", {}).items():
        if not same_models(run_folder, row["models"]):
            continue
        for pair, metrics in row["changes"].items():
            found = {f"{TASK}{task}.{metric}": _change(one) for metric, one in metrics.items()}
            changes.setdefault(pair, {}).update(found)
    return {**results, "changes": changes} if changes else dict(results)


def _change(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("mean", "low", "high", "n")}
