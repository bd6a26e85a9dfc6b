"""Conversations between attacks and a model: all that wait for an answer are answered together, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from concordant.data.template import Ids
from concordant.data.types import Message
from concordant.errors import UserError
from concordant.evaluation.redteam.attacks import Attack, Effort, conversation
from concordant.evaluation.redteam.figures import Record
from concordant.evaluation.redteam.scripts import Turn
from concordant.pipeline.context import Context
from concordant.pipeline.parts.sampling import kept_sampler_of


@dataclass
class Talk:
    """One conversation under way."""

    attack: Attack
    attempt: int
    turns: list[Turn] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    fits: bool = True

    def goes_on(self) -> bool:
        """Take the attack's next turn; False where it has none."""
        turn = self.attack.next(self.answers) if self.fits else None
        self.turns += [turn] if turn else []
        return turn is not None

    def messages(self) -> list[Message]:
        """All that is said before the next answer, or was before the last one."""
        return conversation(self.turns, self.answers[: len(self.turns) - 1])

    def record(self, stage: str) -> Record:
        return Record(
            stage,
            self.attack,
            self.attempt,
            tuple(self.messages()),
            tuple(self.answers) if self.fits else (),
        )


class Talks:
    """The conversations of one model."""

    def __init__(self, context: Context, model: Any, effort: Effort) -> None:
        self.context, self.effort = context, effort
        self.sampler = kept_sampler_of(
            context, model, completion=effort.completion, temperature=effort.temperature, most=None
        )
        self.room = context.limit(model) - effort.completion

    def held(self, stage: str, attacks: Sequence[Attack]) -> list[Record]:
        """Every attack as often as the effort says. What does not fit into the context is left without an answer."""
        talks = [Talk(one, n) for one in attacks for n in range(self.effort.attempts)]
        turn, waiting = 0, talks
        with self.context.reporter.activity(f"attacking {stage}", len(talks), "conversations") as progress:
            while waiting := [talk for talk in waiting if talk.goes_on()]:
                progress.to(len(talks) - len(waiting), f"turn {turn + 1}")
                self._answer(waiting, turn)
                turn += 1
            progress.to(len(talks))
        return [talk.record(stage) for talk in talks]

    def _answer(self, talks: Sequence[Talk], turn: int) -> None:
        """The next answer of each conversation that still fits."""
        template = self.context.template
        asked = [(talk, *self._ids(talk)) for talk in talks]
        for talk, prompt, opening in asked:
            talk.fits = len(prompt) + len(opening) <= self.room
        asked = [one for one in asked if one[0].fits]
        if not asked:
            return
        seed = self.context.seed(self.effort.seed, turn)
        rollout = self.sampler.sample([(*prompt, *opening) for _, prompt, opening in asked], seed=seed)
        for (talk, _, opening), sample in zip(asked, rollout.samples, strict=True):
            talk.answers.append(template.text((*opening, *sample.completion)))

    def _ids(self, talk: Talk) -> tuple[Ids, Ids]:
        """Of what was said, and of the beginning of an answer that is given."""
        template, messages = self.context.template, talk.messages()
        if not self._knows_system_turns:
            messages = _without_system(messages)
        opening = talk.turns[-1].opening
        given = template.completion_ids(messages, opening)[:-1] if opening else ()
        return template.prompt_ids(messages), given

    @cached_property
    def _knows_system_turns(self) -> bool:
        """Whether the chat template takes them; some refuse, and then they stand before what the user says."""
        try:
            self.context.template.prompt_ids((Message("system", "a"), Message("user", "b")))
        except UserError:
            return False
        return True


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """A system turn in front becomes the beginning of the first user turn."""
    if messages[0].role != "system":
        return list(messages)
    system, first, *rest = messages
    return [Message("user", f"{system.content}\n\n{first.content}"), *rest]
