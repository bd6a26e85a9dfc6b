"""The gate of a run and who beats whom in it: from recipe to results, and by the votes there are now."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from concordant.errors import UserError
from concordant.evaluation.config import GateConfig
from concordant.evaluation.figures import compared_figures
from concordant.feedback.reading.versus import Side, ask_versus
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, prefer
from concordant.pipeline.afterwards import finished_stages, model_id
from concordant.pipeline.duels import between_runs, people_duels
from concordant.pipeline.gate import decide_run
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.plan import plan
from concordant.pipeline.recipe import load_recipe
from concordant.pipeline.versus import answered_by_both
from telling import tells
from tiny_run import TOWN, Stopper, clone, concordant, fingerprints, results, rows, town, town_file

WIDE = '\n[gate]\ntarget = "gold"\nmargin = 0\n[gate.no_more]\nkl = 100\n[gate.no_less]\ngold = 100\n'


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run to change, without a gate."""
    return clone(finished, tmp_path / "runs" / "tiny")


def go(run: Path, text: str = TOWN + WIDE, *words: str) -> str:
    done = concordant("run", town_file(run.parent.parent, text=text), "--run", run, *words)
    assert done.status == 0, done.err
    return done.out


# What the evaluate stage leaves


def test_every_two_models_are_compared(finished: Path) -> None:
    found = results(finished)
    pairs = [(row["by"], row["first"], row["second"]) for row in found["win_rates"]]
    models = [("base", "sft"), ("base", "policy"), ("sft", "policy")]
    assert pairs == [(by, *two) for by in ("gold", "score") for two in models]
    assert all(row["n"] == 24 for row in found["win_rates"])
    assert list(found["changes"]) == ["sft_minus_base", "policy_minus_base", "policy_minus_sft"]
    assert found["changes"]["policy_minus_sft"]["gold"]["mean"] == pytest.approx(
        found["gaps"]["policy_minus_sft"]["mean"]
    )
    assert {board["by"] for board in found["leaderboards"]} == {"gold", "score"}
    known = compared_figures(families=(), scored=True, labelers=False, text=True)
    assert {name for name in known if "win_rate" not in name} <= set(found["changes"]["policy_minus_sft"])


def test_labelers_compare_in_both_orders_and_every_vote_is_kept(run: Path) -> None:
    go(run, TOWN, "evaluate.labelers=pool", "evaluate.compared=10")
    found = results(run)
    assert [row["n"] for row in found["win_rates"] if row["by"] == "labelers"] == [10] * 3
    assert set(found["order_shown"]) == {"sft or base", "policy or base", "policy or sft"}
    kept = rows(run / "stages" / "06-evaluate" / "duels.jsonl")
    shown = [tuple(row["shown"]) for row in kept]
    assert shown.count(("a", "b")) == shown.count(("b", "a")) > 0
    assert len({row["labeler"] for row in kept}) == 5


# The gate in the life of a run


def test_a_gate_changes_no_stage(tmp_path: Path) -> None:
    def planned(text: str) -> dict[str, str]:
        recipe = load_recipe(town_file(tmp_path, text=text))
        return {stage.name: stage.fingerprint for stage in plan(recipe, tmp_path / "run")}

    assert planned(TOWN) == planned(TOWN + WIDE)


def test_what_is_stated_before_stands_in_results_and_resolved_recipe(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    said = concordant("run", town_file(tmp_path, text=TOWN + WIDE), "--runs", runs)
    assert said.status == 0, said.err
    gate = results(runs / "tiny")["gate"]
    stated = load_recipe(tmp_path / "tiny.toml").gate
    assert stated is not None
    assert (gate["hash"], gate["stated_before"], gate["earlier"]) == (stated.digest(), True, [])
    resolved = tomllib.loads((runs / "tiny" / "resolved.toml").read_text(encoding="utf-8"))
    assert resolved["fingerprints"]["gate"] == stated.digest()
    assert GateConfig.model_validate(resolved["gate"]) == stated
    assert f"gate: {gate['verdict']}" in said.out
    assert f"stated before the models were measured, as {stated.digest()}" in said.out


def test_a_gate_stated_afterwards_is_told_as_such_and_runs_nothing(run: Path) -> None:
    made = fingerprints(run)
    before = tomllib.loads((run / "resolved.toml").read_text(encoding="utf-8"))
    out = go(run)
    assert fingerprints(run) == made
    gate = results(run)["gate"]
    assert (gate["stated_before"], gate["earlier"]) == (False, ["none"])
    assert "stated AFTER the models were measured" in out
    assert "figures of this run were judged by no gate before" in out
    after = tomllib.loads((run / "resolved.toml").read_text(encoding="utf-8"))
    assert after["fingerprints"].pop("gate") == gate["hash"]
    assert after.pop("gate")["target"] == "gold"
    assert after == before
    first = gate["hash"]
    assert "nothing was run" in go(run)
    go(run, TOWN + WIDE, "gate.margin=0.5")
    assert results(run)["gate"]["earlier"] == ["none", first]
    assert f"judged by no gate and by {first} before" in concordant("gate", run).out
    go(run, TOWN)
    assert "gate" not in results(run)
    go(run, TOWN + WIDE, "gate.margin=0.25")
    assert len(results(run)["gate"]["earlier"]) == 3, "left out for a while, and not forgotten"


def test_measuring_again_does_not_hide_an_earlier_gate(run: Path) -> None:
    go(run)
    first = results(run)["gate"]["hash"]
    go(run, TOWN + WIDE, "gate.margin=0.5", "evaluate.prompts=20")
    gate = results(run)["gate"]
    assert (gate["stated_before"], gate["earlier"]) == (True, ["none", first])


@pytest.mark.parametrize(
    ("words", "status", "verdict"),
    [
        (["gate.target=kl", "gate.no_less={}"], 0, "GO"),  # it moves away: a rise, if of no use
        (["gate.target=kl", "gate.margin=50"], 1, "NO-GO"),
        (["gate.target=win_rate.people"], 3, "NOT ENOUGH DATA"),
    ],
)
def test_the_status_says_what_the_gate_does(run: Path, words: list[str], status: int, verdict: str) -> None:
    go(run, TOWN + WIDE, *words)
    said = concordant("gate", run)
    assert (said.status, said.err) == (status, "")
    assert said.out.splitlines()[0] == f"gate: {verdict}"
    assert results(run)["gate"]["verdict"] == verdict


# People


def vote(run: Path, n: int, winner: str = "policy") -> None:
    """Let somebody prefer the same stage on `n` prompts."""
    recipe = load_recipe(run / "recipe.toml")
    sides, pairs = answered_by_both(recipe, run, ["sft", "policy"], None, Stopper(StopRequest()))
    with Store.open(run / "feedback.sqlite") as store:
        asked = ask_versus(store, sides, pairs)
        texts = {one.prompt.id: one.texts[winner == "policy"] for one in pairs}
        ada = store.add_labeler("ada", "human")
        for lease in store.lease_many(ada, n, project=asked.project):
            wanted = texts[lease.comparison.prompt.id]
            (best,) = (one.id for one in lease.comparison.completions if one.text == wanted)
            store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(best)))


def test_votes_given_since_then_count(run: Path) -> None:
    go(run, TOWN + WIDE, "gate.target=win_rate.people")
    assert "was not measured (concordant label RUN --compare sft policy)" in concordant("gate", run).out
    vote(run, 3)
    said = concordant("gate", run).out
    assert "win rate by people is" in said
    assert "open; about" in said
    listed = concordant("wins", run).out
    assert "people" in listed
    assert "all-win" in listed or "Board by people" in listed


def test_votes_on_an_earlier_model_do_not(run: Path) -> None:
    vote(run, 3)
    assert [len(one.values) > 2 for one in people_duels(run / "feedback.sqlite", run)] == [True]
    with Store.open(run / "feedback.sqlite") as store:
        ask_versus(store, (Side("sft", "another"), Side("policy", "else")), [])
    assert len(people_duels(run / "feedback.sqlite", run)) == 1
    marker = run / "stages" / "05-policy" / "stage.json"
    old = model_id(finished_stages(run)["policy"])
    marker.write_text(marker.read_text(encoding="utf-8").replace(old, "0" * 16), encoding="utf-8")
    assert people_duels(run / "feedback.sqlite", run) == []


def test_without_a_store_nobody_voted(run: Path) -> None:
    (run / "feedback.sqlite").unlink()
    assert people_duels(run / "feedback.sqlite", run) == []
    assert not (run / "feedback.sqlite").exists()


# Several runs


def test_stages_of_several_runs_are_on_one_board_and_shared_ones_once(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs" / "other"
    go(other, TOWN, "policy.kl_coef=0")
    found = between_runs([run, other], "sft")
    models = {row["model"] for row in found["leaderboards"][0]["standings"]}
    assert models == {"tiny/base", "tiny/sft", "tiny/policy", "other/policy"}
    assert {row["by"] for row in found["win_rates"]} == {"gold", "score"}, "they share the reward model"
    same = clone(other, tmp_path / "elsewhere" / "other")
    with pytest.raises(UserError, match="have the same name"):
        between_runs([other, same], "sft")
    said = concordant("wins", run, other)
    assert (said.status, said.err) == (0, "")
    assert "other/policy" in said.out


def test_runs_on_other_prompts_are_not_compared(run: Path, tmp_path: Path) -> None:
    other = clone(run, tmp_path / "runs" / "other")
    samples = other / "stages" / "06-evaluate" / "samples.jsonl"
    text = samples.read_text(encoding="utf-8")
    samples.write_text(text.replace('"prompt_id": "', '"prompt_id": "x'), encoding="utf-8")
    for stage in ("01-base", "02-sft", "05-policy"):
        marker = other / "stages" / stage / "stage.json"
        marker.write_text(
            marker.read_text(encoding="utf-8").replace('"fingerprint": "', '"fingerprint": "x'),
            encoding="utf-8",
        )
    with tells(
        "nothing decides between these runs", where="other", expected="the same prompts", fix="same seed"
    ):
        between_runs([run, other], "sft")


def test_a_gate_of_another_kind_is_not_guessed_at(run: Path) -> None:
    go(run)
    file = run / "results.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"margin"', '"marging"'), encoding="utf-8")
    with tells("cannot be read", where="results.json", expected="[gate]", fix="version"):
        decide_run(town(run.parent), run)


def test_what_was_not_measured_is_said(run: Path) -> None:
    with tells(
        "no gate was stated for this run", where=str(run), expected="[gate]", fix="docs/evaluation.md"
    ):
        decide_run(town(run.parent), run)
    (run / "results.json").unlink()
    with tells("this run has no results yet", where=str(run)):
        decide_run(town(run.parent), run)
    assert "have not been compared" in concordant("wins", run).err
    (run / "stages" / "06-evaluate" / "stage.json").unlink()
    with tells("have not been measured", where=str(run), expected="samples.jsonl"):
        between_runs([run, run], "sft")


# What a recipe may demand


@pytest.mark.parametrize(
    ("changes", "what", "where", "fix"),
    [
        ({"target": "gould"}, "unknown figure 'gould'", "gate.target", "did you mean 'gold'?"),
        ({"no_more": {"lenght": 1}}, "unknown figure 'lenght'", "gate.no_more", "did you mean 'length'?"),
        (
            {"no_less": {"refusals_by_family": {"harn": 0}}},
            "'refusals_by_family.harn'",
            "gate.no_less",
            "harm'",
        ),
        ({"target": "win_rate.labelers"}, "unknown figure", "gate.target", "win_rate"),  # nobody is asked
        ({"target": "score"}, "what the policy is trained to raise", "gate.target", "win_rate.people"),
        ({"target": "win_rate.score"}, "what the policy is trained to raise", "gate.target", "--compare"),
        ({"target": "win_rate.gold", "margin": 0.5}, "no win rate is above 1", "gate.margin", "0.05"),
    ],
)
def test_demands_that_no_run_could_meet_are_refused(
    tmp_path: Path, changes: dict[str, Any], what: str, where: str, fix: str
) -> None:
    with tells(what, where=where, fix=fix):
        plan(town(tmp_path, gate=changes), tmp_path / "run")


def test_a_score_that_no_training_raised_may_be_a_target(tmp_path: Path) -> None:
    plan(town(tmp_path, policy={"algorithm": "dpo"}, gate={"target": "score"}), tmp_path / "run")


def test_a_gate_needs_something_to_judge(tmp_path: Path) -> None:
    for missing in ("policy", "evaluate"):
        text = TOWN.partition(f"[{missing}]")[0] + ("" if missing == "policy" else "\n")
        recipe = load_recipe(town_file(tmp_path, text=text), {"gate.margin": 0})
        if missing == "evaluate":
            recipe = recipe.model_copy(update={"evaluate": None})
        with tells(
            "no policy that could pass it", where="[gate]", expected="[policy]", fix="leave [gate] out"
        ):
            plan(recipe, tmp_path / "run")


def test_labelers_of_an_evaluation_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no simulated labeler is called 'pol'"):
        plan(town(tmp_path, evaluate__labelers="pol"), tmp_path / "run")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    text = f'name = "x"\n[model]\npath = "{tmp_path}"\n[data]\npreferences = "{pairs}"\n[evaluate]\nlabelers = "pool"\n'
    with tells(
        "no world tells the labelers 'pool'", where="evaluate.labelers", expected="[world]", fix="--compare"
    ):
        plan(load_recipe(town_file(tmp_path, text=text)), tmp_path / "run")
