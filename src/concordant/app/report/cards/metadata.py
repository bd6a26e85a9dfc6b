"""The metadata of a card. The only module that imports huggingface_hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from concordant.app.report.phrases import model_name
from concordant.app.report.source import ReportInput, number

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILES = (".json", ".jsonl", ".csv", ".parquet", ".txt", ".gz")
UNKNOWN = "unknown"  # what the hub calls a licence that nobody stated


def metadata(run: ReportInput, stage: str, license_id: str) -> str:
    """The front matter of a card as YAML, without what the run does not know."""
    reward = stage == "reward"
    data = ModelCardData(
        license=license_id or UNKNOWN,
        library_name="transformers",
        pipeline_tag="text-classification" if reward else "text-generation",
        tags=["concordant", "rlhf", *(["reward-model"] if reward else [])],
        base_model=base_model(run),
        datasets=sorted(set(_data_sets(run))) or None,
        model_name=f"{run.name}-{stage}",
        eval_results=list(_reward_results(run) if reward else _results(run, stage)) or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def base_model(run: ReportInput) -> str | None:
    """The model on the hub from which the run started; None for one that is a folder, or was made here."""
    path = str(run.setting("model", "path") or "")
    return path if HUB_NAME.fullmatch(path) else None


def _data_sets(run: ReportInput) -> Iterator[str]:
    """Names on the hub among the sources of the recipe."""
    for source in (
        one for found in (run.setting("data") or {}).values() if isinstance(found, list) for one in found
    ):
        path = str(source.get("path") if isinstance(source, dict) else source)
        if HUB_NAME.fullmatch(path) and not path.endswith(FILES):
            yield path


def _result(run: ReportInput, kind: str, name: str, value: float, split: str = "held out") -> EvalResult:
    world = run.at("world")
    return EvalResult(
        task_type="text-generation",
        dataset_type=f"concordant-{world}" if world else "held-out-prompts",
        dataset_name=f"prompts of the world {world}" if world else "prompts kept out of training",
        dataset_split=split,
        metric_type=kind,
        metric_name=name,
        metric_value=round(value, 4),
    )


def _results(run: ReportInput, stage: str) -> Iterator[EvalResult]:
    if (gold := run.mean("models", stage, "gold")) is not None:
        yield _result(run, "gold_reward", "Gold reward, mean", gold.mean)
    for row in run.at("win_rates") or ():
        rate = number(row.get("rate"))
        if (
            row.get("second") == stage and rate is not None and row.get("by") != "score"
        ):  # it was trained on that
            over = model_name(run, str(row.get("first")))
            yield _result(run, "win_rate", f"Win rate over {over}, by {row.get('by')}", rate)


def _reward_results(run: ReportInput) -> Iterator[EvalResult]:
    figures: tuple[tuple[str, str, Any], ...] = (
        ("accuracy", "Accuracy on held-out labels", run.number("reward_model", "accuracy")),
        ("ece", "Expected calibration error", run.number("reward_model", "ece")),
    )
    for kind, name, value in figures:
        if value is not None:
            yield _result(run, kind, name, value, "held-out preferences")
