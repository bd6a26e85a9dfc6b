"""A stage of a run as a model of inspect: `inspect eval TASK --model concordant/runs/demo:policy`.

inspect asks for one answer at a time, many at once; what waits together is sampled together. Greedy answers do not
depend on who waits beside them, sampled ones do.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)

from concordant.app.runs import recipe_of
from concordant.app.terminal import quiet_libraries
from concordant.data.types import Message
from concordant.errors import UserError
from concordant.models.load import load_policy
from concordant.pipeline.afterwards import context_after, fingerprint_of_model, finished_stages
from concordant.pipeline.parts.sampling import sampler_of
from concordant.pipeline.recipe import load_recipe, parse_overrides
from concordant.pipeline.reporter import Silent
from concordant.rollout.rollout import Sample
from concordant.seeds import derive

TOGETHER = 64  # conversations that inspect may ask at once
PATIENCE = 0.02  # seconds that a conversation waits for others to be sampled with
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class _Manner:
    """What has to be alike for conversations to be sampled together."""

    length: int
    temperature: float
    samples: int
    seed: int


@dataclass(frozen=True)
class _Question:
    ids: tuple[int, ...]
    manner: _Manner
    answers: Future[list[Sample]]


class StageModel(ModelAPI):  # type: ignore[misc]  # the package has no types that are known here
    """A policy of a run. Raises UserError for a name that is none, and where the stage is not finished."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **_: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        run, colon, stage = model_name.rpartition(":")
        if not colon:
            raise UserError(
                f"{model_name!r} names no stage of a run",
                where="--model",
                expected="concordant/RUN:STAGE, as in concordant/runs/demo:policy",
                fix=f"--model concordant/{model_name}:policy",
            )
        quiet_libraries()
        folder = Path(run)
        path, words = recipe_of(folder)
        recipe = load_recipe(path, parse_overrides(words))
        done = finished_stages(folder)
        fingerprint_of_model(recipe, folder, done, stage)
        self._context = context_after(recipe, folder, done, Silent(), purpose="inspect")
        self._model = load_policy(self._context.model_path(stage)).to(self._context.machine.device)
        self._limit = self._context.limit(self._model)
        self._completion = recipe.evaluate.completion if recipe.evaluate else self._limit // 2
        self._rounds = 0
        self._waiting: queue.Queue[_Question] = queue.Queue()
        threading.Thread(target=self._answer_all, daemon=True).start()

    def max_connections(self) -> int:
        """See `ModelAPI`."""
        return TOGETHER

    async def generate(
        self, input: list[Any], tools: list[Any], tool_choice: Any, config: GenerateConfig
    ) -> ModelOutput:
        """See `ModelAPI`. Raises ValueError for tools, and for sampling from less than the whole distribution."""
        _refuse_what_we_cannot(tools, config)
        ids = self._context.template.prompt_ids([_message(one) for one in input])
        most = min(config.max_tokens or self._completion, self._limit - len(ids))
        if most < 1:
            return ModelOutput.from_content(self.model_name, "", stop_reason="model_length")
        manner = _Manner(
            most,
            1.0 if config.temperature is None else config.temperature,
            config.num_choices or 1,
            config.seed if config.seed is not None else self._context.recipe.seed,
        )
        question = _Question(ids, manner, Future())
        self._waiting.put(question)
        samples = await anyio.to_thread.run_sync(question.answers.result)
        return self._output(ids, samples, config.stop_seqs or ())

    def _output(self, ids: Sequence[int], samples: Sequence[Sample], ends: Sequence[str]) -> ModelOutput:
        choices = []
        for sample in samples:
            text = whole = self._context.template.text(sample.completion)
            for end in ends:
                text = text.split(end)[0]
            ended = sample.ended or text != whole
            said = ChatMessageAssistant(content=text, model=self.model_name, source="generate")
            choices.append(ChatCompletionChoice(message=said, stop_reason="stop" if ended else "max_tokens"))
        written = sum(len(sample.completion) for sample in samples)
        usage = ModelUsage(input_tokens=len(ids), output_tokens=written, total_tokens=len(ids) + written)
        return ModelOutput(model=self.model_name, choices=choices, usage=usage)

    def _answer_all(self) -> None:
        """Sample what waits, for as long as the process lives."""
        while True:
            asked = [self._waiting.get()]
            while len(asked) < TOGETHER:
                try:
                    asked.append(self._waiting.get(timeout=PATIENCE))
                except queue.Empty:
                    break
            for manner in dict.fromkeys(one.manner for one in asked):
                self._answer([one for one in asked if one.manner == manner], manner)

    def _answer(self, asked: Sequence[_Question], manner: _Manner) -> None:
        """Give each conversation its answers."""
        try:
            found = self._sampled(asked, manner)
        except BaseException as error:  # whoever waits has to hear of it
            for one in asked:
                one.answers.set_exception(error)
            return
        for one, samples in zip(asked, found, strict=True):
            one.answers.set_result(samples)

    def _sampled(self, asked: Sequence[_Question], manner: _Manner) -> list[list[Sample]]:
        sampler = sampler_of(
            self._context,
            self._model,
            completion=manner.length,
            temperature=manner.temperature or 1.0,
            stops=False,
        )
        sampler.greedy = not manner.temperature
        self._rounds += 1  # a question that comes again, as in another epoch, must not get the same draws
        seed = derive(manner.seed, "inspect", self._rounds)
        rollout = sampler.sample([one.ids for one in asked], samples=manner.samples, seed=seed)
        n = manner.samples
        return [list(rollout.samples[place * n : (place + 1) * n]) for place in range(len(asked))]


def _refuse_what_we_cannot(tools: Sequence[Any], config: GenerateConfig) -> None:
    if tools:
        raise ValueError("models of a run call no tools")
    narrow = {"top_p": config.top_p, "top_k": config.top_k}
    for name, value in narrow.items():
        if value not in (None, 1, 1.0) and config.temperature != 0:
            raise ValueError(
                f"{name}={value}: the whole distribution is sampled; leave it out, or set temperature=0"
            )


def _message(one: Any) -> Message:
    if one.role not in ROLES:
        raise ValueError(f"a turn of {one.role!r}: models of a run know {', '.join(ROLES)}")
    return Message(one.role, one.text)
