"""inspect reads what a run said, and asks its models tasks."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import quote

import inspect_ai
import pytest
from inspect_ai.dataset import Sample
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import ChatMessageSystem, ChatMessageTool, ChatMessageUser, GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
from inspect_ai.tool import ToolInfo

from concordant.app.inspecting.provider import StageModel
from concordant.app.inspecting.registry import concordant as provider
from concordant.data.types import Message
from concordant.errors import UserError
from concordant.evaluation.answers import Answer, Drift
from concordant.evaluation.record import Record
from concordant.models.load import load_policy
from concordant.pipeline import extras
from concordant.pipeline.context import template_of
from concordant.pipeline.extras import require
from concordant.pipeline.recipe import load_recipe
from offline import forbid_network
from telling import tells
from tinies import sampler_of
from tiny_run import clone, concordant, results, rows, snapshot

QUESTIONS = ("what color is the drum ?", "what color is the book ?", "tell me about the fox .")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and nothing written outside of the test's folder."""
    forbid_network(monkeypatch)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@pytest.fixture(scope="module")
def logs(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    done = concordant("inspect", finished, "--to", folder)
    assert done.status == 0, done.err
    assert "15 logs" in done.out
    return folder


def log_of(folder: Path, name: str) -> Any:
    (file,) = folder.glob(f"*_{name}_*.eval")
    return read_eval_log(str(file))


# Logs


def test_a_log_holds_what_was_said_and_what_is_known_of_it(finished: Path, logs: Path) -> None:
    log = log_of(logs, "train-policy")
    kept = rows(finished / "stages" / "06-evaluate" / "samples.jsonl")
    kept = [row for row in kept if (row["model"], row["split"]) == ("policy", "train")]
    assert log.status == "success"
    assert log.eval.model == f"concordant/{finished}:policy"
    assert log.eval.viewer.trust_content is False
    assert len(log.samples) == len(kept) == 24
    for sample, row in zip(log.samples, kept, strict=True):
        assert (sample.id, sample.epoch) == (row["draw"], 1)
        assert [(one.role, one.text) for one in sample.input] == [
            (m["role"], m["content"]) for m in row["prompt"]
        ]
        assert sample.output.completion == sample.messages[-1].text == row["text"]
        assert sample.output.stop_reason == ("stop" if row["ended"] else "max_tokens")
        assert sample.scores["gold"].value == row["gold"]["total"]
        assert sample.scores["gold"].metadata == {k: v for k, v in row["gold"].items() if k != "total"}
        assert sample.scores["score"].value == row["score"]
        assert sample.scores["length"].value == row["length"]
    figures = {one.name: one.metrics for one in log.results.scores}
    gold = results(finished)["models"]["policy"]["gold"]
    assert figures["gold"]["mean"].value == pytest.approx(gold["mean"])
    assert figures["gold"]["stderr"].value == pytest.approx(gold["se"])


def test_answers_to_one_draw_are_epochs(logs: Path) -> None:
    log = log_of(logs, "repeated-sft")
    assert log.eval.config.epochs == 16
    assert set(Counter(sample.id for sample in log.samples).values()) == {16}
    assert len({(sample.id, sample.epoch) for sample in log.samples}) == len(log.samples)


def test_the_same_run_writes_the_same_logs_again(finished: Path, logs: Path) -> None:
    before = sorted(file.name for file in logs.iterdir())
    assert concordant("inspect", finished, "--to", logs).status == 0
    assert sorted(file.name for file in logs.iterdir()) == before
    assert all(name.endswith(".eval") and "partial" not in name for name in before)


def test_logs_lie_in_the_run_unless_told_otherwise(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    stages = snapshot(run / "stages")
    assert concordant("inspect", run).status == 0
    assert len(list_eval_logs(str(run / "inspect"))) == 15
    assert snapshot(run / "stages") == stages


def test_hostile_text_stays_as_it_is(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from concordant.app.inspecting.logs import write_logs
    from concordant.data.types import Prompt

    text = "<script>alert(1)</script> \u2028 \x00 ![x](http://elsewhere/) 𝔘"
    answer = Answer("sft", "train", 0, Prompt.user(text), text, 3, True, Drift(-1.0, -1.0, 0.0), None, None)
    (file,) = write_logs(Record("sft", [answer]), tmp_path, run="runs/x", key="k", when=datetime.now(UTC))
    log = read_eval_log(str(file))
    assert log.samples is not None
    assert log.samples[0].output.completion == text
    assert "gold" not in (log.samples[0].scores or {})


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def viewer(logs: Path) -> Iterator[str]:
    port = free_port()
    command = "import sys; from inspect_ai._cli.main import main; sys.argv[0] = 'inspect'; main()"
    words = ["view", "start", "--log-dir", str(logs), "--port", str(port), "--display", "plain"]
    with subprocess.Popen(
        [sys.executable, "-c", command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert any("Running on" in line for line in process.stdout), "the viewer did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_its_viewer_lists_and_opens_them(logs: Path, viewer: str) -> None:
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{viewer}{path}", timeout=30) as answer:
            return json.load(answer)

    listed = get("/api/logs")["files"]
    assert {one["task"] for one in listed} >= {"train-base", "train-sft", "train-policy", "train-ideal"}
    (one,) = (one for one in listed if one["task"] == "train-policy")
    opened = get(f"/api/logs/{quote(one['name'], safe='')}")
    assert opened["samples"][0]["scores"]["gold"]["value"] is not None
    assert opened["results"]["scores"][0]["metrics"]["mean"]["value"] is not None


def test_a_run_that_was_not_measured_has_nothing_to_write(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny", stages=("01-base", "02-sft"))
    done = concordant("inspect", run)
    assert done.status == 2
    assert "have not been measured" in done.err


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with tells(
        "inspect is not installed", where="environment", expected="inspect_ai", fix="concordant[inspect]"
    ):
        require("inspect_ai", "inspect")


# Models


def test_the_package_is_found_by_its_entry_point() -> None:
    (point,) = (one for one in entry_points(group="inspect_ai") if one.name == "concordant")
    assert point.load().concordant is provider


def test_a_task_of_inspect_asks_a_stage(finished: Path, tmp_path: Path) -> None:
    task = inspect_ai.Task(
        dataset=[Sample(input=question, target="it") for question in QUESTIONS],
        solver=generate(),
        scorer=includes(),
        name="colors",
    )
    (log,) = inspect_ai.eval(
        task,
        model=f"concordant/{finished}:policy",
        log_dir=str(tmp_path / "logs"),
        display="none",
        temperature=0,
        max_tokens=8,
    )
    assert log.status == "success", log.error
    recipe = load_recipe(finished / "recipe.toml")
    path = str(finished / "stages" / "05-policy" / "model")
    template = template_of(recipe, str(finished / "stages" / "01-base" / "model"))
    sampler = sampler_of(
        load_policy(path), stop_ids=template.stop_ids, pad_id=template.pad_id, limit=8, greedy=True
    )
    prompts = [tuple(template.prompt_ids((Message("user", question),))) for question in QUESTIONS]
    greedy = [template.text(one.completion) for one in sampler.sample(prompts, seed=0).samples]
    assert log.samples is not None
    assert [sample.output.completion for sample in log.samples] == greedy
    assert {sample.output.stop_reason for sample in log.samples} <= {"stop", "max_tokens"}
    assert log.stats.model_usage[f"concordant/{finished}:policy"].output_tokens > 0


def ask(model: StageModel, question: str = QUESTIONS[0], **settings: Any) -> Any:
    import anyio

    given: list[Any] = [ChatMessageUser(content=question)]
    return anyio.run(model.generate, given, [], "none", GenerateConfig(**settings))


@pytest.fixture(scope="module")
def model(finished: Path) -> StageModel:
    return StageModel(f"{finished}:sft")


def test_a_question_that_comes_again_gets_another_answer(model: StageModel) -> None:
    said = {ask(model, temperature=1.0, max_tokens=8).completion for _ in range(6)}
    assert len(said) > 1
    choices = ask(model, temperature=1.0, max_tokens=8, num_choices=6).choices
    assert len({one.message.text for one in choices}) > 1
    assert len({ask(model, temperature=0, max_tokens=8).completion for _ in range(3)}) == 1


def test_answers_end_at_the_limit_and_at_the_texts_that_end_them(model: StageModel) -> None:
    whole = ask(model, temperature=0, max_tokens=8)
    words = whole.completion.split()
    short = ask(model, temperature=0, max_tokens=2)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)
    cut = ask(model, temperature=0, max_tokens=8, stop_seqs=[words[1]])
    assert cut.stop_reason == "stop"
    assert cut.completion == whole.completion.split(words[1])[0]


def test_a_conversation_longer_than_the_context_is_said_to_be(model: StageModel) -> None:
    found = ask(model, "what color is the drum ? " * 100)
    assert (found.stop_reason, found.completion) == ("model_length", "")


def test_names_that_are_no_stage(finished: Path) -> None:
    with tells("names no stage", where="--model", expected="RUN:STAGE", fix=":policy"):
        StageModel(str(finished))
    with pytest.raises(UserError, match="no finished stage 'reward'"):
        get_model(f"concordant/{finished}:reward")


def test_what_models_of_a_run_do_not_do_is_an_error_of_the_sample(model: StageModel) -> None:
    import anyio

    def refused(said: str, turns: list[Any], tools: list[Any], **settings: Any) -> None:
        with pytest.raises(ValueError, match=said):
            anyio.run(model.generate, turns, tools, "none", GenerateConfig(**settings))

    turns = [ChatMessageSystem(content="be kind"), ChatMessageUser(content="hello")]
    refused("no tools", turns, [ToolInfo(name="search", description="finds")])
    refused("top_p=0.5", turns, [], top_p=0.5)
    refused("a turn of 'tool'", [*turns, ChatMessageTool(content="found")], [])


def test_an_error_while_sampling_reaches_who_waits(
    model: StageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(model, "_sampled", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        ask(model, max_tokens=4)
