"""Which answered questions of a run to ask people about next, by what its reward model makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from concordant.data.types import Completion, Preference, Prompt
from concordant.errors import UserError
from concordant.feedback.asking.committee import MEMBERS, committee
from concordant.feedback.asking.selection import Candidates, Selector, choose
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from concordant.pipeline.context import template_of
from concordant.pipeline.recipe import Recipe
from concordant.seeds import derive

if TYPE_CHECKING:
    import torch

    from concordant.data.batches import Row
    from concordant.data.template import Template

Floats = npt.NDArray[np.float64]
TOKENS = 8192  # most tokens in one forward pass


@dataclass(frozen=True)
class Judged:
    """What a reward model says of rows: scores (N,) and the hidden states they are read from (N, H)."""

    scores: torch.Tensor
    hidden: torch.Tensor

    def apart(self, pairs: Sequence[Sequence[int]]) -> Floats:
        """Hidden state of the first row of each pair less that of the second, (pairs, H)."""
        first, second = zip(*pairs, strict=True)
        return np.asarray((self.hidden[list(first)] - self.hidden[list(second)]).double().numpy())


def ask_again(
    store: Store,
    project: str,
    n: int,
    selector: Selector,
    *,
    recipe: Recipe | None,
    run_folder: Path | None,
    rubric: Mapping[str, Any] | None = None,
) -> int:
    """Want one more labeler for up to `n` answered tasks of a project; returns for how many.

    What the selector said and how probable the choice was is kept with the task. Under another `rubric` the
    same answers are another question, so that the votes there are keep theirs. Errors: UserError where the
    selector needs a reward model and the run has none.
    """
    tasks = store.answered(project)
    if selector != "random":  # what has one answer alone cannot be compared
        known = zip(tasks, store.comparisons(tasks), strict=True)
        tasks = [task for task, (_, completions) in known if len(completions) > 1]
    if not tasks:
        return 0
    seed = derive("ask again", project, len(tasks), store.counts()["votes"]) % 2**32
    if selector == "random":
        candidates = Candidates(np.zeros((1, len(tasks))))
    else:
        members = MEMBERS if selector == "disagreement" else 1
        candidates = judged_by_the_run(store, tasks, recipe, run_folder, members=members, seed=seed)
    chosen = choose(candidates, n, selector, seed=seed)
    why = {tasks[one.index]: {k: v for k, v in asdict(one).items() if k != "index"} for one in chosen}
    return store.ask_again(why) if rubric is None else store.ask_under(rubric, why, project)


def judged_by_the_run(
    store: Store,
    tasks: Sequence[str],
    recipe: Recipe | None,
    run_folder: Path | None,
    *,
    members: int = 1,
    seed: int = 0,
) -> Candidates:
    """For each task the two answers that its run's reward model puts first: how far apart they are, and in what.

    With more than one of `members` it is a committee of last layers, fitted on the run's preferences, that says
    how far they are apart.
    """
    folders = sorted(run_folder.glob("stages/*-reward/model")) if run_folder else []
    if recipe is None or not folders:
        raise UserError(
            "there is no reward model that could say which questions are worth asking",
            where=str(run_folder or "the store"),
            expected="a run whose reward stage is done",
            fix="take --select random, or run the recipe first",
        )
    answers = _Answers(template_of(recipe, str(folders[0])))
    asked = [
        [answers.row(prompt, one) for one in completions] for prompt, completions in store.comparisons(tasks)
    ]
    voted = _voted(store, recipe) if members > 1 else []
    pairs = [(answers.row(one.prompt, one.chosen), answers.row(one.prompt, one.rejected)) for one in voted]
    judged = judge(recipe, folders[0], answers.rows, answers.template.pad_id)
    best = [sorted(group, key=lambda i: -float(judged.scores[i]))[:2] for group in asked]
    features_NH = judged.apart(best)
    if members == 1:
        gaps = [float(judged.scores[first] - judged.scores[second]) for first, second in best]
        return Candidates(np.array([gaps]), features_NH)
    layers_MH = committee(
        judged.apart(pairs),
        np.array([one.p_chosen for one in voted]),
        np.array([one.weight for one in voted]),
        [one.prompt.id for one in voted],
        members=members,
        seed=seed,
    )
    return Candidates(layers_MH @ features_NH.T, features_NH)


def _voted(store: Store, recipe: Recipe) -> list[Preference]:
    settings = recipe.feedback
    rows = preferences(store, settings.view, settings.ties, settings.dimension)
    if not rows:
        raise UserError(
            "there are no preferences that reward models could disagree about",
            where="the votes of this run",
            expected="votes that prefer one answer",
            fix="take --select random",
        )
    return rows


class _Answers:
    """Answers as rows for the reward model, each once."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.rows: list[Row] = []
        self._known: dict[tuple[str, str], int] = {}

    def row(self, prompt: Prompt, completion: Completion) -> int:
        """The number of its row."""
        from concordant.data.batches import Row
        from concordant.pipeline.parts.preferences import completion_ids

        key = prompt.id, completion.id
        if key not in self._known:
            self._known[key] = len(self.rows)
            asked = tuple(self.template.prompt_ids(prompt.messages))
            self.rows.append(Row(asked, completion_ids(self.template, prompt, completion)))
        return self._known[key]


def judge(recipe: Recipe, folder: Path, rows: Sequence[Row], pad_id: int) -> Judged:
    """Scores and hidden states of rows."""
    import torch

    from concordant.data.batches import Example, MicroBatch
    from concordant.models.forward import bare, hidden_states, scalar
    from concordant.models.hardware import probe
    from concordant.models.load import load_reward_model
    from concordant.models.memory import Budget
    from concordant.train.passes import in_passes

    machine = probe(recipe.machine)
    model = load_reward_model(str(folder)).to(machine.device)
    scores = torch.zeros(len(rows))
    examples = [Example((row,)) for row in rows]
    hidden = torch.zeros(len(rows), bare(model).config.get_text_config().hidden_size)

    def read(batch: MicroBatch) -> None:
        states = hidden_states(model, batch)
        last = states[torch.arange(len(batch.last_B), device=states.device), batch.last_B]
        at = batch.index_B.cpu()
        scores[at] = scalar(bare(model).score, last).float().cpu()
        hidden[at] = last.float().cpu()

    with torch.inference_mode():
        in_passes(examples, read, tokens=Budget(TOKENS, "tokens"), pad_id=pad_id, machine=machine)
    return Judged(scores, hidden)
