"""Following a loop to its end: its log, its progress, its checkpoints, and which of its steps the stage leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from concordant.monitor.notice import PROBE, Notice
from concordant.monitor.probes import START, Probe
from concordant.pipeline.context import Context, headline
from concordant.pipeline.interrupt import Interrupted
from concordant.train.checkpoint import FIGURES, RANK, Cadence, Checkpoint, Checkpoints, CheckpointWriter
from concordant.train.config import CheckpointConfig
from concordant.train.step import Step


@dataclass
class Following:
    """One pass over the steps of a loop: `state` gives its checkpoint, `restore` puts it where one was taken."""

    context: Context
    title: str
    when: CheckpointConfig
    state: Callable[[], Checkpoint]
    restore: Callable[[Checkpoint], None]
    goes_back: bool  # where an alarm calls for it

    def __post_init__(self) -> None:
        self.kept = Checkpoints(self.context.folder.checkpoints, self.when.keep)
        self.cadence = Cadence(self.when)
        self.saved = 0

    def over(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The steps, so that a stage may look at them; see `Context.follow`."""
        context, last = self.context, None
        writer = CheckpointWriter(self.kept, before=context.folder.sync_logs)
        with ExitStack() as shown, writer:
            progress = None
            if self.goes_back and self.kept.empty:
                self._save(writer, 0, {RANK: START.rate, FIGURES: {}})
            try:
                for step in steps:
                    if step.number == 1:
                        self.when.check_best(step.metrics)
                    if progress is None:
                        progress = shown.enter_context(
                            context.reporter.activity(self.title, step.total, "steps")
                        )
                    context.log(step)
                    yield step
                    last, context.figures = step, dict(step.metrics)
                    progress.to(step.number, headline(step.metrics))
                    writer.check()
                    if self._must_go_back:
                        break  # before anything is saved from which training would go on
                    if step.number == step.total:
                        continue  # the stage is about to leave more than a checkpoint; the run stops behind it
                    self._keep(writer, step)
                    context.stop.check()
            except Interrupted:
                # Raised here or while the loop was sampling: the learner has not moved since the last step.
                if last is not None and last.number != self.saved:
                    # Without a rank: what a run leaves must not depend on where somebody stopped it.
                    self._save(writer, last.number, {})
                writer.finish()
                raise
        if last is not None and self._must_go_back:
            self._go_back(last)
        elif last is not None and self.when.best:
            self._take_best(last)

    @property
    def _must_go_back(self) -> bool:
        return self.goes_back and self.context.watch.action == "rollback"

    def _keep(self, writer: CheckpointWriter, step: Step) -> None:
        """Save a checkpoint if one is due."""
        rank = self._rank(step)
        # Which steps are compared must not depend on how fast the disk is.
        due = self.cadence.due(step.number) and (self.when.best or not writer.busy)
        if due or (self.goes_back and rank):
            self._save(writer, step.number, rank)
            self.cadence.saved()

    def _rank(self, step: Step) -> dict[str, Any]:
        """How good a step is, where its checkpoint is compared with others."""
        figures = dict(step.metrics)
        if self.goes_back:
            probe = Probe.of(step)
            return {RANK: probe.rate, FIGURES: figures} if probe else {}
        return {RANK: self.when.rank(figures), FIGURES: figures} if self.when.best else {}

    def _save(self, writer: CheckpointWriter, step: int, rank: Mapping[str, Any]) -> None:
        """A loop's own state, what its watch remembers, what the stage has spent so far, and how good the step is."""
        context, state = self.context, self.state()
        own = {"step": step, "watch": context.watch.state(), **context.totals.facts()}
        writer.save(step, replace(state, facts={**state.facts, **own, **rank}))
        self.saved = step

    def _take_best(self, last: Step) -> None:
        """Leave the best checkpoint where it is better than the last step."""
        best = self.kept.best(self.context.reporter.say)
        if best is not None and best.facts[RANK] > self.when.rank(last.metrics):
            self._leave(
                best, f"the best by {self.when.best} is step {best.facts['step']}, which is what stays"
            )

    def _go_back(self, last: Step) -> None:
        """Leave the checkpoint whose answers were liked best."""
        best = self.kept.best(self.context.reporter.say)
        assert best is not None, "the state that training began with is among them"
        saw = f"training ends, and what stays is step {best.facts['step']}, whose answers won {best.facts[RANK]:.0%}"
        notice = Notice(
            last.number,
            "rollback",
            saw,
            "what was seen on this step, and monitor.on_alarm",
            tier=PROBE,
            action="rollback",
        )
        self.context.folder.append(self.context.folder.notices, [notice.as_row()])
        self._leave(best, f"{notice.detector}: {saw}")

    def _leave(self, best: Checkpoint, why: str) -> None:
        self.context.reporter.say(f"  {why}")
        self.restore(best)
        self.context.figures = dict(best.facts[FIGURES])
