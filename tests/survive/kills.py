"""Runs that are killed at random moments and begun again, beside the run that nobody touched.

`tests/pipeline/test_survive.py` kills some, `benchmarks/survive.py` as many as one likes. A moment is a stage and a
share of the time it took in the untouched run; some are aimed: the process dies as soon as a checkpoint has its
temporary name. What is compared: weights to the byte; logs, samples, votes and results value by value, times aside.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from signal import SIGKILL

from concordant.pipeline.plan import votes_digest
from nursery import Child, Nursery
from tiny_run import STAGES, clone, figures, rows, town_file, weights, written

TRAINED = ("01-base", "02-sft", "04-reward", "05-policy")
EARLY, LATE = STAGES[:4], STAGES[4:]  # what all algorithms share, and what is an algorithm's own
STUCK = 3  # starts in a row, without a kill, after which a run that has no results is given up
AIMED = 0.3  # of the moments in stages that save checkpoints
GLANCE = 0.0005  # seconds

_OWN_SAMPLES = "updates = 4, batch = 16, minibatches = 2, completion = 12"
_ROUNDS = "rounds = 3, prompts = 16, samples = 4, batch = 8, completion = 12"
_PAIRS = "batch = 8, steps = 24"
POLICIES = {
    "ppo": f'algorithm = "ppo", kl_target = 2.0, {_OWN_SAMPLES}',
    "ppo, shared critic": f'algorithm = "ppo", critic = "shared", early_stop_kl = 0.01, {_OWN_SAMPLES}',
    "rloo": f'algorithm = "rloo", {_OWN_SAMPLES}',
    "grpo": f'algorithm = "grpo", {_OWN_SAMPLES}',
    "dr_grpo": f'algorithm = "dr_grpo", {_OWN_SAMPLES}',
    "dapo": f'algorithm = "dapo", group = 4, {_OWN_SAMPLES}',
    "reinforce++": f'algorithm = "reinforce++", {_OWN_SAMPLES}',
    "reinforce++_baseline": f'algorithm = "reinforce++_baseline", {_OWN_SAMPLES}',
    "dpo": f'algorithm = "dpo", {_PAIRS}',
    "ipo": f'algorithm = "ipo", {_PAIRS}',
    "kto": f'algorithm = "kto", {_PAIRS}',
    "orpo": f'algorithm = "orpo", {_PAIRS}',
    "simpo": f'algorithm = "simpo", {_PAIRS}',
    "best_of_n": f'algorithm = "best_of_n", {_ROUNDS}',
    "online_dpo": f'algorithm = "online_dpo", {_ROUNDS}',
}
ADAPTED = "ppo, LoRA"  # with an adapter no stage is that of another run: these runs stand alone
SUBJECTS = (*POLICIES, ADAPTED)
EVERY = [f"{stage}.checkpoint=2" for stage in ("pretrain", "sft", "reward")]


def small_chunks() -> None:
    """Sample and label in small portions, so that a kill may come between them."""
    from concordant.feedback.answering import labelers
    from concordant.pipeline.stages import feedback

    feedback.CHUNK, labelers.CHUNK = 16, 10


@dataclass
class Tally:
    """What came of it."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)  # by algorithm and stage under way
    while_saving: int = 0  # of these: half a checkpoint lay there
    ends: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.kills.total()


class Survival:
    """Kills runs of every algorithm in `folder`, and keeps the tally."""

    def __init__(self, nursery: Nursery, folder: Path, seed: int = 0) -> None:
        self.nursery, self.folder = nursery, folder
        self.draw, self.tally = random.Random(seed), Tally()
        town_file(folder)
        self.wholes: dict[str, Path] = {}

    def kill(self, kills: int, subjects: Sequence[str] = SUBJECTS) -> Tally:
        """Kill as often as told, in as many runs as that takes; every fifth run stands alone."""
        for number, subject in enumerate(cycle(subjects)):
            left = kills - self.tally.total
            if left <= 0:
                return self.tally
            alone = number % 5 == 0 or subject == ADAPTED
            moments = [*EARLY, *EARLY, *LATE] if alone else [LATE[0], LATE[0], LATE[0], LATE[1]]
            self._survive(subject, sorted(moments)[:left], alone=alone)
        raise AssertionError("not reached")

    def _survive(self, subject: str, stages: Sequence[str], *, alone: bool) -> None:
        """Kill a run once in each of the stages, let it come to its end, and compare."""
        whole = self._whole(subject)
        run = self.folder / "killed" / "tiny"
        run.parent.mkdir()
        if not alone:
            (run.parent / "early").symlink_to(self._early())
        for stage in stages:
            if (run / "stages" / stage / "stage.json").exists():
                continue  # a kill before this one came too late for it
            child = self._start(subject, run)
            moment(child, run, whole, stage, self.draw)
            child.send(SIGKILL)
            if self._died(child, run):
                self.tally.kills[subject, under_way(run)] += 1
                self.tally.while_saving += saving(run)
        self._to_its_end(subject, run)
        self.tally.ends += 1
        self.tally.failures += [f"{subject}: {one}" for one in differences(run, whole)]
        shutil.rmtree(run.parent)

    def _whole(self, subject: str) -> Path:
        """The run of this algorithm that nobody touches."""
        self._early()
        if subject not in self.wholes:
            run = self.folder / f"whole {len(self.wholes)}" / "tiny"
            run.parent.mkdir()
            if subject != ADAPTED:
                (run.parent / "early").symlink_to(self._early())
            self._to_its_end(subject, run)
            self.wholes[subject] = run
        return self.wholes[subject]

    def _early(self) -> Path:
        """A run that ended before the policy: what all algorithms share."""
        early = self.folder / "early"
        if not early.exists():
            alone = self.wholes[SUBJECTS[0]] = self.folder / "alone" / "tiny"
            self._to_its_end(SUBJECTS[0], alone)
            clone(alone, early, stages=EARLY)
        return early

    def _start(self, subject: str, run: Path) -> Child:
        words = [*EVERY, f"policy={{ {POLICIES.get(subject, POLICIES['ppo'])}, checkpoint = 1 }}"]
        if subject == ADAPTED:
            words.append("model.adapter.rank=4")
        return self.nursery.start(
            "run", "tiny.toml", *words, "--run", run, cwd=self.folder, before="kills:small_chunks"
        )

    def _died(self, child: Child, run: Path) -> bool:
        """Whether a kill reached the process; where it had come to an end of its own, that was in good order."""
        outcome = child.wait()
        if outcome.status not in (0, -SIGKILL):
            self.tally.failures.append(f"{run}: status {outcome.status}: {outcome.err}")
        return outcome.status == -SIGKILL

    def _to_its_end(self, subject: str, run: Path) -> None:
        """Let a run go on until its results are there; its report, which takes longer, is not waited for."""
        results = run / "results.json"
        for _ in range(STUCK):
            child = self._start(subject, run)
            there = child.wait_for(results.exists)
            child.send(SIGKILL)
            self._died(child, run)
            if there:
                return
        self.tally.failures.append(f"{subject}: the run never came to its end")


def moment(child: Child, run: Path, whole: Path, stage: str, draw: random.Random) -> None:
    """Wait for a random moment of a stage, whose length is that in the run nobody touched."""
    title, folder = f"\n{stage.partition('-')[2]}: ", run / "stages" / stage
    if child.wait_for(lambda: title in child.out):
        time.sleep(draw.uniform(0, written(whole / "stages" / stage / "stage.json")["wall"]))
    if stage in TRAINED and draw.random() < AIMED:
        child.wait_for(lambda: saving(run) or (folder / "stage.json").exists(), glance=GLANCE)


def under_way(run: Path) -> str:
    """The stage a killed run was in."""
    folders = [run / "stages" / stage for stage in STAGES]
    begun = [folder for folder in folders if (folder / "begun.json").exists()]
    return next((f.name for f in begun if not (f / "stage.json").exists()), "between stages")


def saving(run: Path) -> bool:
    """Whether half a checkpoint lies there."""
    return any(run.glob("stages/*/state/*.partial"))


def differences(run: Path, whole: Path, store: str | Path | None = None) -> list[str]:
    """How two runs differ, times aside; `store` is where the votes of the first are, if not in its folder."""
    if not (run / "results.json").exists():
        return ["no results.json"]
    found = [f"weights of {stage}" for stage in TRAINED if weights(run, stage) != weights(whole, stage)]
    for name in ("steps.jsonl", "samples.jsonl"):
        for file in sorted(whole.glob(f"stages/*/{name}")):
            other = run / file.relative_to(whole)
            if not other.is_file() or rows(other) != rows(file):
                found.append(str(file.relative_to(whole)))
    mine, others = figures(run), figures(whole)
    keys = sorted({*mine, *others})
    found += [
        f"results.json: {key} is {mine.get(key)!r}, not {others.get(key)!r}"
        for key in keys
        if mine.get(key) != others.get(key)
    ]
    if votes_digest(store or run / "feedback.sqlite") != votes_digest(whole / "feedback.sqlite"):
        found.append("votes")
    return found
