"""A language model of a folder or hub name as a judge of answers."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.evaluation.redteam.judges import question_to_judge, reading_of
from concordant.evaluation.redteam.requests import Request
from concordant.models.load import context_length, load_policy
from concordant.pipeline.context import Context, generation_stop_ids, path_of
from concordant.rollout.inline import InlineSampler

REPLY = 8  # tokens that a judge has for its yes or no


class ModelJudge:
    """See `evaluation.redteam.judges.Judge`: asks a model, which says what it finds most likely."""

    def __init__(self, context: Context, model: str) -> None:
        from concordant.data.template import Template, load_tokenizer

        self.name, self.reporter = model, context.reporter
        path = path_of(context.recipe, model)
        self.template = Template(load_tokenizer(path), stop_ids=generation_stop_ids(path))
        loaded = load_policy(path).to(context.machine.device)
        self.room = context_length(loaded) - REPLY
        self.sampler = InlineSampler(
            loaded,
            stop_ids=self.template.stop_ids,
            pad_id=self.template.pad_id,
            limit=REPLY,
            machine=context.machine,
            greedy=True,
            check=context.stop.check,
            say=context.reporter.say,
        )

    def failed(self, pairs: Sequence[tuple[Request, str]]) -> list[bool | None]:
        """The verdict on each pair; None for a reply that is neither yes nor no, and for a pair that does not fit."""
        verdicts: list[bool | None] = [None] * len(pairs)
        ids = [self.template.prompt_ids(question_to_judge(*pair)) for pair in pairs]
        fitting = [n for n, one in enumerate(ids) if len(one) <= self.room]
        if fitting:
            rollout = self.sampler.sample([ids[n] for n in fitting], seed=0)
            for n, sample in zip(fitting, rollout.samples, strict=True):
                verdicts[n] = reading_of(self.template.text(sample.completion))
        unread = verdicts.count(None)
        if unread:
            long = len(pairs) - len(fitting)
            self.reporter.say(
                f"  the judge gave no verdict on {unread} of {len(pairs)} answers, {long} of them too long for it"
            )
        return verdicts
