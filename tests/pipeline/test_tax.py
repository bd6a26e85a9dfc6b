"""Tasks asked of the stages of a run: what is kept, found again, compared, and taken in by the gate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from concordant.errors import UserError
from concordant.evaluation.config import GateConfig
from concordant.evaluation.intervals import Change
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.recipe import load_recipe
from concordant.pipeline.reporter import Silent
from concordant.pipeline.tax import Order, Tax, tax_stages, with_tax
from offline import forbid_network
from task_files import task_folder
from tiny_run import TOWN, Outcome, Stopper, clone, concordant, results, rows, snapshot, town_file, written


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_network(monkeypatch)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return task_folder(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def taxed(finished: Path, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose stages were asked three tasks. Read it; copy it to change it."""
    run = clone(finished, tmp_path_factory.mktemp("taxed") / "tiny")
    done = ask(run, tasks, "--limit", 6)
    (run / "terminal.txt").write_text(done.out, encoding="utf-8")
    return run


def ask(run: Path, tasks: Path, *words: object, names: str = "choice,say,roll") -> Outcome:
    done = concordant("tax", run, "--tasks", names, "--include", tasks, *words)
    assert done.status == 0, done.err
    return done


def of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = written(run / "tax" / "results.json")["tasks"]
    return found


def test_every_stage_is_asked_and_every_document_kept(taxed: Path) -> None:
    found = of(taxed)
    assert list(found) == ["choice", "say", "roll"]
    assert list(found["choice"]["stages"]) == ["base", "sft", "policy"]
    for stage, file in found["choice"]["samples"].items():
        kept = rows(taxed / "tax" / file)
        assert [(row["task"], row["document"]) for row in kept] == [
            (task, n) for task in ("choice", "say", "roll") for n in range(6)
        ]
        right = [row["values"]["acc"][0] for row in kept if row["task"] == "choice"]
        assert found["choice"]["stages"][stage]["acc"]["mean"] == pytest.approx(sum(right) / 6)
    assert set(found["say"]["changes"]) == {"sft_minus_base", "policy_minus_base", "policy_minus_sft"}
    assert found["roll"]["changes"]["policy_minus_sft"]["byte_perplexity"]["n"] == 6
    assert (found["roll"]["limit"], found["roll"]["chat"], found["roll"]["margin"]) == (6, False, 0.02)
    said = (taxed / "terminal.txt").read_text(encoding="utf-8")
    for words in ("choice, acc", "not worse: by less than 0.02"):
        assert words in said
    assert "it/s" not in said


def test_what_was_asked_is_found_again_and_others_stand_beside_it(
    taxed: Path, tasks: Path, tmp_path: Path
) -> None:
    run = clone(taxed, tmp_path / "tiny")
    kept = {name: one for name, one in snapshot(run / "tax").items() if name.endswith("samples.jsonl")}
    ask(run, tasks, "--limit", 6, "--margin", 0.5)
    after = snapshot(run / "tax")
    assert kept.items() <= after.items()
    assert of(run)["say"]["margin"] == 0.5
    ask(run, tasks, "--stages", "policy", names="roll")
    found = of(run)
    assert list(found) == ["choice", "say", "roll"]
    assert list(found["roll"]["stages"]) == ["policy"]
    assert found["roll"]["stages"]["policy"]["byte_perplexity"]["n"] == 12
    assert len(snapshot(run / "tax")) > len(after)


def test_another_file_of_a_task_is_asked_anew(taxed: Path, tasks: Path, tmp_path: Path) -> None:
    run = clone(taxed, tmp_path / "tiny")
    other = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    file = other / "say.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("12", "3"), encoding="utf-8")
    before = of(run)["say"]["samples"]
    ask(run, other, "--limit", 6)
    assert of(run)["say"]["samples"] != before


def test_a_stop_leaves_what_is_finished(finished: Path, tasks: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    recipe = load_recipe(run / "recipe.toml")
    order = Order(("choice",), include=str(tasks), most=3)
    stop = StopRequest()
    with pytest.raises(Interrupted):
        tax_stages(recipe, run, [], order, Stopper(stop, "asking tasks", 1), stop=stop)
    (base,) = run.glob("tax/base-*/stage.json")
    written_at = base.stat().st_mtime_ns
    found = tax_stages(recipe, run, [], order, Silent())
    assert list(found.outcomes["choice"]) == ["base", "sft", "policy"]
    assert base.stat().st_mtime_ns == written_at


# The gate


def test_a_gate_may_name_a_task_and_counts_it_as_it_stands(taxed: Path, tmp_path: Path) -> None:
    gated = (
        TOWN
        + '\n[gate]\ntarget = "length"\nmargin = 1000\n[gate.no_less]\ntask.choice.acc = 1\n[gate.no_more]\n'
    )
    run = clone(taxed, tmp_path / "runs" / "tiny")
    tax = run / "tax"
    aside = tax.rename(tmp_path / "aside")
    done = concordant("run", town_file(tmp_path, text=gated), "--run", run)
    assert done.status == 0, done.err
    assert "task.choice.acc was not measured (concordant tax RUN --tasks choice)" in done.out
    aside.rename(tax)
    done = concordant("gate", run)
    assert "task.choice.acc changed by" in done.out
    assert "a fall of no more than 1 is demanded: met" in done.out
    concordant("run", town_file(tmp_path, text=gated + "kl = 5"), "--run", run)
    assert results(run)["changes"]["policy_minus_sft"]["task.choice.acc"]["n"] == 6


def test_tasks_of_earlier_models_say_nothing_of_these(taxed: Path, tmp_path: Path) -> None:
    run = clone(taxed, tmp_path / "tiny")
    known = with_tax({"changes": {}}, run)["changes"]
    assert Change.from_dict(known["policy_minus_sft"]["task.say.exact_match"]).n == 6
    marker = run / "stages" / "05-policy" / "stage.json"
    text = marker.read_text(encoding="utf-8")
    marker.write_text(text.replace('"fingerprint": "', '"fingerprint": "0'), encoding="utf-8")
    assert with_tax({"changes": known}, run)["changes"] == {pair: {} for pair in known}


def test_no_task_has_to_be_known_before_it_is_asked(tmp_path: Path) -> None:
    gate = GateConfig.model_validate({"no_less": {"task": {"arc_easy": {"acc": 0.01}}}})
    assert ("task.arc_easy.acc", "no_less", 0.01) in gate.demands()


# What is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit", "0"], "--limit 0"),
        (["--margin", "-1"], "--margin -1"),
        (["--include", "nowhere"], "--include nowhere"),
        (["--stages", "reward"], "no finished stage 'reward'"),
    ],
)
def test_options_that_ask_for_nothing(finished: Path, words: list[str], said: str) -> None:
    done = concordant("tax", finished, "--tasks", "choice", *words)
    assert done.status == 2
    assert said in done.err
    for part in ("where: ", "expected: ", "do: "):
        assert part in done.err


def test_a_run_without_models_is_said_to_be_one(tmp_path: Path) -> None:
    recipe = load_recipe(town_file(tmp_path))
    with pytest.raises(UserError, match="no finished stage"):
        tax_stages(recipe, tmp_path / "run", [], Order(("choice",)), Silent())


def test_one_stage_has_nobody_to_compare_with() -> None:
    assert Tax({"choice": {}}, 0.1).changes == {"choice": {}}
