"""Probes that people answer: what is asked lies in the store, and is read on the first step that finds it answered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from concordant.feedback.reading.versus import Pair, Side, ask_versus, result
from concordant.feedback.store import Store
from concordant.files import write_json
from concordant.monitor.probes import FIRST, MOST
from concordant.pipeline.context import Context
from concordant.pipeline.folder import read_json
from concordant.pipeline.parts.probing import Found, Replies, Reply, score_of
from concordant.train.step import Step


class People:
    """See `Comparing`. The pairs of each probe are a project for evaluation; nothing trains on its votes."""

    def __init__(self, context: Context, replies: Replies) -> None:
        self.context, self.replies = context, replies
        self.waiting = context.folder.path / "probes"  # what both said, a file a probe

    def found(self, step: Step, why: str) -> Found | None:
        """Ask if a probe is due; the oldest probe that is answered by now and that no earlier step has noted."""
        if why:
            self._ask(step, why)
        noted = {probe.step for probe in self.context.watch.course.probes}
        for number in range(1, step.number + 1):
            kept = None if number in noted else read_json(self.waiting / f"step-{number}.json")
            found = self._read(kept) if kept else None
            if found is not None:
                return found
        return None

    def _ask(self, step: Step, why: str) -> None:
        """Ask about some pairs, and keep all of them for what may be asked later."""
        said = [
            {"texts": [a.text, b.text], "ended": [a.ended, b.ended], "lengths": [a.length, b.length]}
            for a, b in zip(self.replies.before, self.replies.now(step), strict=True)
        ]
        score = score_of(step)
        kept = {
            "step": step.number,
            "why": why,
            "score": score if math.isfinite(score) else None,
            "said": said,
        }
        self._open(kept, FIRST)
        self.context.reporter.say(
            f"  step {step.number}: answers wait for people: concordant label {self.context.run_folder}"
        )

    def _open(self, kept: Mapping[str, Any], n: int) -> None:
        """Ask about the first `n` pairs, each of them once, and keep what was said."""
        run = str(self.context.folder.begun())[:16]
        sides = (Side(self.context.start, run), Side("policy", f"{run}-{kept['step']}"))
        pairs = [Pair(a.prompt, (a.text, b.text), (a.ended, b.ended)) for a, b in self._both(kept)[:n]]
        with Store.open(self.context.store) as store:
            project = ask_versus(store, sides, pairs).project
        self.waiting.mkdir(exist_ok=True)
        write_json(
            self.waiting / f"step-{kept['step']}.json", {**kept, "project": project, "asked": len(pairs)}
        )

    def _both(self, kept: Mapping[str, Any]) -> Sequence[tuple[Reply, Reply]]:
        """What both said, prompt by prompt."""
        names = (self.context.start, "policy")
        found = []
        for n, ((prompt, _), said) in enumerate(zip(self.replies.asked, kept["said"], strict=True)):
            first, second = (
                Reply(name, n, prompt, text, length, ended)
                for name, text, length, ended in zip(
                    names, said["texts"], said["lengths"], said["ended"], strict=True
                )
            )
            found.append((first, second))
        return found

    def _read(self, kept: Mapping[str, Any]) -> Found | None:
        """What people say once all questions are answered; asks more where that is not enough."""
        with Store.open(self.context.store) as store:
            outcome = result(store, kept["project"])
        shares = {one.prompt: one.share for one in outcome.outcomes}
        if outcome.unanswered > outcome.passed or not shares:  # what people passed over is not waited for
            return None
        pairs = [(a, b, shares[a.prompt.id]) for a, b in self._both(kept) if a.prompt.id in shares]
        score = math.nan if kept["score"] is None else kept["score"]
        found = Found.of(self.context, kept["step"], kept["why"], pairs, score)
        if kept["asked"] < len(kept["said"]) and self.context.watch.course.grows(found.probe):
            self._open(kept, MOST)
            return None
        return found
