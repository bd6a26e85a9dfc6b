"""Cards of models, read back as the hub reads them."""

from __future__ import annotations

import dataclasses

import pytest
from huggingface_hub import ModelCard
from made_runs import HOSTILE, full_run
from markdown_it import MarkdownIt

from concordant.app.report.cards.metadata import base_model
from concordant.app.report.cards.write import card
from concordant.app.report.source import ReportInput

STAGES = ("base", "sft", "reward", "policy")


@pytest.fixture(scope="module")
def full():
    return full_run()


@pytest.mark.parametrize("stage", STAGES)
def test_the_hub_reads_the_metadata(full, stage):
    read = ModelCard(card(full, stage, "apache-2.0"))
    assert read.data.license == "apache-2.0"
    assert read.data.library_name == "transformers"
    assert read.data.base_model is None
    assert read.data.model_name == f"town-{stage}"
    assert all(result.metric_value is not None for result in read.data.eval_results)
    assert read.data.pipeline_tag == ("text-classification" if stage == "reward" else "text-generation")


def test_faults_of_the_policy_are_no_faults_of_others(full):
    for stage in ("base", "sft", "reward"):
        assert "Exploited" not in card(full, stage)
        assert "The labelers are simulated" in card(full, stage)
    assert "Exploited" in card(full, "policy")


def test_results_of_a_policy_are_what_did_not_train_it(full):
    results = ModelCard(card(full, "policy")).data.eval_results
    found = {result.metric_name: result.metric_value for result in results}
    assert found == {
        "Gold reward, mean": 0.85, "Win rate over SFT, by gold": 0.694, "Win rate over SFT, by labelers": 0.694
    }  # fmt: skip


def test_a_policy_says_how_far_it_went_and_what_it_was_paid(full):
    text = card(full, "policy")
    for said in (
        "## Intended use", "It is a demonstration, not a product.", "d = √KL = 1.76", "kl\\_coef was 0.2",
        "It stops before the point", "≤ 2.9", "| Votes | 6,000 |", "lr =", "One seed.", "No release gate was stated",
    ):  # fmt: skip
        assert said in text or said.replace(" =", "") in text, said


def test_a_reward_model_names_its_failures(full):
    text = card(full, "reward")
    assert "It ranks 74.1 % of 1100 held-out pairs" in text
    assert (
        "On answers of the policy it agrees with gold in 63 %, on those of the model before in 79 %." in text
    )
    assert "not to be judged by its score" in text


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_made_up_of_a_run_that_was_not_measured(stage):
    text = card(ReportInput("early", recipe={"model": {"path": "org/base"}}), stage)
    assert "not been measured" in text
    read = ModelCard(text)
    assert read.data.license == "unknown"
    assert read.data.base_model == "org/base"
    assert not read.data.eval_results
    assert "Who gave the preferences is unknown" in text or stage in ("base", "sft")


@pytest.mark.parametrize(
    ("path", "name"), [("org/base", "org/base"), ("/tmp/x", None), ("", None), ("../a/b", None)]
)
def test_only_models_of_the_hub_are_base_models(path, name):
    assert base_model(ReportInput("x", recipe={"model": {"path": path}})) == name


def test_data_sets_of_the_hub_are_named_and_files_are_not(full):
    recipe = {**full.recipe, "data": {"preferences": [{"path": "org/pairs"}, {"path": "my/pairs.jsonl"}]}}
    assert ModelCard(card(dataclasses.replace(full, recipe=recipe), "policy")).data.datasets == ["org/pairs"]


def test_hostile_names_stay_text(full):
    recipe = {**full.recipe, "policy": {HOSTILE: HOSTILE}}
    text = card(dataclasses.replace(full, recipe=recipe, name=HOSTILE), "policy")
    words = ModelCard(text).text
    found = [
        inner
        for token in MarkdownIt("gfm-like", {"linkify": False}).parse(words)
        for inner in token.children or ()
    ]
    assert {token.content for token in found if token.type == "html_inline"} <= {"<br>"}
    assert "image" not in {token.type for token in found}
