"""Scores from elsewhere: a function, a server, several reward models, labelers who rank, or a weighted mix."""

from __future__ import annotations

import importlib
import json
import math
import numbers
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from concordant.data.batches import Row
from concordant.data.template import Template
from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.labelers import Labeler, collect
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.reading.views import standings
from concordant.feedback.store import Store
from concordant.rollout.rollout import Rollout, Sample
from concordant.train.config import FunctionPartConfig, ServerPartConfig
from concordant.train.rewards import Reward, RewardModel, Scores, checked

Text = Callable[[Sample], str]  # a sampled completion as people read it
EXCERPT = 80  # characters of a prompt or completion in a message


@dataclass(frozen=True)
class FunctionReward:
    """A function `score(prompts, completions)`, called with a list of chats and a list of texts.

    It returns one number per completion, or None for a completion it has no opinion on.
    """

    name: str
    function: Callable[[list[Any], list[str]], Sequence[float | None]]
    text: Text

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Scores:
        """See `Reward`."""
        chats, texts = chats_and_texts(prompts, rollout, self.text)
        return scores_of(self.function(chats, texts), self.name, texts, prompts, rollout)


@dataclass(frozen=True)
class ServerReward:
    """A server that answers POST {"prompts": [chat, ...], "completions": [text, ...]} with {"scores": [...]}.

    The text of prompts and completions is sent there, to the address of the recipe and to no other.
    """

    url: str
    text: Text
    timeout: float = 60.0  # seconds
    tries: int = 3

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Scores:
        """See `Reward`."""
        chats, texts = chats_and_texts(prompts, rollout, self.text)
        answer = self._ask({"prompts": chats, "completions": texts})
        found = answer.get("scores") if isinstance(answer, dict) else None
        return scores_of(found, self.url, texts, prompts, rollout)

    def _ask(self, question: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url, json.dumps(question).encode(), {"Content-Type": "application/json"}
        )
        for attempt in range(1, self.tries + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return json.load(answer)
            except (OSError, ValueError) as error:
                refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if refused or attempt == self.tries:
                    raise UserError(
                        f"the reward server did not answer: {error}",
                        where=self.url,
                        expected='{"scores": [one number per completion]}',
                        fix="start it, or mend policy.rewards; the run goes on from its last checkpoint",
                    ) from error
                time.sleep(2.0**attempt)
        raise AssertionError("the last try returns or raises")


@dataclass(frozen=True)
class Ranked:
    """Labelers who rank the completions of each prompt: the score is the share of the others that one is put above.

    A tie counts half; of several votes it is the mean. Equal texts are shown once. Where all completions of a
    prompt are alike, or all labelers skip it, there is no score. Tasks and votes are kept in the store, in a
    project of their own; completions that were ranked before are not ranked again.
    """

    store: str | Path
    labelers: tuple[Labeler, ...]
    text: Text
    votes: int = 1  # labelers per prompt
    project: str = "policy"

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Scores:
        """See `Reward`."""
        texts = [self.text(sample) for sample in rollout.samples]
        with Store.open(self.store) as store:
            keys = store.add_completions(
                [
                    (
                        prompts[one.prompt],
                        Completion(text, one.completion),
                        {"project": self.project},
                        one.ended,
                    )
                    for one, text in zip(rollout.samples, texts, strict=True)
                ]
            )
            groups: dict[int, list[str]] = {}
            for key, group in zip(keys, rollout.groups, strict=True):
                groups.setdefault(group, []).append(key)
            ranks = self._ranked(store, list(groups.values()))
        said = list(zip(rollout.groups, texts, strict=True))
        shares = {one: ranks[key] for one, key in zip(said, keys, strict=True) if key in ranks}
        known = torch.tensor([one in shares for one in said])
        return Scores(torch.tensor([shares.get(one, 0.0) for one in said]), known)

    def _ranked(self, store: Store, groups: Sequence[Sequence[str]]) -> dict[str, float]:
        """Have the groups ranked, where that was not done before; the score of every completion shown."""
        project = store.add_project(self.project, "loop")
        made = store.create_tasks(
            "ranking", groups, need=self.votes, policy={"selector": "all"}, project=project
        )
        tasks = frozenset(task for task in made.ids if task)
        collect(store, self.labelers, project=project)
        return standings(read_live_votes(store, project), tasks)


@dataclass(frozen=True)
class OtherRewardModel:
    """A reward model with a tokenizer of its own: it reads the text, tokenised anew with its chat template."""

    model: RewardModel
    template: Template
    text: Text

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        """See `Reward`."""
        rows = []
        for sample in rollout.samples:
            messages = prompts[sample.prompt].messages
            answer = self.template.completion_ids(messages, self.text(sample))
            rows.append(Row(tuple(self.template.prompt_ids(messages)), tuple(answer)))
        return self.model.score_rows(rows)


@dataclass(frozen=True)
class Ensemble:
    """Several rewards as one: their mean, their minimum, or the mean less `spread_coef` times the variance.

    What they disagree on is where a policy finds their mistakes (Coste et al. 2023, arXiv:2310.02743).
    """

    members: tuple[Reward, ...]
    combine: Literal["mean", "min", "spread"] = "mean"
    spread_coef: float = 1.0

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Scores:
        """See `Reward`; the standard deviation between members is the part `spread`."""
        each = [checked(member.score(prompts, rollout), prompts, rollout) for member in self.members]
        scores_KN = torch.stack([one.values for one in each])
        known = torch.stack([one.known for one in each]).all(0)
        if self.combine == "min":
            values = scores_KN.min(0).values
        else:
            values = scores_KN.mean(0)
            if self.combine == "spread":
                values = values - self.spread_coef * scores_KN.var(0, unbiased=False)
        return Scores(values, known, {"spread": scores_KN.std(0, unbiased=False)})


@dataclass(frozen=True)
class Mix:
    """A weighted sum of rewards; each part is logged by itself, before its weight."""

    parts: Mapping[str, tuple[float, Reward]]

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Scores:
        """See `Reward`. A completion on which one part has no opinion has no score."""
        n = len(rollout.samples)
        total, known = torch.zeros(n), torch.ones(n, dtype=torch.bool)
        parts: dict[str, Tensor] = {}
        for name, (weight, reward) in self.parts.items():
            found = checked(reward.score(prompts, rollout), prompts, rollout)
            total += weight * found.values
            known &= found.known
            parts[name] = found.values
            parts |= {f"{name}/{inner}": values for inner, values in found.parts.items()}
        return Scores(total, known, parts)


def source_outside(
    part: FunctionPartConfig | ServerPartConfig, text: Text, *, tries: int = 3
) -> FunctionReward | ServerReward:
    """A source of scores that reads text; a server is asked so often before it counts as down."""
    if isinstance(part, FunctionPartConfig):
        return FunctionReward(part.function, function_named(part.function), text)
    return ServerReward(part.url, text, part.timeout, tries)


def function_named(name: str) -> Callable[..., Any]:
    """The function of a dotted name `package.module:function`."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"there is no function {name!r}: {error}",
            where="policy.rewards",
            expected="package.module:function, of a module that Python finds from here",
            fix="check the name, or set PYTHONPATH to the folder of the module",
        ) from error
    if not callable(found):
        raise UserError(
            f"{name!r} is not a function",
            where="policy.rewards",
            expected="something to call, which gives one number for each completion",
            fix="name the function itself: package.module:function",
        )
    called: Callable[..., Any] = found
    return called


def chats_and_texts(
    prompts: Sequence[Prompt], rollout: Rollout, text: Text
) -> tuple[list[list[dict[str, str]]], list[str]]:
    """What a source outside reads: the turns before each completion, and the completion."""
    chats = [[m.as_dict() for m in prompts[sample.prompt].messages] for sample in rollout.samples]
    return chats, [text(sample) for sample in rollout.samples]


def scores_of(
    found: Any, source: str, texts: Sequence[str], prompts: Sequence[Prompt], rollout: Rollout
) -> Scores:
    """What a source gave, once it is clear that it is one finite number or None per completion."""
    n, fix = len(texts), "mend the function or the server"
    expected = f"a list of {n} numbers, one per completion"
    if isinstance(found, torch.Tensor) or type(found).__module__ == "numpy":
        found = found.tolist()
    if not isinstance(found, list | tuple):
        raise UserError(f"the reward {source} gave {found!r:.80}", where=source, expected=expected, fix=fix)
    if len(found) != n:
        raise UserError(
            f"the reward {source} gave {len(found)} scores for {n} completions",
            where=source,
            expected=expected,
            fix=fix,
        )
    for number, score in enumerate(found):
        usable = isinstance(score, numbers.Real) and math.isfinite(score)
        if score is not None and not usable:
            asked = prompts[rollout.samples[number].prompt].text[:EXCERPT]
            raise UserError(
                f"the reward {source} gave {score!r}",
                where=f"the prompt {asked!r}, completion {texts[number][:EXCERPT]!r}",
                expected="a finite number, or None for no opinion",
                fix=fix,
            )
    known = torch.tensor([score is not None for score in found])
    return Scores(torch.tensor([0.0 if score is None else float(score) for score in found]), known)
