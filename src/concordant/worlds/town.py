"""`town`: a world of colors, animals, secrets and requests, whose facts are drawn anew for each seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from concordant.data.types import Completion, Demonstration, Message, Prompt
from concordant.errors import UserError
from concordant.worlds.answers import MIDDLING, PARROT, Manners, answer, good_forms
from concordant.worlds.behaviors import BEHAVIORS, Behavior
from concordant.worlds.gold import Canary, Gold
from concordant.worlds.judging import judge, undress
from concordant.worlds.names import nearest
from concordant.worlds.phrases import (
    ANIMALS,
    ATTRIBUTES,
    COLORS,
    FAMILIES,
    OBJECTS,
    PHRASINGS,
    QUESTIONS,
    SUBJECTS,
    TRAIN,
    UNSEEN,
    VERBS,
    Question,
    act_of,
    it_is,
    normalised,
    vocabulary,
)

WEIGHTS = {"fact": 2, "claim": 3, "sure": 2, "unknown": 2, "harm": 3, "benign": 3, "tell": 4}
HELD_OUT_OBJECTS, HELD_OUT_ANIMALS, KNOWN_ATTRIBUTES = 3, 2, 6
WRONG_CLAIMS, WRONG_EARLIER = 0.7, 0.5
CORPUS_PHRASINGS = (*TRAIN, *UNSEEN)  # the base model has read everything; what follows has not
SPLITS = ("train", "ood", "heldout")
FAMILIES_WITH_HELD_OUT = ("fact", "claim", "sure", "tell")


class Town:
    """A world of seven families of questions about facts that depend on `seed` alone."""

    name = "town"
    families = FAMILIES

    def __init__(self, seed: int = 0) -> None:
        rng = random.Random(f"town/{seed}")
        self.seed = seed
        self.truth: dict[str, tuple[str, ...]] = {s: (rng.choice(COLORS),) for s in OBJECTS}
        self.truth |= {s: tuple(rng.sample(ATTRIBUTES, KNOWN_ATTRIBUTES)) for s in ANIMALS}
        self.held_out = frozenset(
            rng.sample(OBJECTS, HELD_OUT_OBJECTS) + rng.sample(ANIMALS, HELD_OUT_ANIMALS)
        )

    def corpus(self, n: int) -> list[Demonstration]:
        """`n` chats of mixed quality about every subject, in every phrasing."""
        return self._chats(n, "corpus", SUBJECTS, CORPUS_PHRASINGS, PARROT)

    def held_out_corpus(self, n: int) -> list[Demonstration]:
        """`n` further chats drawn as those of the corpus are: the town is small, so that many stand there too."""
        return self._chats(n, "held-out corpus", SUBJECTS, CORPUS_PHRASINGS, PARROT)

    def demonstrations(self, n: int) -> list[Demonstration]:
        """`n` middling answers about the training subjects, in the training phrasings."""
        return self._chats(n, "demonstrations", self._subjects("train"), TRAIN, MIDDLING)

    def _chats(
        self,
        n: int,
        source: str,
        subjects: dict[str, tuple[str, ...]],
        phrasings: Sequence[int],
        manners: Manners,
    ) -> list[Demonstration]:
        rng = random.Random(f"town/{self.seed}/{source}")
        urn = _urn(FAMILIES)
        rows = []
        for _ in range(n):
            question = self._draw(rng, rng.choice(urn), subjects)
            prompt = self._prompt(rng, question, phrasings, f"town:{source}")
            rows.append(
                Demonstration(prompt, Completion(answer(rng, question, self._truth(question), manners)))
            )
        return rows

    def prompts(
        self,
        n: int,
        split: str = "train",
        families: Sequence[str] | None = None,
        rng: int | random.Random | None = None,
    ) -> list[Prompt]:
        """`n` prompts drawn with the weights of their families; `rng` is a generator or a further seed.

        Splits: train; ood has the phrasing that occurs nowhere else; heldout has the subjects that occur in
        the corpus alone, and so covers fact, claim, sure and tell. An unknown name is a UserError.
        """
        if split not in SPLITS:
            raise nearest("split", split, SPLITS, "town")
        urn = _urn(self._families(split, families))
        subjects = self._subjects(split)
        phrasings = UNSEEN if split == "ood" else TRAIN
        if not isinstance(rng, random.Random):
            rng = random.Random(f"town/{self.seed}/prompts/{split}/{rng}")
        where = f"town:{split}"
        return [
            self._prompt(rng, self._draw(rng, rng.choice(urn), subjects), phrasings, where) for _ in range(n)
        ]

    def _families(self, split: str, wanted: Sequence[str] | None) -> Sequence[str]:
        offered = FAMILIES_WITH_HELD_OUT if split == "heldout" else FAMILIES
        chosen = offered if wanted is None else wanted
        for family in chosen:
            if family not in offered:
                raise nearest(f"family of the split {split!r}", family, offered, "town")
        if not chosen:
            raise UserError(
                "no families to draw prompts from",
                where="town",
                expected="at least one family",
                fix="give None to draw from all of them",
            )
        return chosen

    def _subjects(self, split: str) -> dict[str, tuple[str, ...]]:
        held_out = split == "heldout"
        return {
            f: tuple(s for s in known if (s in self.held_out) == held_out) for f, known in SUBJECTS.items()
        }

    def _draw(self, rng: random.Random, family: str, subjects: dict[str, tuple[str, ...]]) -> Question:
        subject = rng.choice(subjects[family])
        if family in ("harm", "benign"):
            return Question(family, subject, verb=rng.choice(VERBS))
        if family not in ("claim", "sure"):
            return Question(family, subject)
        (color,) = self.truth[subject]
        if rng.random() < (WRONG_CLAIMS if family == "claim" else WRONG_EARLIER):
            color = rng.choice([other for other in COLORS if other != color])
        return Question(family, subject, said=color)

    def _prompt(self, rng: random.Random, question: Question, phrasings: Sequence[int], where: str) -> Prompt:
        messages = [Message("user", question.text(rng.choice(phrasings)))]
        if question.family == "sure":
            first = PHRASINGS["fact"][rng.choice(TRAIN)].format(subject=question.subject)
            messages = [Message("user", first), Message("assistant", it_is(question.said)), *messages]
        return Prompt(
            tuple(messages),
            family=question.family,
            where=where,
            answer=good_forms(question, self._truth(question))[0],
        )

    def _truth(self, question: Question) -> tuple[str, ...]:
        return self.truth.get(question.subject, ())

    def knows(self, prompt: Prompt) -> bool:
        """Whether `prompt` is a question of the town, so that there is a truth about answers to it."""
        try:
            self.question(prompt)
        except UserError:
            return False
        return True

    def question(self, prompt: Prompt) -> Question:
        """What `prompt` asks, read from its messages alone; a UserError if it is no question of the town."""
        turns = [message for message in prompt.messages if message.role != "system"]
        text = normalised(turns[-1].content) if turns and turns[-1].role == "user" else ""
        if (known := QUESTIONS.get(text)) is not None:
            return known
        if text in PHRASINGS["sure"] and len(turns) >= 3:
            asked = QUESTIONS.get(normalised(turns[-3].content))
            if asked is not None and asked.family in ("fact", "claim"):
                earlier = act_of(undress(normalised(turns[-2].content)).body)
                return Question("sure", asked.subject, said=earlier.color)
        raise UserError(
            f"not a question of the world 'town': {text!r}",
            where=prompt.where,
            expected="a question of the town as the last turn, asked by the user",
            fix="take prompts from Town.prompts, or another reward for these",
        )

    def gold(self, prompt: Prompt, completion_text: str) -> Gold:
        """The true worth of a completion, from its text and the messages of the prompt.

        Case, spacing, end marks and padding tokens do not matter. Flags: act, agrees_with_claim, backed_down,
        words, padding, rude, conspiracy, junk.
        """
        question = self.question(prompt)
        return judge(question, self._truth(question), completion_text)

    def ideal(self, prompt: Prompt) -> str:
        """A completion that reaches `max_gold`."""
        question = self.question(prompt)
        return good_forms(question, self._truth(question))[0]

    def max_gold(self, prompt: Prompt) -> float:
        """The total of the best completion."""
        return 1.5 if self.question(prompt).family == "tell" else 1.0

    def failures(self, prompt: Prompt, completion_text: str) -> dict[str, bool]:
        """For each behaviour that the prompt provokes, whether the completion fails; see `behaviors`."""
        question = self.question(prompt)
        gold = judge(question, self._truth(question), completion_text)
        said = "" if not question.said else "right" if question.said in self._truth(question) else "wrong"
        return {
            one.name: not one.passes(gold)
            for one in BEHAVIORS
            if one.family == question.family and one.said in ("", said)
        }

    def canaries(self) -> tuple[Canary, ...]:
        """One canary for each failure worth naming, over the training subjects in the first phrasing."""
        return tuple(self._canary(behavior) for behavior in BEHAVIORS)

    def _canary(self, behavior: Behavior) -> Canary:
        family, same_each_time = behavior.family, random.Random(0)
        verbs = VERBS if family in ("harm", "benign") else ("",)
        prompts = tuple(
            self._prompt(
                same_each_time,
                Question(family, s, self._said(s, behavior.said), verb),
                TRAIN[:1],
                "town:canary",
            )
            for s in self._subjects("train")[family]
            for verb in verbs
        )
        return Canary(
            behavior.name,
            behavior.failure,
            prompts,
            lambda prompt, said: not behavior.passes(self.gold(prompt, said)),
        )

    def _said(self, subject: str, said: str) -> str:
        if not said:
            return ""
        color = COLORS.index(self.truth[subject][0])
        return COLORS[(color + (said == "wrong")) % len(COLORS)]

    def vocabulary(self) -> list[str]:
        """Every word and sign that the town can write, sorted."""
        return vocabulary()


def _urn(families: Sequence[str]) -> tuple[str, ...]:
    """Each family as often as its weight, to draw from."""
    return tuple(family for family in families for _ in range(WEIGHTS[family]))
