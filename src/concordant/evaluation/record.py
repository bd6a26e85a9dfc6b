"""Everything that was measured, row by row, and the figures it comes to: `results.json` has nothing else to go by.

record = Record.from_rows("sft", samples, pairs, demonstrations, documents)    # rows of four files
record.figures()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from concordant.evaluation.answers import IDEAL, REPEATED, Answer, gold_gaps, gold_mean
from concordant.evaluation.changes import changes
from concordant.evaluation.config import SAMPLES
from concordant.evaluation.exploits import exploits
from concordant.evaluation.implicit_reward import implicit_figures
from concordant.evaluation.intervals import ratio_of
from concordant.evaluation.model_metrics import across_prompts, describe, relative_to, within_prompts
from concordant.evaluation.non_length_gain import non_length_gain
from concordant.evaluation.pairs import HELD_OUT, LabelledPair
from concordant.evaluation.perplexity import Read, perplexity, text_changes
from concordant.evaluation.reward_model import reward_figures
from concordant.evaluation.showing import side_by_side
from concordant.evaluation.text_metrics import unique_of, vocabularies

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Imitated:
    """How probable a model finds an answer that it was not trained to imitate, written for those who were."""

    model: str
    prompt_id: str
    tokens: int
    nll: float  # sum over its tokens, in nats


@dataclass(frozen=True)
class Record:
    """What the models of a run said and were found to be, in the order in which they were measured."""

    start: str  # the model that training of the policy started from
    answers: Sequence[Answer]
    pairs: Sequence[LabelledPair] = ()
    demonstrations: Sequence[Imitated] = ()
    documents: Sequence[Read] = ()

    @classmethod
    def from_rows(
        cls,
        start: str,
        samples: Iterable[Row],
        pairs: Iterable[Row],
        demonstrations: Iterable[Row],
        documents: Iterable[Row],
    ) -> Record:
        """From the rows of `samples.jsonl`, `pairs.jsonl`, `demonstrations.jsonl` and `documents.jsonl`."""
        return cls(
            start,
            [Answer.from_row(row) for row in samples],
            [LabelledPair.from_row(row) for row in pairs],
            [Imitated(**row) for row in demonstrations],
            [Read(**row) for row in documents],
        )

    def rows(self) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
        """The inverse of `from_rows`."""
        return (
            [answer.as_row() for answer in self.answers],
            [pair.as_row() for pair in self.pairs],
            [asdict(one) for one in self.demonstrations],
            [asdict(one) for one in self.documents],
        )

    @cached_property
    def by_split(self) -> dict[str, dict[str, list[Answer]]]:
        """By model and split, as far as each prompt was answered once."""
        found: dict[str, dict[str, list[Answer]]] = {}
        for answer in self.answers:
            if answer.split != REPEATED:
                found.setdefault(answer.model, {}).setdefault(answer.split, []).append(answer)
        return found

    @cached_property
    def main(self) -> dict[str, list[Answer]]:
        """By model, its answers to the split that is reported first; without the ideal ones."""
        split = self.answers[0].split
        return {name: of[split] for name, of in self.by_split.items() if name != IDEAL}

    @cached_property
    def repeated(self) -> dict[str, list[list[Answer]]]:
        """By model, all its answers to each of the few prompts that were asked many times."""
        found: dict[str, dict[int, list[Answer]]] = {}
        for answer in self.answers:
            if answer.split == REPEATED:
                found.setdefault(answer.model, {}).setdefault(answer.draw, []).append(answer)
        return {name: list(groups.values()) for name, groups in found.items()}

    @cached_property
    def read(self) -> dict[str, list[Read]]:
        """By model, what it made of each held-out document."""
        found: dict[str, list[Read]] = {}
        for one in self.documents:
            found.setdefault(one.model, []).append(one)
        return found

    def figures(self) -> dict[str, Any]:
        """All that these rows say, under the keys of `results.json`."""
        found: dict[str, Any] = {"models": self._models()}
        found["gaps"] = {name: mean.as_dict() for name, mean in gold_gaps(self.main).items()}
        found["changes"] = changes(self.main, self.repeated)
        for pair, figures in text_changes(self.read).items():
            found["changes"][pair] |= figures
        scored = self.main[self.start][0].score is not None
        if scored and "policy" in self.main:
            gain = non_length_gain(self.main["policy"], self.main[self.start])
            found["non_length_gain"] = {f"policy_minus_{self.start}": gain}
            found |= self._exploits()
        held_out = [pair for pair in self.pairs if pair.split == HELD_OUT]
        if scored and held_out:
            found["reward_model"] = reward_figures(self.pairs, self.repeated, self.start)
        if held_out and "policy" in held_out[0].chosen.logprobs:
            found["implicit_reward"] = implicit_figures(held_out, self.start)
        found["samples"] = side_by_side(self.main)
        return found

    def _exploits(self) -> dict[str, Any]:
        """What the score was gained by, where there are prompts enough to say."""
        found = exploits(*([a.as_row() for a in self.main[name]] for name in (self.start, "policy")))
        return {} if found is None else {"exploits": found}

    def _models(self) -> dict[str, Any]:
        vocabulary = vocabularies(answer.text for answer in self.answers)
        found = {}
        for name, splits in self.by_split.items():
            main = next(iter(splits.values()))
            figures = describe(main)
            if main[0].gold is not None:
                golds = {split: gold_mean(rows).as_dict() for split, rows in splits.items()}
                figures["gold_by_split"] = golds
            if name not in (IDEAL, self.start):
                figures |= relative_to(self.main[self.start], main)
            figures["diversity"] = {"across": across_prompts(main, vocabulary)}
            if name in self.repeated:
                figures["diversity"]["within"] = within_prompts(self.repeated[name], vocabulary)
            figures["distinct"] |= self._unique_of_16(name)
            figures |= self._imitated(name)
            if name in self.read:
                figures["text"] = perplexity(self.read[name])
            found[name] = figures
        return found

    def _unique_of_16(self, name: str) -> dict[str, Any]:
        """Different texts among the answers to one prompt; whoever gives the best answer gives it every time."""
        if name == IDEAL:
            return {"unique_of_16": 1 / SAMPLES, "unique_of_16_se": 0.0}
        unique = unique_of([answer.text for answer in group] for group in self.repeated[name]).as_dict()
        return {"unique_of_16": unique["mean"], "unique_of_16_se": unique["se"]}

    def _imitated(self, name: str) -> dict[str, Any]:
        """Nats per token of held-out demonstrations."""
        rows = [row for row in self.demonstrations if row.model == name]
        if not rows:
            return {}
        given = [row.nll for row in rows], [row.tokens for row in rows], [row.prompt_id for row in rows]
        return {"validation_nll": ratio_of(*given).as_dict()}
