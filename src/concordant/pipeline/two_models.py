"""Two finished models of a run that answer the same conversation, for people who attack them blind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from concordant.data.types import Message
from concordant.errors import UserError
from concordant.feedback.answering.finds import Answer
from concordant.models.load import load_policy
from concordant.pipeline.afterwards import MODELS, context_after, fingerprint_of_model, finished_stages
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.parts.sampling import completion_of, sampler_of
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Reporter

USUAL = ("sft", "policy")


class TwoModels:
    """Both models, loaded. One conversation at a time: whoever has several lets them wait."""

    def __init__(
        self,
        recipe: Recipe,
        run_folder: Path,
        stages: Sequence[str],
        reporter: Reporter,
        *,
        completion: int,
        temperature: float,
    ) -> None:
        """Load the models of two stages. Errors: UserError for other than two, and for one that is not finished."""
        if len(set(stages)) != 2 or not set(stages) <= set(MODELS):
            raise UserError(
                f"people talk to {' and '.join(stages)}",
                where="--stages",
                expected=f"two of {', '.join(MODELS)}",
                fix=f"name two, such as --stages {','.join(USUAL)}",
            )
        done = finished_stages(run_folder)
        self.stages = tuple(sorted(stages, key=MODELS.index))
        prints = [fingerprint_of_model(recipe, run_folder, done, name) for name in self.stages]
        self.producers = [
            {"stage": name, "model": model, "temperature": temperature}
            for name, model in zip(self.stages, prints, strict=True)
        ]
        self.context = context_after(
            recipe, run_folder, done, reporter, purpose="two models", stop=StopRequest()
        )
        models = [
            load_policy(self.context.model_path(name)).to(self.context.machine.device) for name in self.stages
        ]
        self.samplers = [
            sampler_of(self.context, one, completion=completion, temperature=temperature) for one in models
        ]
        self.room = min(self.context.limit(one) for one in models) - completion

    @property
    def stop(self) -> StopRequest:
        """With it the answers under way end between two tokens."""
        return self.context.stop

    def answers(self, messages: Sequence[Message], *purpose: object) -> list[Answer]:
        """What each of them says next, in the order of `stages`; the seed follows from `purpose`.

        Nothing of a conversation is forgotten: what is answered is what stands on the page. Errors: UserError where it
        has grown longer than the models can read; Interrupted where a stop was asked for.
        """
        prompt = tuple(self.context.template.prompt_ids(messages))
        if len(prompt) > self.room:
            raise UserError(
                f"this conversation has {len(prompt):,} tokens",
                where="the two models",
                expected=f"at most {self.room:,}, so that there is room for an answer",
                fix="say it in fewer words, or begin a new conversation",
            )
        seed = self.context.seed(*purpose)
        said = []
        for sampler, producer in zip(self.samplers, self.producers, strict=True):
            self.stop.check()
            (sample,) = sampler.sample([prompt], seed=seed).samples
            said.append(Answer(completion_of(self.context, sample), {**producer, "seed": seed}, sample.ended))
        return said
