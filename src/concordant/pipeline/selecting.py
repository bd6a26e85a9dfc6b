"""Which answered questions of a run to ask people about next, by what its reward model makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from concordant.errors import UserError
from concordant.feedback.selection import Candidates, Selector, choose
from concordant.feedback.store import Store
from concordant.pipeline.context import template_of
from concordant.pipeline.recipe import Recipe
from concordant.seeds import derive

if TYPE_CHECKING:
    import torch

    from concordant.data.batches import Row

TOKENS = 8192  # most tokens in one forward pass


@dataclass(frozen=True)
class Judged:
    """What a reward model says of rows: scores (N,) and the hidden states they are read from (N, H)."""

    scores: torch.Tensor
    hidden: torch.Tensor


def ask_again(
    store: Store, project: str, n: int, selector: Selector, *, recipe: Recipe | None, run_folder: Path | None
) -> int:
    """Want one more labeler for up to `n` answered tasks of a project; returns for how many.

    What the selector said and how probable the choice was is kept with the task. Errors: UserError where the
    selector needs a reward model and the run has none.
    """
    tasks = store.answered(project)
    if selector != "random":  # what has one answer alone cannot be compared
        known = zip(tasks, store.comparisons(tasks), strict=True)
        tasks = [task for task, (_, completions) in known if len(completions) > 1]
    if not tasks:
        return 0
    if selector == "random":
        candidates = Candidates(np.zeros((1, len(tasks))))
    else:
        candidates = judged_by_the_run(store, tasks, recipe, run_folder)
    seed = derive("ask again", project, len(tasks), store.counts()["votes"])
    chosen = choose(candidates, n, selector, seed=seed % 2**32)
    why = {tasks[one.index]: {k: v for k, v in asdict(one).items() if k != "index"} for one in chosen}
    return store.ask_again(why)


def judged_by_the_run(
    store: Store, tasks: Sequence[str], recipe: Recipe | None, run_folder: Path | None
) -> Candidates:
    """For each task the two answers that its run's reward model puts first: how far apart they are, and in what."""
    folders = sorted(run_folder.glob("stages/*-reward/model")) if run_folder else []
    if recipe is None or not folders:
        raise UserError(
            "there is no reward model that could say which questions are worth asking",
            where=str(run_folder or "the store"),
            expected="a run whose reward stage is done",
            fix="take --select random, or run the recipe first",
        )
    from concordant.data.batches import Row

    template = template_of(recipe, str(folders[0]))
    rows: list[Row] = []
    owners: list[int] = []
    for number, (prompt, completions) in enumerate(store.comparisons(tasks)):
        asked = tuple(template.prompt_ids(prompt.messages))
        for one in completions:
            answer = one.tokens or tuple(template.completion_ids(prompt.messages, one.text))
            rows.append(Row(asked, answer))
            owners.append(number)
    judged = judge(recipe, folders[0], rows, template.pad_id)
    gaps, features = [], []
    by_task: dict[int, list[int]] = {}
    for index, owner in enumerate(owners):
        by_task.setdefault(owner, []).append(index)
    for members in by_task.values():
        first, second = sorted(members, key=lambda i: -float(judged.scores[i]))[:2]
        gaps.append(float(judged.scores[first] - judged.scores[second]))
        features.append((judged.hidden[first] - judged.hidden[second]).double().numpy())
    return Candidates(np.array([gaps]), np.stack(features))


def judge(recipe: Recipe, folder: Path, rows: Sequence[Row], pad_id: int) -> Judged:
    """Scores and hidden states of rows."""
    import torch

    from concordant.data.batches import Example, micro_batches
    from concordant.models.forward import bare, hidden_states, scalar
    from concordant.models.hardware import probe
    from concordant.models.load import load_reward_model

    machine = probe(recipe.machine)
    model = load_reward_model(str(folder)).to(machine.device)
    scores = torch.zeros(len(rows))
    hidden: torch.Tensor | None = None
    with torch.inference_mode(), machine.autocast():
        for batch in micro_batches([Example((row,)) for row in rows], TOKENS, pad_id):
            moved = batch.to(machine.device)
            states = hidden_states(model, moved)
            last = states[torch.arange(len(moved.last_B), device=states.device), moved.last_B]
            hidden = torch.zeros(len(rows), last.shape[-1]) if hidden is None else hidden
            scores[batch.index_B] = scalar(bare(model).score, last).cpu()
            hidden[batch.index_B] = last.float().cpu()
    assert hidden is not None, "there are rows"
    return Judged(scores, hidden)
