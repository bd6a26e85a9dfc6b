"""Our models behind lm-evaluation-harness say what its own adapter of transformers says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from concordant.data.template import Template, load_tokenizer
from concordant.errors import UserError
from concordant.evaluation import harness as module
from concordant.evaluation.harness import Harness, ask, load_tasks
from concordant.models.config import EmbeddedConfig
from concordant.models.load import load_policy
from concordant.models.memory import Budget
from concordant.models.tiny import tiny_llama, train_tokenizer
from concordant.worlds.town import Town
from offline import forbid_network
from task_files import task_folder
from telling import tells
from tinies import MACHINE

CLOSE = 1e-4  # nats, of a whole text

PAIRS = [
    ("what color is the drum ?", " it is blue ."),
    ("", "it is red ."),
    ("what color is the drum ? ", "it is red ."),  # the space goes to the answer
    ("is the drum red ? " * 20, " yes ."),  # longer than the context
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_network(monkeypatch)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer([" ".join(Town(0).vocabulary())])


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    size = EmbeddedConfig(layers=2, width=32, heads=2, context=48)
    made = tiny_llama(tokenizer, size, seed=3).eval()
    with torch.no_grad():  # far from uniform, so that a wrong token or position shows
        for parameter in made.parameters():
            parameter.mul_(4)
    return made


def harness(model: Any, tokenizer: Any, limit: int = 48) -> Harness:
    return Harness(model, Template(tokenizer), limit=limit, tokens=Budget(512, "tokens"), machine=MACHINE)


def peer(model: Any, tokenizer: Any, limit: int = 48) -> Any:
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3, max_length=limit - 1)


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
    return [Instance(request_type=kind, doc={}, arguments=one, idx=n) for n, one in enumerate(arguments)]


def assert_alike(ours: Harness, theirs: Any, pairs: list[tuple[str, str]], texts: list[str]) -> None:
    asked = requests("loglikelihood", *pairs)
    for one, other in zip(
        ours.loglikelihood(asked), theirs.loglikelihood(asked, disable_tqdm=True), strict=True
    ):
        assert one[0] == pytest.approx(other[0], abs=CLOSE)
        assert one[1] == other[1]
    asked = requests("loglikelihood_rolling", *((text,) for text in texts))
    rolling = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    assert ours.loglikelihood_rolling(asked) == pytest.approx(rolling, abs=CLOSE)
    manner = {"until": ["."], "max_gen_toks": 20, "do_sample": False}
    asked = requests("generate_until", *((context, manner) for context, _ in pairs if context))
    assert ours.generate_until(asked) == theirs.generate_until(asked, disable_tqdm=True)


def test_likelihoods_and_answers_are_those_of_the_harness_itself(model: Any, tokenizer: Any) -> None:
    texts = ["it is red .", "the drum is blue . " * 4, "what color is the drum ? it is blue . " * 20]
    assert_alike(harness(model, tokenizer), peer(model, tokenizer), PAIRS, texts)


def test_a_real_model_says_the_same(shared_data: Path) -> None:
    path = str(shared_data / "stories260K")
    model, tokenizer = load_policy(path), load_tokenizer(path)
    pairs = [
        ("Once upon a time", " there was a girl."),
        ("", "Lily"),
        ("The cat sat on the ", "mat"),
        ("x " * 200, " y"),
        ("<s>Once", " more"),
    ]
    texts = ["Once upon a time there was a girl named Lily. " * n for n in (1, 5, 30)]
    assert_alike(harness(model, tokenizer, 64), peer(model, tokenizer, 64), pairs, texts)


def test_what_is_greedy_is_what_is_generated(model: Any, tokenizer: Any) -> None:
    ours = harness(model, tokenizer)
    manner = {"until": [], "max_gen_toks": 6, "do_sample": False}
    (said,) = ours.generate_until(requests("generate_until", ("the drum", manner)))
    other = "it is red ."
    asked = requests("loglikelihood", ("the drum", f" {said}"), ("the drum", f" {other}"))
    assert [greedy for _, greedy in ours.loglikelihood(asked)] == [True, False]


def test_answers_end_where_the_task_says_however_long_they_are(model: Any, tokenizer: Any) -> None:
    ours = harness(model, tokenizer)

    def said(length: int, *until: str) -> str:
        manner = {"until": list(until), "max_gen_toks": length, "do_sample": False}
        return ours.generate_until(requests("generate_until", ("the drum is", manner)))[0]

    whole = said(44)  # in two rounds of sampling
    assert len(tokenizer(whole)["input_ids"]) > 32
    words = whole.split()
    assert said(44, words[3]) == whole.split(words[3])[0]
    assert whole.startswith(said(5))


def test_sampled_answers_depend_on_the_seed_alone(model: Any, tokenizer: Any) -> None:
    manner = {"until": [], "max_gen_toks": 10, "do_sample": True, "temperature": 1.0}
    asked = requests("generate_until", ("the drum is", manner))
    one, again = (harness(model, tokenizer).generate_until(asked) for _ in range(2))
    other = harness(model, tokenizer)
    other.seed = 1
    assert one == again != other.generate_until(asked)


def test_what_our_sampler_does_not_do_is_refused(model: Any, tokenizer: Any) -> None:
    ours = harness(model, tokenizer)
    manner = {"until": [], "max_gen_toks": 10, "do_sample": True, "temperature": 1.0, "top_p": 0.9}
    with tells(
        "samples with top_p = 0.9", where="generation_kwargs", expected="greedy", fix="do_sample: false"
    ):
        ours.generate_until(requests("generate_until", ("the drum", manner)))
    with tells(
        "answers of up to 48 tokens", where="generation_kwargs", expected="47 tokens", fix="max_gen_toks: 23"
    ):
        ours.generate_until(requests("generate_until", ("the drum", {"max_gen_toks": 48})))
    with tells("an answer of 60 tokens", where="task", expected="1 to 47 tokens", fix="longer context"):
        ours.loglikelihood(requests("loglikelihood", ("the drum", " red" * 60)))


def test_tasks_of_a_folder_are_asked(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    loaded = load_tasks(["choice", "say", "roll"], str(task_folder(tmp_path)))
    found = ask(harness(model, tokenizer), loaded, most=5, chat=False)
    assert list(found) == ["choice", "say", "roll"]
    for outcome, rows in found.values():
        assert (outcome.version, outcome.shots) == ("2.0", 0)
        assert [row["document"] for row in rows] == [0, 1, 2, 3, 4]
        ((_, metric),) = outcome.metrics.items()
        (figures,) = outcome.figures().values()
        assert figures["n"] == 5
        assert metric.reported is not None
    choice, rows = found["choice"]
    best = [max(range(3), key=lambda n, row=row: row["said"][n][0]) for row in rows]
    assert [row["values"]["acc"] for row in rows] == [(float(one == 0), 1.0) for one in best]
    assert choice.metrics["acc"].reported == pytest.approx(choice.figures()["acc"]["mean"])
    roll = found["roll"][0]
    nats = roll.figures()["byte_perplexity"]["mean"]
    assert roll.metrics["byte_perplexity"].reported == pytest.approx(
        torch.tensor(nats).exp().item(), rel=1e-5
    )


def test_behind_the_chat_template_a_question_is_a_turn(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    loaded = load_tasks(["choice"], str(task_folder(tmp_path)))
    _, rows = ask(harness(model, tokenizer), loaded, most=1, chat=True)["choice"]
    question = rows[0]["asked"][0][0]
    prompt = Town(0).prompts(1, families=["fact"], rng=5)[0]
    assert Template(tokenizer).prompt_ids(prompt.messages) == tuple(
        harness(model, tokenizer).tok_encode(question)
    )


def test_unknown_tasks_and_such_whose_data_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = task_folder(tmp_path)
    # To look through the thousands of tasks of the harness itself takes many seconds.
    monkeypatch.setattr(
        module, "TaskManager", lambda **given: TaskManager(**given | {"include_defaults": False})
    )
    with tells("there is no task 'choise'", where="--tasks", expected="lm-evaluation-harness", fix="choice"):
        load_tasks(["choise"], str(folder))
    (folder / "rows.jsonl").unlink()
    with tells("a task cannot be loaded", where="--tasks", expected="can be had", fix="the task's file"):
        load_tasks(["choice"], str(folder))


def test_a_task_that_fails_is_named_by_its_error(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    folder = task_folder(tmp_path)
    file = folder / "choice.yaml"
    file.write_text(file.read_text().replace('"{{choices}}"', '"{{question}}"'), encoding="utf-8")
    with pytest.raises(UserError, match="a task cannot be"):
        ask(harness(model, tokenizer), load_tasks(["choice"], str(folder)), most=1, chat=False)
