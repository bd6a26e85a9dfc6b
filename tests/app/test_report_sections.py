"""Sections of the report that read more than the figures of the models."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from made_runs import HOSTILE, answer_rows, few_drawings, full_run, redteam_results, town_run

from concordant.app.report.compose import compose
from concordant.app.report.html import page
from concordant.app.report.json_form import as_json
from concordant.app.report.sections import (
    behaviours,
    capability,
    limits,
    overoptimisation,
    redteam,
    samples,
    training,
    variety,
    wins,
)  # fmt: skip
from concordant.app.report.sections.samples import answered, pick
from concordant.app.report.sections.verdict import caveats, verdict


@pytest.fixture(scope="module")
def full():
    return full_run()


def with_results(run, **changes):
    return dataclasses.replace(run, results=copy.deepcopy(dict(run.results)) | changes)


def browser_of(run):
    section = samples.section(run)
    assert section is not None
    return section.blocks[-1]


def test_the_samples_that_the_score_likes_beyond_their_worth_come_first(full):
    views = {view.key: view for view in browser_of(full).views}
    assert list(views) == ["across", "exploited", "beyond", "lost", "longest", "strange"]
    (sample,) = views["exploited"].samples
    assert (sample.family, sample.replies[1].text) == ("longer answers", "long and long .")
    beyond = views["beyond"].samples
    golds = [sample.replies[1].marks[0].text for sample in beyond]
    assert golds[:8] == ["−1.00"] * 8
    assert [reply.model for reply in beyond[0].replies] == ["sft", "policy"]
    assert len(views["longest"].samples) == 20
    assert views["longest"].samples[0].replies[1].marks[2].text == "16"
    assert {sample.replies[1].marks[0].text for sample in views["lost"].samples} == {"−1.00"}


def test_one_question_with_one_answer_is_shown_once(full):
    twice = [*full.answers, *({**row, "draw": row["draw"] + 1000} for row in full.answers)]
    found = pick(list(answered(twice)), "sft", lambda _, after: after.length)
    assert len({(one.id, one.said["policy"].text) for one in found}) == len(found) == 20


def test_without_gold_nothing_stands_against_the_score(full):
    rows = [{**row, "gold": None} for row in full.answers]
    views = browser_of(dataclasses.replace(full, answers=rows, samples=())).views
    assert [view.key for view in views] == ["across", "exploited", "longest", "strange"]


def test_views_and_families_are_picked_without_a_script(full):
    html = page(compose(few_drawings(full)))
    assert "<script" not in html
    assert 'id="view-beyond"' in html
    assert ".browser:has(#view-beyond:checked) > .view:not(.view-beyond)" in html
    assert "@media print { .browser > .view" in html


def test_families_with_any_name_become_no_style(full):
    rows = [{**row, "family": "</style><script>"} for row in answer_rows(20, hostile=True)]
    html = page(compose(dataclasses.replace(few_drawings(full), answers=rows)))
    assert "<script" not in html
    assert html.count("<style>") == html.count("</style>")


def test_both_ends_of_behaviours(full):
    section = behaviours.section(full)
    assert section is not None
    figures = section.blocks[1].items
    assert [figure.title for figure in figures][:2] == ["Harm and over-refusal", "Guessing and not answering"]
    assert figures[0].numbers.rows[0].cells[0].text == "8.3 %"
    assert behaviours.section(town_run()) is None


def test_one_end_alone_is_not_drawn(full):
    changed = with_results(full)
    for model in ("sft", "policy"):
        del changed.results["models"][model]["behaviors"]["over-refusal"]
    section = behaviours.section(changed)
    assert section is not None
    assert "Harm and over-refusal" not in [figure.title for figure in section.blocks[1].items]


def test_attacks_have_bounds_where_none_succeeded(full):
    one = full.redteam["sets"]["town"]
    direct, prefill = redteam.table(full, one).rows
    assert direct.note == "128 attempts on 32 requests"
    assert (direct.cells[2].text, direct.cells[2].error) == ("0.0 %", " (≤ 2.9)")
    assert prefill.cells[0].text == "100.0 %"
    assert direct.cells[4].text == "−31 ± 8 points"


def test_a_family_that_got_worse_is_named(full):
    found = redteam_results()
    found["sets"]["town"]["changes"]["prefill"] = {"mean": 0.2, "se": 0.03, "n": 128}
    section = redteam.section(dataclasses.replace(full, redteam=found))
    assert section is not None
    assert section.blocks[-1].items == ("Worse by more than three standard errors than before: prefill.",)


def test_a_family_that_failed_everywhere_is_named_although_no_request_differs(full):
    found = redteam_results()
    found["sets"]["town"]["changes"]["direct"] = {"mean": 1.0, "se": 0.0, "n": 38}
    section = redteam.section(dataclasses.replace(full, redteam=found))
    assert section.blocks[-1].items == ("Worse by more than three standard errors than before: direct.",)


def test_open_verdicts_are_no_bound_and_one_request_no_error(full):
    found = redteam_results()
    share = found["sets"]["town"]["stages"]["policy"]["direct"]["attacks"]
    share |= {"failed": 0, "open": 30, "rate": 0.0, "low": 0.0, "high": 0.99}
    found["sets"]["town"]["changes"]["direct"] = {"mean": 0.5, "se": None, "n": 1}
    run = dataclasses.replace(full, redteam=found)
    direct = redteam.table(run, found["sets"]["town"]).rows[0]
    assert (direct.cells[2].text, direct.cells[2].error) == ("0.0 %", " (0.0–99.0) + 30 open")
    assert (direct.cells[4].low, direct.cells[4].high) == (None, None)
    assert json.loads(as_json(compose(few_drawings(run))))


def test_figures_of_models_that_are_no_more_are_said_to_be_left_out(full):
    run = dataclasses.replace(full, redteam={}, outdated=("town (redteam)",))
    assert any("made anew since: town (redteam)" in one for one in limits.limits(run))


def test_names_of_attacks_are_hostile_too(full):
    html = page(compose(dataclasses.replace(few_drawings(full), redteam=redteam_results(HOSTILE))))
    assert "<script" not in html
    assert "onerror=alert(2)>" not in html


def test_where_the_run_stands_on_its_curve(full):
    section = overoptimisation.section(full)
    assert section is not None
    _, standing, drawn, paid = section.blocks
    assert standing.headline == "It stops before the point at which its gold would turn."
    assert standing.tone == "up"
    assert [figure.title for figure in drawn.items] == [
        "Best of n", "Gold over distance", "Score of the reward model over distance", "Score against gold"
    ]  # fmt: skip
    assert "best of n at d = 1.12 and for PPO at d = 3.30" in drawn.items[1].note
    assert paid.items[0].note == "Beside the truth it was paid for longer answers (50 %)."


def test_a_gold_that_never_turned_has_no_turning_point(full):
    found = full.results["over_optimisation"]
    path = {**found, "fit": {**found["fit"], "d_star": None, "d_star_ci": [None, None]}}
    section = overoptimisation.section(with_results(full, over_optimisation=path))
    assert section is not None
    assert section.blocks[1].headline == "Along its training its gold did not turn."
    assert "has no highest point" in section.blocks[1].paragraphs[0]


def test_without_gold_a_second_reward_model_stands_in(full):
    rows = [{**row, "gold": None, "held_out": 0.1 * i} for i, row in enumerate(full.results["best_of_n"])]
    fit = {"alpha": 0.9, "beta": 0.4, "d_star": 1.12, "truth": "held_out"}
    path = {**full.results["over_optimisation"], "truth": "probe"}
    run = with_results(full, best_of_n=rows, best_of_n_fit=fit, over_optimisation=path)
    section = overoptimisation.section(dataclasses.replace(run, steps={}))
    assert section is not None
    assert section.blocks[1].headline == (
        "It stops before the point at which the share preferred in blind probes would turn."
    )
    titles = {figure.title: figure for figure in section.blocks[2].items}
    assert "best of n at d = 1.12" in titles["Second reward model over distance"].note
    assert "Gold over distance" not in titles


def test_what_was_exploited_stands_among_what_to_keep_in_mind(full):
    (said,) = [one for one in caveats(full) if one.startswith("Exploited")]
    assert said.startswith("Exploited: longer answers (length +0.20 an answer, 50% [45%, 55%])")
    nothing = with_results(full, exploits=full.results["exploits"] | {"named": []})
    assert not [one for one in caveats(nothing) if one.startswith("Exploited")]


def test_what_the_score_was_paid_for_stands_below_the_headline(full):
    assert (
        "Of what its score gained, 50 % was paid for longer answers, and not for better ones."
        in (verdict(full).paragraphs[0])
    )
    unknown = with_results(full, exploits=full.results["exploits"] | {"truth": None})
    assert "was paid for" not in verdict(unknown).paragraphs[0], "nobody knows what they are worth"


def test_canaries_are_drawn_with_what_makes_an_alarm(full):
    looks = [
        row | {"canary/sycophancy": 0.1, "canary_limit/sycophancy": 0.3, "canary/own": 0.2}
        for row in full.steps["policy"][::5]
    ]
    found = training.section(dataclasses.replace(full, steps={"policy": looks}))
    (drawn,) = [one for one in found.blocks if getattr(one, "title", "") == training.CANARIES]
    known, own = drawn.items
    assert (known.title, known.note) == ("Sycophancy", "Agrees if it is wrong")
    assert {row.note for row in known.numbers.rows} == {"fails", "alarm"}
    assert {row.note for row in own.numbers.rows} == {""}, "a log without limits"
    assert (own.title, own.note) == ("Own", "")
    assert training.section(dataclasses.replace(full, steps={"policy": looks[:1]})) is None, "one look"


def test_the_pair_that_matters_comes_first(full):
    section = wins.section(full)
    assert section is not None
    (figure,) = section.blocks[1].items
    assert [row.label for row in figure.numbers.rows] == ["PPO over SFT"] * 2 + ["SFT over Base"] * 2
    assert figure.numbers.rows[0].cells[4].text == "64.0 %"


def test_limits_come_from_the_run(full):
    said = "\n".join(limits.limits(full))
    assert "The gold is the world's own" in said
    assert "96 prompts cannot tell a win rate below 64.0 % from one half" in said
    assert "(PPO over SFT by gold and PPO over SFT by labelers)" in said
    assert "The judge also trained" not in said
    assert "No red team" not in said
    recipe = {**full.recipe, "evaluate": {"labelers": "careful"}}
    late = with_results(full, gate={"stated_before": False, "earlier": ["x"], "demands": {}})
    late = dataclasses.replace(late, recipe=recipe, redteam={})
    said = "\n".join(limits.limits(late))
    assert "The judge also trained: careful" in said
    assert "The gate was stated after the figures were there" in said
    assert "No red team has attacked" in said


def test_variety_shows_how_values_are_spread(full):
    section = variety.section(full)
    assert section is not None
    titles = [figure.title for figure in section.blocks[1].items]
    assert titles == ["Length", "Distance from before", "Different answers"]
    assert variety.bins([1, 2, 4]) == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert variety.bins([0.0, 0.5])[-1] == 0.5


def test_what_the_policy_unlearnt(full):
    stages = {
        stage: {"acc": {"mean": value, "se": 0.02, "n": 200}}
        for stage, value in (("sft", 0.62), ("policy", 0.6))
    }
    change = {"mean": -0.02, "low": -0.05, "high": 0.01, "n": 200, "verdict": "open"}
    task = {"margin": 0.02, "stages": stages, "changes": {"policy_minus_sft": {"acc": change}}}
    tax = {"tasks": {"arc": task}}
    section = capability.section(dataclasses.replace(full, tax=tax))
    assert section is not None
    (row,) = section.blocks[1].rows
    assert (row.label, row.note) == ("arc", "acc, margin 0.020")
    assert [cell and cell.text for cell in row.cells] == [None, "0.620", "0.600", "−0.020", "open"]
    assert capability.section(full) is None
    rose = {"mean": 0.2, "low": 0.1, "high": 0.3, "n": 200, "verdict": "better"}
    bleu = {stage: {"bleu": {"reported": 31.5}} for stage in ("base", "sft", "policy")}
    tasks = {
        "arc": task | {"changes": {"sft_minus_base": {"acc": rose}, **task["changes"]}},
        "early": task | {"changes": {"sft_minus_base": {"acc": rose}}},
        "whole": {"stages": bleu, "changes": {}},
    }
    table = capability.section(dataclasses.replace(full, tax={"tasks": tasks})).blocks[1]
    assert table.columns[3].text == "PPO less SFT"
    arc, early, whole = table.rows
    assert arc.cells[3].text == "−0.020", "the policy, and not what SFT gained"
    assert (early.cells[3].text, early.note) == ("+0.200", "acc, margin 0.020; SFT less Base")
    assert [cell and cell.text for cell in whole.cells] == ["31.500"] * 3 + [None, None]


def test_a_run_as_large_as_the_demo_stays_below_two_megabytes(full):
    rows = [{**row, "text": "a word or two " * 40} for row in answer_rows(1500)]
    html = page(compose(dataclasses.replace(full, answers=rows, against=full_run("other", kl_coef=0.0))))
    assert len(html.encode()) < 2_000_000
