"""An attack is a request, a chain of converters and a script of turns; a set of attacks is all that go together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from concordant.data.types import Message
from concordant.errors import UserError
from concordant.evaluation.redteam.converters import Converter, convert
from concordant.evaluation.redteam.requests import Request, few_of
from concordant.evaluation.redteam.scripts import SCRIPTS, Asking, Turn, Words
from concordant.worlds.names import nearest


@dataclass(frozen=True)
class Effort:
    """How much is asked, and how it is sampled."""

    attempts: int = 4  # conversations of each attack
    most: int | None = None  # requests of each method, and as many look-alikes
    completion: int = 64  # most tokens of an answer
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """How requests are put. Several methods may be of one family: its rate is taken over all of them."""

    family: str
    chain: tuple[str, ...] = ()
    script: str = "single"
    kinds: tuple[str, ...] = ()  # of requests it is for; none = all


@dataclass(frozen=True)
class Attack:
    """One request put in one way. What it says depends on the answers of the model and on nothing else."""

    method: Method
    request: Request
    asking: Asking

    @property
    def id(self) -> str:
        method = self.method
        return "/".join((method.family, "+".join(method.chain) or "plain", method.script, self.request.id))

    def next(self, answers: Sequence[str]) -> Turn | None:
        """What is said after these answers; None where the attack is over."""
        turn = SCRIPTS[self.method.script](self.asking, answers)
        if turn is None or answers:
            return turn
        return replace(turn, messages=(*self.request.before, *turn.messages))

    @property
    def opening(self) -> str:
        """What its first turn puts into the model's mouth."""
        turn = self.next(())
        return turn.opening if turn else ""

    def counted(self, answers: Sequence[str]) -> list[int]:
        """Which of these answers are answers to the request, rather than to what leads up to it."""
        turns = [self.next(answers[:n]) for n in range(len(answers))]
        return [n for n, turn in enumerate(turns) if turn is not None and turn.asks]

    def as_row(self) -> dict[str, object]:
        """For records."""
        return {
            "attack": self.id,
            "family": self.method.family,
            "chain": list(self.method.chain),
            "script": self.method.script,
            "request": self.request.id,
            "kind": self.request.kind,
            "harmless": self.request.harmless,
        }


@dataclass(frozen=True)
class AttackSet:
    """Requests with their look-alikes, the methods to put them by, and the language this is done in."""

    name: str
    requests: tuple[Request, ...]
    methods: tuple[Method, ...]
    converters: Mapping[str, Converter]
    words: Words

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(method.family for method in self.methods))

    def only(self, families: Iterable[str]) -> AttackSet:
        """The methods of these families. Errors: UserError for an unknown one."""
        wanted = list(families)
        for family in wanted:
            if family not in self.families:
                raise nearest("family of attacks", family, self.families, f"the set {self.name!r}")
        return replace(self, methods=tuple(m for m in self.methods if m.family in wanted))

    def with_chain(self, chain: Sequence[str]) -> AttackSet:
        """This set and a family of all requests through one more chain, named by it."""
        return replace(self, methods=(*self.methods, Method("+".join(chain), tuple(chain))))

    def on(self, requests: Iterable[Request], name: str) -> AttackSet:
        """The same methods on other requests. Errors: UserError where two of them have one name."""
        requests = tuple(requests)
        twice = [name for name, n in Counter(one.id for one in requests).items() if n > 1]
        if twice:
            raise UserError(
                f"{len(twice)} requests come twice, {twice[0]!r} among them",
                where=name,
                expected="every request once, under a name of its own",
                fix="name each file once, and give its rows different ids",
            )
        return replace(self, name=name, requests=requests)

    def attacks(self, most: int | None = None) -> list[Attack]:
        """Every request put by every method that is for its kind; each method gets at most `most` requests, and as
        many of their look-alikes.
        """
        made = []
        for method in self.methods:
            meant = [one for one in self.requests if not method.kinds or one.kind in method.kinds]
            for harmless in (False, True):
                some = few_of([one for one in meant if one.harmless is harmless], most)
                made += [Attack(method, one, self._asking(method, one)) for one in some]
        return made

    def _asking(self, method: Method, request: Request) -> Asking:
        return Asking(convert(request.text, method.chain, self.converters), request, self.words)


def conversation(turns: Sequence[Turn], answers: Sequence[str]) -> list[Message]:
    """What was said so far; the last turn may not be answered yet."""
    said: list[Message] = []
    for n, turn in enumerate(turns):
        said += turn.messages
        said += [Message("assistant", answers[n])] if n < len(answers) else []
    return said
