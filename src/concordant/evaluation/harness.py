"""Models of ours as lm-evaluation-harness asks them, in this process, and its tasks.

Needs the extra `lm-eval`; nothing else imports it. What is asked goes through our own forward passes and sampler.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import evaluate
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs
from lm_eval.tasks import TaskManager

from concordant.data.batches import Row
from concordant.data.sources import nearest
from concordant.data.template import Template
from concordant.errors import UserError
from concordant.evaluation.likelihood import likelihoods, windows
from concordant.evaluation.tasks import Metric, Outcome, Scored
from concordant.models.hardware import Machine
from concordant.models.memory import Budget
from concordant.rollout.inline import InlineSampler
from concordant.seeds import derive

FEW_SHOT_SEED = 1234  # that of the harness: the same examples stand before a question for every stage
FIRST = 32  # tokens that are sampled before anybody looks for the text that ends an answer
TRUNCATES = ("top_p", "top_k", "min_p", "typical_p")  # settings that sample from less than the distribution

Ids = tuple[int, ...]


class Harness(TemplateLM):  # type: ignore[misc]  # the package has no types that are known here
    """A policy with its template.

    `limit`: its longest sequence, in tokens; `check` is called between two passes and may raise.
    """

    def __init__(
        self,
        model: Any,
        template: Template,
        *,
        limit: int,
        tokens: Budget,
        machine: Machine,
        seed: int = 0,
        check: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.template, self.limit = model, template, limit
        self.tokens, self.machine, self.seed, self.check = tokens, machine, seed, check

    @property
    def tokenizer(self) -> Any:
        """See `TemplateLM`, which reads the chat template from it."""
        return self.template.tokenizer

    @property
    def tokenizer_name(self) -> str:
        """See `LM`."""
        return self.template.fingerprint

    @property
    def eot_token_id(self) -> int:
        """See `TemplateLM`."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """See `TemplateLM`."""
        return self.template.prefix_id

    @property
    def max_length(self) -> int:
        """Most tokens that are read before the last one is predicted."""
        return self.limit - 1

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids as the tokenizer itself gives them, without a second BOS where the text begins with one."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        given = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **given))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A chat as text; where nothing is to be generated its last turn stays open."""
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """See `LM`."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        return self._read([self._row(*request) for request in requests])

    def _row(self, texts: tuple[str, str], context: list[int], continuation: list[int]) -> Row:
        """A question cut on the left to what fits; the answer has to fit whole."""
        room = self.limit - len(continuation)
        if not continuation or room < 1:
            raise UserError(
                f"an answer of {len(continuation)} tokens cannot be scored: {texts[1][:60]!r}",
                where="the task",
                expected=f"1 to {self.limit - 1} tokens, and one before them: the model's context has {self.limit}",
                fix="take a task with answers that fit, or a model with a longer context",
            )
        return Row(tuple(context[-room:]), tuple(continuation))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """See `LM`."""
        texts = [
            list(windows(self.tok_encode(text), self.prefix_token_id, self.limit))
            for (text,) in (request.args for request in requests)
        ]
        said = iter(self._read([row for rows in texts for row in rows]))
        return [sum(next(said)[0] for _ in rows) for rows in texts]

    def _read(self, rows: Sequence[Row]) -> list[tuple[float, bool]]:
        """Each different row is read once: tasks ask the same of several metrics."""
        places = {row: number for number, row in enumerate(dict.fromkeys(rows))}
        found = likelihoods(
            self.model,
            list(places),
            tokens=self.tokens,
            pad_id=self.template.pad_id,
            machine=self.machine,
            check=self.check,
        )
        return [(found[places[row]].logprob, found[places[row]].greedy) for row in rows]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """See `LM`."""
        groups: dict[_Manner, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(_manner(request.args[1], self.max_length), []).append(place)
        found = [""] * len(requests)
        for manner, places in groups.items():
            room = self.max_length - manner.most
            prompts = [tuple(self.tok_encode(requests[place].args[0])[-room:]) for place in places]
            for place, text in zip(places, self._written(prompts, manner), strict=True):
                found[place] = text
        return found

    def _written(self, prompts: Sequence[Ids], manner: _Manner) -> list[str]:
        """Answers up to the first text that ends them. Few tokens come first, as most answers end soon."""
        written: list[Ids] = [()] * len(prompts)
        going, length = list(range(len(prompts))), 0
        while going:
            more = min(max(FIRST, length), manner.most - length)
            sampler = self._sampler(more, manner.temperature)
            asked = [prompts[n] + written[n] for n in going]
            rollout = sampler.sample(asked, seed=derive(self.seed, "tasks", length))
            length += more
            left = []
            for n, sample in zip(going, rollout.samples, strict=True):
                written[n] += sample.completion
                ended = (
                    sample.ended or length >= manner.most or manner.ends_in(self.template.text(written[n]))
                )
                left += [] if ended else [n]
            going = left
        return [manner.cut(self.template.text(ids)) for ids in written]

    def _sampler(self, length: int, temperature: float) -> InlineSampler:
        return InlineSampler(
            self.model,
            stop_ids=self.template.stop_ids,
            pad_id=self.template.pad_id,
            limit=length,
            machine=self.machine,
            temperature=temperature or 1.0,
            greedy=not temperature,
            check=self.check,
            say=self.tokens.say,
        )


@dataclass(frozen=True)
class _Manner:
    """How a task wants answers to be generated."""

    until: tuple[str, ...]
    most: int
    temperature: float  # 0 = the most probable token each time

    def cut(self, text: str) -> str:
        """The text before the first of the texts that end an answer."""
        for end in self.until:
            text = text.split(end)[0]
        return text

    def ends_in(self, text: str) -> bool:
        return any(end in text for end in self.until)


def _manner(settings: Mapping[str, Any], most: int) -> _Manner:
    given = normalize_gen_kwargs(dict(settings), min(256, most // 2))
    temperature = float(given.get("temperature") or 0.0) if given.get("do_sample") else 0.0
    narrow = [name for name in TRUNCATES if given.get(name) not in (None, 0, 1, 1.0)]
    if temperature and narrow:
        raise UserError(
            f"the task samples with {narrow[0]} = {given[narrow[0]]}",
            where="generation_kwargs of the task",
            expected="greedy answers, or the whole distribution at a temperature",
            fix="set do_sample: false in the task, or leave this setting out",
        )
    if given["max_gen_toks"] >= most:
        raise UserError(
            f"the task wants answers of up to {given['max_gen_toks']} tokens",
            where="generation_kwargs of the task",
            expected=f"room for a question: the model reads {most} tokens",
            fix=f"set max_gen_toks: {most // 2} in the task, or take a model with a longer context",
        )
    return _Manner(tuple(filter(None, given["until"])), given["max_gen_toks"], temperature)


def load_tasks(names: Sequence[str], include: str = "") -> dict[str, Any]:
    """The tasks of these names, a group by its tasks: of the folder `include`, and else of the harness itself.

    Loading a task fetches its data, from where the task says. Errors: UserError for names that are not known, and for
    tasks whose data cannot be had.
    """
    own = TaskManager(include_path=include or None, include_defaults=False)
    whole = set(names) <= set(own.all_tasks)
    manager = own if whole else TaskManager(include_path=include or None, include_defaults=True)
    for name in names:
        if name not in manager.all_tasks:
            like = nearest(name, manager.all_tasks)
            raise UserError(
                f"there is no task {name!r}",
                where="--tasks",
                expected="a task or group of lm-evaluation-harness, or of the folder given with --include",
                fix=f"did you mean {', '.join(like)}?" if like else "lm-eval ls tasks says which there are",
            )
    try:
        with _quiet():
            loaded: dict[str, Any] = manager.load(list(names))
    except UserError:
        raise
    except Exception as error:  # a task is somebody's code and data: it may fail in any way
        raise _failed(error, "loaded") from error
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    return loaded


def ask(
    model: Harness, loaded: Mapping[str, Any], *, most: int | None, chat: bool
) -> dict[str, tuple[Outcome, list[dict[str, Any]]]]:
    """By task what the model scored, and a row for each document; `most`: the first so many documents of each."""
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(seed=FEW_SHOT_SEED)
    try:
        with _quiet():
            found = evaluate(
                model,
                loaded,
                limit=most,
                bootstrap_iters=0,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
            )
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, NotImplementedError, AssertionError) as error:
        raise _failed(error, "asked") from error
    return {name: _outcome(name, task, found) for name, task in loaded["tasks"].items()}


def _failed(error: Exception, what: str) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"a task cannot be {what}: {type(error).__name__}: {reason}",
        where="--tasks",
        expected="tasks whose files and data are here, or can be had",
        fix="check the task's file; where its data is on the hub, the network (unset HF_HUB_OFFLINE)",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and the notices of the harness: the terminal shows progress of its own."""
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        log.setLevel(before)


def _outcome(name: str, task: Any, found: Mapping[str, Any]) -> tuple[Outcome, list[dict[str, Any]]]:
    how = {metric: function.__name__ for metric, function in task.aggregation().items()}
    better = found["higher_is_better"][name]
    rows: dict[int, dict[str, Any]] = {}
    metrics: dict[str, Metric] = {}
    for sample in found["samples"][name]:
        row = rows.setdefault(sample["doc_id"], _question(sample))
        for metric in sample["metrics"]:
            title = metric if sample["filter"] == "none" else f"{metric}.{sample['filter']}"
            value = _value(sample[metric], how.get(metric, ""))
            if value is not None:
                row["values"][title] = value
            reported = found["results"][name].get(f"{metric},{sample['filter']}")
            metrics[title] = Metric(better.get(metric) is not False, _number(reported))
    kept = [rows[document] for document in sorted(rows)]
    scored = [Scored.from_row(row) for row in kept]
    return Outcome(str(found["versions"].get(name, "")), found["n-shot"].get(name, 0), metrics, scored), kept


def _question(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A document as it was asked, and what was said: texts, or log-probabilities of the answers that were offered."""
    asked = [[one for one in arguments if isinstance(one, str)] for arguments in sample["arguments"]]
    row = {"asked": asked, "said": sample["filtered_resps"], "target": sample["target"]}
    return {
        "document": sample["doc_id"],
        "hash": sample["doc_hash"],
        **json.loads(json.dumps(row, default=str)),
        "values": {},
    }


def _value(value: Any, aggregation: str) -> tuple[float, float] | None:
    """A value and its size; of perplexities nats, and words or bytes. None for metrics that are no mean."""
    if aggregation in ("weighted_perplexity", "bits_per_byte"):
        logprob, size = value
        return -float(logprob), float(size)
    number = _number(value) if aggregation in ("mean", "nanmean", "perplexity") else None
    return None if number is None else (-number if aggregation == "perplexity" else number, 1.0)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
