"""Scores from a function, a server, several models, and mixes of them; what is wrong with them is said at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from loops import MACHINE, Improvement, Pays
from test_critic_free import critic_free
from torch import Tensor

from concordant.data.types import Prompt
from concordant.errors import UserError
from concordant.feedback.answering.labelers import Identity
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Comparison, Vote, ranking, skip
from concordant.models.load import new_reward_model
from concordant.rollout.rollout import Rollout, Sample
from concordant.train.estimate import estimate, freeze
from concordant.train.reward_sources import (
    Ensemble,
    FunctionReward,
    Mix,
    Ranked,
    ServerReward,
    function_named,
)
from concordant.train.rewards import RewardModel, ScoreNorm, Scores, checked
from tinies import PAD

PROMPTS = [Prompt.user("first question"), Prompt.user("second question")]
SAMPLES = tuple(Sample(n // 2, (5,), (6, 7 + n), (0.0, 0.0), True) for n in range(4))
ROLLOUT = Rollout(SAMPLES, 1.0)


def text(sample: Sample) -> str:
    return f"said {sample.completion[-1]}"


def function(answer: Any) -> FunctionReward:
    return FunctionReward("mine:score", lambda _prompts, _completions: answer, text)


def score_by_length(prompts: list[Any], completions: list[str]) -> list[float]:
    """A reward of somebody's own, for the dotted name below."""
    return [float(len(completion)) for completion in completions]


def test_a_function_reads_chats_and_texts() -> None:
    seen = {}

    def remember(prompts: list[Any], completions: list[str]) -> list[float | None]:
        seen["prompts"], seen["completions"] = prompts, completions
        return [1, 0.5, None, -2.0]

    found = FunctionReward("mine:score", remember, text).score(PROMPTS, ROLLOUT)
    assert seen["completions"] == ["said 7", "said 8", "said 9", "said 10"]
    assert [chat[0]["content"] for chat in seen["prompts"]] == ["first question"] * 2 + [
        "second question"
    ] * 2
    assert found.known.tolist() == [True, True, False, True]
    assert found.values[found.known].tolist() == [1.0, 0.5, -2.0]


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (0.5, "gave 0.5"),
        ("good", "gave 'good'"),
        (None, "gave None"),
        ([1.0, 2.0], "gave 2 scores for 4 completions"),
        ([1.0, float("nan"), 0.0, 0.0], "gave nan"),
        ([1.0, float("inf"), 0.0, 0.0], "gave inf"),
        ([1.0, "0.7", 0.0, 0.0], "gave '0.7'"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused(answer: Any, what: str) -> None:
    with pytest.raises(UserError) as caught:
        function(answer).score(PROMPTS, ROLLOUT)
    assert what in caught.value.what
    assert "mine:score" in caught.value.what
    assert caught.value.expected
    if isinstance(answer, list) and len(answer) == 4:
        assert "first question" in caught.value.where
        assert "said 8" in caught.value.where


def test_arrays_are_lists_too() -> None:
    assert function(torch.arange(4.0)).score(PROMPTS, ROLLOUT).values.tolist() == [0, 1, 2, 3]
    assert function(torch.arange(4.0).numpy()).score(PROMPTS, ROLLOUT).values.tolist() == [0, 1, 2, 3]
    assert function(list(torch.arange(4.0).numpy())).score(PROMPTS, ROLLOUT).values.tolist() == [0, 1, 2, 3]


def test_functions_are_found_by_name() -> None:
    assert function_named("math:floor")(1.5) == 1
    for name in ("math:no_such", "no_such_module_at_all:score", "math:pi"):
        with pytest.raises(UserError, match=r"function"):
            function_named(name)


@dataclass(frozen=True)
class Fixed:
    scores: Sequence[float]

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        return torch.tensor(self.scores)


ONE, OTHER = Fixed([1.0, 2.0, 3.0, 4.0]), Fixed([3.0, 2.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        ("mean", [2.0, 2.0, 2.0, 2.0]),
        ("min", [1.0, 2.0, 1.0, 0.0]),
        ("spread", [1.5, 2.0, 1.5, 0.0]),  # less half the variance, which is 1, 0, 1, 4
    ],
)
def test_ensembles(combine: Any, expected: list[float]) -> None:
    found = Ensemble((ONE, OTHER), combine, 0.5).score(PROMPTS, ROLLOUT)
    assert found.values.tolist() == expected
    assert found.parts["spread"].tolist() == [1.0, 0.0, 1.0, 2.0]


def test_a_mix_adds_up_and_keeps_its_parts() -> None:
    mix = Mix({"help": (2.0, ONE), "short": (-1.0, function([1.0, None, 0.0, 0.0]))})
    found = mix.score(PROMPTS, ROLLOUT)
    assert found.known.tolist() == [True, False, True, True]
    assert found.values[found.known].tolist() == [1.0, 6.0, 8.0]
    assert found.parts["help"].tolist() == ONE.scores


class ByLength:
    """A labeler that puts the shorter completion first, and skips prompts that begin with a question mark."""

    identity = Identity("short", "rule", {})

    def __init__(self) -> None:
        self.asked = 0

    def label(self, comparisons: Sequence[Comparison]) -> list[Vote]:
        self.asked += len(comparisons)
        return [Vote(one.task_id, self.answer(one)) for one in comparisons]

    def answer(self, one: Comparison) -> Any:
        if one.prompt.text.startswith("?"):
            return skip("not mine")
        lengths = sorted({len(c.text) for c in one.completions})
        return ranking([[c.id for c in one.completions if len(c.text) == n] for n in lengths])


def test_labelers_rank_the_completions_of_a_prompt(tmp_path: Path) -> None:
    """The score is the share of the others; equal texts share it, ties count half; votes are kept, apart."""
    words = {7: "a", 8: "bb", 9: "cc", 10: "dddd"}
    prompts = [Prompt.user("one"), Prompt.user("two"), Prompt.user("? three"), Prompt.user("four")]
    said = [(0, 7), (0, 8), (0, 9), (0, 10), (1, 8), (1, 8), (1, 7), (2, 7), (2, 8), (3, 7), (3, 7)]
    samples = tuple(Sample(n, (5 + n,), (token, 1), (0.0, 0.0), True) for n, token in said)
    labeler = ByLength()
    ranked = Ranked(tmp_path / "store.sqlite", (labeler,), lambda sample: words[sample.completion[0]])
    found = ranked.score(prompts, Rollout(samples, 1.0))
    assert found.known.tolist() == [True] * 7 + [False] * 4
    assert found.values[:7].tolist() == pytest.approx([1.0, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0])
    with Store.open(tmp_path / "store.sqlite") as store:
        assert len(read_live_votes(store, store.add_project("policy", "loop")).votes) == 2
        assert preferences(store) == [], "no stage learns from them"
    few = Rollout(samples[:7], 1.0)
    asked = labeler.asked
    assert ranked.score(prompts, few).values.tolist() == found.values[:7].tolist()
    assert labeler.asked == asked, "what was ranked before is not asked again"


def test_an_ensemble_of_real_models_is_the_mean_of_their_scores(folders: dict[str, str]) -> None:
    models = [
        RewardModel(new_reward_model(folders["llama"], pad_id=PAD, seed=seed), PAD, 100, MACHINE)
        for seed in (1, 2)
    ]
    found = Ensemble(tuple(models)).score(PROMPTS, ROLLOUT)
    each = [model.score(PROMPTS, ROLLOUT) for model in models]
    torch.testing.assert_close(found.values, (each[0] + each[1]) / 2)


def test_parts_are_logged_and_a_missing_score_teaches_nothing(folders: dict[str, str]) -> None:
    def sometimes(prompts: list[Any], completions: list[str]) -> list[float | None]:
        return [None if n % 4 == 3 else float(n % 2) for n in range(len(completions))]

    mix = Mix({"paid": (1.0, Pays(11)), "mine": (0.5, FunctionReward("f:g", sometimes, str))})
    run = Improvement(folders["llama"], critic_free("rloo", batch=16, updates=1), reward=mix)
    (step,) = run.run()
    assert step.metrics["objective/unscored"] == 0.25
    assert {"score/paid", "score/mine"} <= set(step.metrics)


class Handler(BaseHTTPRequestHandler):
    answers: ClassVar[list[tuple[int, Any]]] = []
    asked: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Handler.asked.append(json.loads(body))
        status, answer = Handler.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("time.sleep", lambda _: None)
    Handler.answers, Handler.asked = [], []
    running = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/score"
    running.shutdown()
    running.server_close()


def test_a_server_gives_scores(server: str) -> None:
    Handler.answers = [(200, {"scores": [1, None, 2, 3]})]
    found = ServerReward(server, text).score(PROMPTS, ROLLOUT)
    assert found.known.tolist() == [True, False, True, True]
    assert Handler.asked[0]["completions"] == ["said 7", "said 8", "said 9", "said 10"]
    assert Handler.asked[0]["prompts"][0] == [{"role": "user", "content": "first question"}]


def test_a_server_that_stumbles_is_asked_again(server: str) -> None:
    Handler.answers = [(503, {}), (200, b"not json"), (200, {"scores": [0, 0, 0, 1]})]
    assert ServerReward(server, text).score(PROMPTS, ROLLOUT).values.tolist() == [0, 0, 0, 1]
    assert len(Handler.asked) == 3


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([(404, {})], "404"),
        ([(500, {})] * 3, "500"),
        ([(200, {"score": [1]})], "gave None"),
        ([(200, [1])], "gave None"),
    ],
)
def test_a_server_that_fails_is_named(server: str, answers: list[Any], said: str) -> None:
    Handler.answers = list(answers)
    with pytest.raises(UserError, match=said) as caught:
        ServerReward(server, text).score(PROMPTS, ROLLOUT)
    assert server in caught.value.where


def test_plain_numbers_are_known(folders: dict[str, str]) -> None:
    assert Scores.of([1.0, 2.0]).known.tolist() == [True, True]
    same = Scores.of(torch.zeros(4))
    assert checked(same, PROMPTS, ROLLOUT) is same


def test_a_score_of_zero_teaches_and_a_missing_one_does_not(folders: dict[str, str]) -> None:
    """score_zero_is_not_missing: https://github.com/OpenRLHF/OpenRLHF/issues/1219"""
    found = function([0, None, 0.0, 1]).score(PROMPTS, ROLLOUT)
    assert found.known.tolist() == [True, False, True, True]
    assert Mix({"mine": (0.0, function([0, None, 0.0, 1]))}).score(PROMPTS, ROLLOUT).known.tolist() == [
        True,
        False,
        True,
        True,
    ]
    config = critic_free("rloo", batch=4, kl_coef=0.0, missing_eos_penalty=0.0, overlong_buffer=0)
    run = Improvement(folders["llama"], config)
    rollout = run.sampler.sample([run.prompts[0][1]], samples=4, seed=1)
    frozen = freeze(run.models, run.learner, rollout, config)
    targets, summary = estimate(rollout, found, frozen, ScoreNorm(), 0.0, config)
    assert targets.advantages[:, 0].tolist() == pytest.approx([-0.5, 0.0, -0.5, 1.0])
    assert targets.pulling == {0, 2, 3}
    assert summary["objective/score"] == pytest.approx(1 / 3)
    assert summary["objective/unscored"] == 0.25
