"""What the models of a run said, as logs of inspect: its viewer opens them, and whatever reads its logs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    write_eval_log,
)
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, ModelOutput
from inspect_ai.scorer import Score
from inspect_ai.viewer import ViewerConfig

from concordant.data.types import Message
from concordant.evaluation.answers import Answer
from concordant.evaluation.figures import PARTS
from concordant.evaluation.intervals import mean_of
from concordant.evaluation.record import Record
from concordant.files import sha256_of

TURNS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}

Measure = Callable[[Answer], float | None]
MEASURES: dict[str, Measure] = {
    "gold": lambda answer: answer.gold.total if answer.gold else None,
    "score": lambda answer: answer.score,
    "kl": lambda answer: answer.kl,
    "length": lambda answer: float(answer.length),
    "ended": lambda answer: float(answer.ended),
    "refused": lambda answer: None if answer.refused is None else float(answer.refused),
}


def write_logs(record: Record, folder: Path, *, run: str, key: str, when: datetime) -> Iterator[Path]:
    """One log for each model and split of a record, as `TIME_SPLIT-MODEL_ID.eval` in `folder`; yields their paths.

    `run`: the run directory, as a model is named to inspect by; `key` tells the models from others of their name, so
    that the same run writes the same files again. `when` it was measured.
    """
    by_log: dict[tuple[str, str], list[Answer]] = {}
    for answer in record.answers:
        by_log.setdefault((answer.model, answer.split), []).append(answer)
    for (model, split), answers in by_log.items():
        log = _log(
            answers,
            f"concordant/{run}:{model}",
            f"{split}-{model}",
            sha256_of([key, model, split])[:22],
            when,
        )
        stamp = when.strftime("%Y-%m-%dT%H-%M-%S+00-00")
        path = folder / f"{stamp}_{split}-{model}_{log.eval.task_id}.eval"
        partial = path.with_suffix(".partial.eval")
        write_eval_log(log, str(partial))
        os.replace(partial, path)
        yield path


def _log(answers: Sequence[Answer], model: str, task: str, key: str, when: datetime) -> EvalLog:
    samples = [*_samples(answers, model)]
    ids = list(dict.fromkeys(sample.id for sample in samples))
    moment = when.astimezone(UTC).isoformat(timespec="seconds")
    epochs = max(sample.epoch for sample in samples)
    spec = EvalSpec(
        eval_id=key,
        run_id=key,
        task_id=key,
        created=moment,
        task=task,
        model=model,
        dataset=EvalDataset(name=answers[0].split, samples=len(ids), sample_ids=ids),
        config=EvalConfig(epochs=epochs),
        viewer=ViewerConfig(trust_content=False),  # what a model says is shown as plain text
    )
    results = EvalResults(
        total_samples=len(samples), completed_samples=len(samples), scores=_figures(answers)
    )
    stats = EvalStats(started_at=moment, completed_at=moment)
    return EvalLog(status="success", eval=spec, results=results, stats=stats, samples=samples)


def _samples(answers: Sequence[Answer], model: str) -> Iterator[EvalSample]:
    """A draw of a prompt is a sample, its answers are epochs."""
    epochs: dict[int, Iterator[int]] = {}
    for answer in answers:
        turns = [_turn(message) for message in answer.prompt.messages]
        output = ModelOutput.from_content(
            model, answer.text, stop_reason="stop" if answer.ended else "max_tokens"
        )
        yield EvalSample(
            id=answer.draw,
            epoch=next(epochs.setdefault(answer.draw, count(1))),
            input=turns,
            target=answer.prompt.answer,
            messages=[*turns, output.choices[0].message],
            output=output,
            scores=dict(_scores(answer)),
            metadata={"prompt_id": answer.prompt.id, "family": answer.prompt.family, **answer.failures},
        )


def _turn(message: Message) -> Any:
    return TURNS[message.role](content=message.content)


def _scores(answer: Answer) -> Iterator[tuple[str, Score]]:
    """What is known of an answer; the first one shows its text in the viewer's list."""
    text: str | None = answer.text
    for name, measure in MEASURES.items():
        value = measure(answer)
        if value is not None:
            yield name, Score(value=value, answer=text, metadata=_parts(answer) if name == "gold" else None)
            text = None


def _parts(answer: Answer) -> dict[str, float]:
    return {part: float(getattr(answer.gold, part)) for part in PARTS}


def _figures(answers: Sequence[Answer]) -> list[EvalScore]:
    """Means with the errors of our own reports, clustered by draw."""
    found = []
    for name, measure in MEASURES.items():
        values = [(value, answer.draw) for answer in answers if (value := measure(answer)) is not None]
        if not values:
            continue
        mean = mean_of(*zip(*values, strict=True))
        metrics = {"mean": mean.mean, "stderr": mean.se}
        found.append(
            EvalScore(
                name=name,
                scorer=name,
                scored_samples=len(values),
                unscored_samples=len(answers) - len(values),
                metrics={title: EvalMetric(name=title, value=value) for title, value in metrics.items()},
            )
        )
    return found
