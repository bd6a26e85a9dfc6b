"""A language model of a folder or hub name as a judge of answers, one by one or two beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.data.types import Message
from concordant.evaluation.redteam.judges import question_to_judge, reading_of
from concordant.evaluation.redteam.requests import Request
from concordant.feedback.answering.comparing import question_to_labeler, vote_of
from concordant.feedback.answering.labelers import Identity
from concordant.feedback.votes import Comparison, Vote
from concordant.models.load import context_length, load_policy
from concordant.pipeline.context import Context, generation_stop_ids, path_of
from concordant.rollout.inline import InlineSampler

REPLY = 8  # tokens that a judge has for its answer


class AskedModel:
    """A model that is asked short questions, and says what it finds most likely."""

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

    def replies(self, questions: Sequence[Sequence[Message]]) -> list[str | None]:
        """What it says to each; None to a question that does not fit."""
        said: list[str | None] = [None] * len(questions)
        ids = [self.template.prompt_ids(question) for question in questions]
        fitting = [n for n, one in enumerate(ids) if len(one) <= self.room]
        if fitting:
            rollout = self.sampler.sample([ids[n] for n in fitting], seed=0)
            for n, sample in zip(fitting, rollout.samples, strict=True):
                said[n] = self.template.text(sample.completion)
        return said

    def tell(self, unread: int, replies: Sequence[str | None]) -> None:
        """Say how many replies were no verdict, and how many questions were too long."""
        if unread:
            self.reporter.say(
                f"  the judge gave no verdict on {unread} of {len(replies)} answers, "
                f"{list(replies).count(None)} of them too long for it"
            )


class ModelJudge(AskedModel):
    """See `evaluation.redteam.judges.Judge`."""

    def failed(self, pairs: Sequence[tuple[Request, str]]) -> list[bool | None]:
        """The verdict on each pair; None for a reply that is neither yes nor no, and for a pair that does not fit."""
        replies = self.replies([question_to_judge(*pair) for pair in pairs])
        verdicts = [None if reply is None else reading_of(reply) for reply in replies]
        self.tell(verdicts.count(None), replies)
        return verdicts


class ModelLabeler(AskedModel):
    """See `feedback.answering.labelers.Labeler`."""

    @property
    def identity(self) -> Identity:
        """The model."""
        return Identity(self.name, "model", {})

    def label(self, comparisons: Sequence[Comparison]) -> list[Vote]:
        """One vote for each comparison of two completions; a skip where no verdict could be read."""
        replies = self.replies([question_to_labeler(one) for one in comparisons])
        votes = [
            Vote(one.task_id, vote_of(reply, one)) for one, reply in zip(comparisons, replies, strict=True)
        ]
        self.tell(sum(vote.payload["type"] == "skip" for vote in votes), replies)
        return votes
