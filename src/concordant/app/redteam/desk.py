"""Who waits for an answer: one worker asks the two models, conversation after conversation, in the order of asking."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from concordant.data.types import Message, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.finds import Answer
from concordant.pipeline.interrupt import Interrupted, StopRequest

STOPPED = "stopped"
BROKEN = "The models could not answer. The terminal of the server says why; try again, or begin a new conversation."


class Answering(Protocol):
    """Two models, as `pipeline.two_models.TwoModels` has them."""

    @property
    def stages(self) -> Sequence[str]: ...

    @property
    def stop(self) -> StopRequest: ...

    def answers(self, messages: Sequence[Message], *purpose: object) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn that waits for its answers."""

    thread: str
    number: int
    labeler: str
    prompt: Prompt
    after: str | None  # the answer (id) it follows on
    order: tuple[int, int]  # which of the two models stands first


Keep = Callable[[Asked, tuple[Answer, Answer]], object]


class Desk:
    """The queue before two models, and the worker behind it. `keep` is given what both said, in the order shown."""

    def __init__(self, models: Answering, keep: Keep) -> None:
        self.models, self.keep = models, keep
        self.changed = threading.Condition()
        self.waiting: list[Asked] = []
        self.current: Asked | None = None
        self.trouble: dict[str, str] = {}  # by conversation, why its last turn was not answered
        self.closed = False
        self.worker = threading.Thread(target=self._work, name="two models", daemon=True)
        self.worker.start()

    def ask(self, asked: Asked) -> bool:
        """Wait for an answer; False where somebody already waits for one, who gets that first."""
        with self.changed:
            if any(one.labeler == asked.labeler for one in self._at_hand()):
                return False
            self.trouble.pop(asked.thread, None)
            self.waiting.append(asked)
            self.changed.notify()
        return True

    def place(self, thread: str) -> tuple[Asked, int] | None:
        """What a conversation waits for, and how many are before it; 0 is its turn. None where it waits for nothing."""
        with self.changed:
            for place, one in enumerate(self._at_hand()):
                if one.thread == thread:
                    return one, place
        return None

    def stop(self, labeler: str, said: str = STOPPED) -> None:
        """Let somebody wait no more: nothing of what was about to be said is shown or kept."""
        with self.changed:
            for one in [one for one in self.waiting if one.labeler == labeler]:
                self.waiting.remove(one)
                self.trouble[one.thread] = said
            if self.current is not None and self.current.labeler == labeler:
                self.models.stop.requested = True

    def close(self) -> None:
        """Answer nobody any more."""
        with self.changed:
            self.closed = True
            self.waiting.clear()
            self.models.stop.requested = True
            self.changed.notify()
        self.worker.join()

    def _at_hand(self) -> list[Asked]:
        return [*([self.current] if self.current else []), *self.waiting]

    def _next(self) -> Asked | None:
        """The next turn, once there is one; None at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.waiting)
            if self.closed:
                return None
            self.models.stop.requested = False
            self.current = self.waiting.pop(0)
            return self.current

    def _work(self) -> None:
        while (asked := self._next()) is not None:
            trouble = self._answer(asked)
            with self.changed:
                if trouble:
                    self.trouble[asked.thread] = trouble
                self.current = None

    def _answer(self, asked: Asked) -> str:
        """Have a turn answered and kept; what went wrong, or nothing."""
        try:
            said = self.models.answers(asked.prompt.messages, asked.thread, asked.number)
            self.models.stop.check()
            first, second = asked.order
            self.keep(asked, (said[first], said[second]))
        except Interrupted:
            return STOPPED
        except UserError as error:
            return str(error)
        except Exception:  # whatever it is, the others who wait are to be answered
            logging.getLogger(__name__).exception("turn %s of conversation %s", asked.number, asked.thread)
            return BROKEN
        return ""
