"""Two models that say what a test wants, as slowly as it wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from concordant.data.types import Completion, Message
from concordant.feedback.answering.finds import Answer
from concordant.pipeline.interrupt import StopRequest


class Parrots:
    """Answers `say(stage, text of the last turn)` after `seconds`, unless a stop is asked for."""

    def __init__(self, say: Callable[[str, str], str] | None = None, seconds: float = 0.0) -> None:
        self.say = say or (lambda stage, text: f"{stage[::-1]} heard {text}")
        self.seconds = seconds
        self.stages = ("sft", "policy")
        self.stop = StopRequest()
        self.heard: list[tuple[Message, ...]] = []

    def answers(self, messages: Sequence[Message], *purpose: object) -> list[Answer]:
        self.heard.append(tuple(messages))
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            self.stop.check()
            time.sleep(0.01)
        said = [(stage, self.say(stage, messages[-1].content)) for stage in self.stages]
        return [Answer(Completion(text), {"stage": stage, "model": "m"}, True) for stage, text in said]
