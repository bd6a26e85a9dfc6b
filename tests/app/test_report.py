"""The report, on synthetic runs."""

from __future__ import annotations

import copy
import dataclasses
import html.parser
import re

import pytest
from made_runs import (
    FAMILIES,
    HOSTILE,
    best_of_n_rows,
    few_drawings,
    hacked_run,
    mean,
    town_run,
)

from concordant.app.report.compose import compose
from concordant.app.report.document import Browser
from concordant.app.report.html import page as page_of
from concordant.app.report.phrases import bars, duration
from concordant.app.report.sections import comparison, labels, made, samples, wins
from concordant.app.report.sections.comparison import contrast
from concordant.app.report.sections.overoptimisation import best_of_n
from concordant.app.report.sections.verdict import caveats, released, verdict
from concordant.app.report.source import ReportInput
from concordant.errors import UserError
from concordant.evaluation.intervals import Mean, Rate

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(html.parser.HTMLParser):
    """Collects tags and visible text, and fails on tags that do not nest."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.text, self.links = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for key, value in attrs if key == "id"]
        self.links += [value for key, value in attrs if key in {"href", "src", "xlink:href", "action"}]
        assert not any(key.startswith("on") for key, _ in attrs), attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def html_of(run, against=None):
    return page_of(compose(dataclasses.replace(run, against=against)))


@pytest.fixture(scope="module")
def town():
    return town_run()


@pytest.fixture(scope="module")
def page(town):
    return html_of(town)


def without(run, *path):
    """The same run without one part of its results."""
    changed = copy.deepcopy(dict(run.results))
    here = changed
    for key in path[:-1]:
        here = here[key]
    here.pop(path[-1])
    return dataclasses.replace(run, results=changed)


def test_page_is_sound_html_in_one_file(page):
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    targets = [link[1:] for link in reader.links if link.startswith("#")]
    assert len(targets) == len(reader.links), "a link that leaves the page"
    assert set(targets) <= set(reader.ids)
    assert "script" not in reader.tags
    assert reader.tags.count("svg") >= 12


def test_page_asks_for_nothing_outside(page):
    assert re.findall(r"https?://(?!www\.w3\.org/(?:1999/xlink|2000/svg))", page) == []
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")
    assert "default-src 'none'" in page


def test_page_is_small_and_repeatable(town, page):
    assert len(page.encode()) < 1_000_000
    assert html_of(few_drawings(town)) == html_of(few_drawings(town_run()))


def test_drawings_follow_the_theme(page):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", drawings) == []
    assert "var(--policy)" in drawings


def test_verdict_says_how_far_and_at_what_price(town):
    said = verdict(town)
    assert said.headline == (
        "PPO raised the gold reward from 0.05 to 0.85 (+0.80 ± 0.05), 77 % of an ideal answerer."
    )
    assert said.tone == "up"
    assert said.paragraphs[0].startswith("It moved 3.1 nats away from the SFT model.")
    assert any("One seed" in caveat for caveat in caveats(town))


def test_verdict_of_a_hacked_run_says_so():
    said = verdict(hacked_run())
    assert said.tone == "down"
    assert "reward hacking" in said.paragraphs[0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "The labelers are simulated (careful)."),
        ("simulated", "The labelers are simulated (careful)."),
        ("human", "The labelers are people."),
        ("human+simulated", "The labelers are people, beside simulated ones (careful)."),
    ],
)
def test_caveats_say_who_the_labelers_are(town, source, said):
    recipe = {**town.recipe, "feedback": {"labelers": "careful"} | ({"source": source} if source else {})}
    assert said in caveats(dataclasses.replace(town, recipe=recipe))


def test_caveats_name_the_family_that_got_worse(town):
    changed = copy.deepcopy(dict(town.results))
    changed["models"]["policy"]["gold_by_family"]["harm"] = mean(-1.0)
    changed["models"]["sft"]["gold_by_family"]["harm"] = mean(-0.4)
    found = caveats(dataclasses.replace(town, results=changed))
    assert any(
        "worse than the SFT model at" in caveat and "harm (−0.60 ± 0.06)" in caveat for caveat in found
    )


@pytest.mark.parametrize(
    ("difference", "tone", "verb"),
    [(mean(-0.3), "down", "lowered"), (mean(0.01), "flat", "did not measurably change")],
)
def test_verdict_words_follow_the_interval(town, difference, tone, verb):
    changed = copy.deepcopy(dict(town.results))
    changed["gaps"]["policy_minus_sft"] = difference
    said = verdict(dataclasses.replace(town, results=changed))
    assert said.tone == tone
    assert verb in said.headline


def test_hostile_text_is_shown_and_never_run(town):
    samples = [
        {
            "prompt": [{"role": "<b>", "content": HOSTILE}],
            "family": HOSTILE,
            "answers": {
                "policy": {"text": HOSTILE, "gold": 0.5},
                "sft": {"text": "x" * 100_000, "gold": None},
            },
        }
    ]
    changed = copy.deepcopy(dict(town.results))
    changed["models"]["policy"]["gold_by_family"] = {HOSTILE: mean(0.1), "$\\frac{1}$": mean(0.2)}
    changed["versions"] = {HOSTILE: HOSTILE}
    run = ReportInput(HOSTILE, {"policy": {HOSTILE: HOSTILE}}, changed, few_drawings(town).steps, samples)
    page = html_of(run, against=few_drawings(town))
    reader = read(page)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    assert "<script>alert(1)</script>" in "".join(reader.text)
    assert "{{ 7 * 7 }}" in page
    assert "\x00" not in page
    assert "\u202e" not in page
    assert "99300 more characters" in page
    assert len(page.encode()) < 1_000_000
    page.encode("utf-8")


def test_halves_of_surrogates_do_not_break_the_file():
    sample = {"prompt": [], "answers": {"sft": {"text": "a\ud800b", "gold": 1.0}}}
    assert "a\ufffdb" in html_of(ReportInput("x", samples=[sample])).encode("utf-8").decode()


PARTS = [
    ("models",),
    ("models", "ideal"),
    ("models", "base"),
    ("models", "policy"),
    ("models", "policy", "kl"),
    ("reward_model", "accuracy"),
    ("reward_model",),
    ("feedback", "labelers"),
    ("feedback",),
    ("gaps",),
    ("seconds",),
    ("versions",),
]


@pytest.mark.parametrize("path", PARTS, ids=".".join)
def test_any_figure_may_be_missing(town, path):
    bare = copy.deepcopy(dict(town.results)) | {"best_of_n": []}
    for measured in bare["models"].values():
        measured.pop("gold_by_family")
        measured.pop("gold_by_split")
    bare["reward_model"] |= {"by_margin": [], "reliability": []}
    run = without(dataclasses.replace(town, results=bare, steps={}), *path)
    reader = read(html_of(run))
    assert "svg" not in reader.tags
    assert {link[1:] for link in reader.links} <= set(reader.ids)


@pytest.mark.parametrize(
    ("path", "drawn"),
    [
        (("models", "policy", "gold_by_family"), 7),
        (("models",), 5),
        (("reward_model",), 5),
        (("best_of_n",), 4),
    ],
)
def test_any_drawing_may_be_missing(town, path, drawn):
    reader = read(html_of(dataclasses.replace(without(town, *path), steps={})))
    assert reader.tags.count("svg") == drawn


def test_a_run_with_nothing_measured_still_has_a_report():
    page = html_of(ReportInput("early"))
    read(page)
    assert "This run has not been evaluated yet." in page
    assert 'id="samples"' not in page


def real_run():
    """A run on real data: no world, hence no gold anywhere."""
    run = town_run("real")
    changed = copy.deepcopy(dict(run.results)) | {"world": None, "gaps": {}}
    del changed["models"]["ideal"]
    for measured in changed["models"].values():
        for key in [key for key in measured if key.startswith("gold")]:
            del measured[key]
    for row in changed["best_of_n"]:
        row["gold"] = row["gold_se"] = None
    changed["reward_model"]["gold_accuracy"] = None
    steps = [{k: v for k, v in row.items() if k != "objective/gold"} for row in run.steps["policy"]]
    samples = copy.deepcopy(run.samples)
    for row in samples:
        for answer in row["answers"].values():
            answer["gold"] = None
    return dataclasses.replace(run, results=changed, steps={"policy": steps}, samples=samples)


def test_without_gold_the_page_says_what_is_measured_instead():
    run = few_drawings(real_run())
    page = html_of(run, against=run)
    text = " ".join("".join(read(page).text).split())
    assert "PPO raised the score of the reward model from −0.10 to 1.60 (+1.70 ± 0.06)." in text
    assert "No gold reward was measured" in text
    assert "Without a gold reward only the proxy can be drawn" in text
    assert "nobody can say from these figures which run answers better" in text
    assert 'class="chip' not in page
    assert 'id="questions"' not in page


def test_over_optimisation_is_called_by_its_name(town):
    said = contrast(hacked_run(), town)
    assert said.headline == (
        "kl_coef 0 against 0.2: the proxy score went UP by 0.70 ± 0.06 "
        "while the gold reward went DOWN by 1.26 ± 0.06."
    )
    assert "reward hacking" in said.paragraphs[0]
    assert said.tone == "down"
    mirrored = contrast(town, hacked_run())
    assert mirrored.tone == "up"
    assert "The other run is over-optimised" in mirrored.paragraphs[0]


@pytest.mark.parametrize(
    ("gold", "score", "tone", "words"),
    [
        (0.86, 1.61, "flat", "No difference that these prompts can show"),
        (0.86, 1.90, "flat", "bought no quality"),
        (1.00, 1.90, "up", "Better on both"),
        (0.60, 1.30, "down", "Worse on both"),
        (0.60, 1.61, "down", "does not see it"),
        (1.00, 1.61, "up", "does not see it"),
        (0.86, 1.30, "flat", "no loss of quality"),
    ],
)
def test_other_comparisons_claim_no_more_than_the_intervals(town, gold, score, tone, words):
    said = contrast(town_run("other", gold=gold, kl_coef=0.1, score=score), town)
    assert said.tone == tone
    assert words in said.paragraphs[0]
    assert "over-optimised" not in said.paragraphs[0]


def table_of(run, against):
    table = comparison.side_by_side(run, against)
    assert table is not None
    return table


def test_scores_of_different_reward_models_are_not_compared(town):
    other = hacked_run()
    other = dataclasses.replace(other, recipe={**other.recipe, "sft": {"steps": 60}})
    said = contrast(other, town)
    assert "proxy" not in said.headline
    assert "different reward models" in said.paragraphs[0]
    assert [row.label for row in table_of(other, town).rows][:2] == ["Gold reward", "KL to SFT, nats"]


def test_comparison_stands_first_and_is_drawn(town):
    page = html_of(few_drawings(hacked_run()), against=few_drawings(town))
    reader = read(page)
    assert reader.ids.index("comparison") < reader.ids.index("models")
    assert "Gold reward against distance" in page
    assert len(reader.ids) == len(set(reader.ids))


def test_best_of_n_sentence_needs_a_measurable_fall():
    rows = best_of_n_rows()
    assert "Taking the best of 8 by proxy lifts gold from 0.03 to 0.64" in best_of_n(rows)
    assert "over-optimisation" in best_of_n(rows)
    assert "no over-optimisation yet" in best_of_n(rows[:4])
    noisy = [{**row, "gold_se": 0.3} for row in rows]
    assert "no over-optimisation yet" in best_of_n(noisy)


def browser(run):
    section = samples.section(run)
    assert section is not None
    return next(block for block in section.blocks if isinstance(block, Browser))


def test_samples_take_turns_over_the_families(town):
    (view,) = browser(town).views
    shown = view.samples
    assert len(shown) == samples.ACROSS
    assert {sample.family for sample in shown} == set(FAMILIES)
    families = [sample.family for sample in shown]
    assert families == sorted(families, key=families.index)
    tones = {reply.name: reply.marks[0].tone for reply in shown[0].replies}
    assert tones == {"Base": -1.0, "SFT": pytest.approx(-0.43), "PPO": 1.0}


def test_bars_share_a_scale_that_holds_zero_and_every_interval():
    drawn = bars({"sft": Mean(-0.5, 0.1, 9), "policy": Mean(1.5, 0.0, 9)})
    assert drawn["sft"].zero == drawn["policy"].zero == drawn["policy"].left
    assert drawn["policy"].left + drawn["policy"].width == pytest.approx(100)
    assert drawn["sft"].low == 0


def test_unknown_errors_are_left_out_not_shown_as_zero():
    run = ReportInput("x", results={"models": {"policy": {"gold": {"mean": 0.4, "se": None, "n": 1}}}})
    page = html_of(run)
    assert "±" not in "".join(read(page).text).split("Words")[0]
    assert "nan" not in page


def test_another_schema_is_refused_with_a_reason():
    with pytest.raises(UserError, match="schema 2") as caught:
        html_of(ReportInput("late", results={"schema": 2}))
    assert "late" in caught.value.where


def test_results_may_hold_intervals_and_throughput_beside_the_figures():
    results = {
        "seconds": {"stages": {"policy": 30.0, "evaluate": 10.0}},
        "throughput": {"policy": {"sample": {"seconds": 10.0, "tokens": 5000}, "train": {"seconds": 15.0}}},
        "reward_model": {"gold_accuracy": 0.8, "gold_accuracy_ci": [0.7, 0.9], "gold_accuracy_n": 100},
        "models": {"sft": {"distinct": {"unique_of_16": 0.5, "unique_of_16_se": 0.1}}},
        "feedback": {
            "votes": 12,
            "labelers": 1,
            "labeler_names": ["careful"],
            "first_chosen": {"value": 0.5, "n": 12, "low": 0.2, "high": 0.8},
        },
    }
    run = ReportInput("x", results=results)
    table = made.stages(run)
    assert table is not None
    policy, evaluate = (
        dict(zip(("time", "tokens", "speed", "parts"), row.cells, strict=True)) for row in table.rows
    )
    assert [policy[key].text for key in ("time", "tokens", "speed")] == ["30.0 s", "5 k", "200/s"]
    assert policy["time"].bar.width == 75.0
    assert policy["parts"].text == "sample 10.0 s, train 15.0 s"
    assert (evaluate["tokens"].text, evaluate["parts"].text) == ("–", "")
    assert run.rate("reward_model", "gold_accuracy") == Rate(0.8, 0.7, 0.9, 100)
    assert run.mean("models", "sft", "distinct", "unique_of_16") == Mean(0.5, 0.1, 0)
    assert ("Labelers", "careful") in list(labels.feedback(run))
    assert ("First answer chosen", "50.0 % (20.0–80.0, n = 12)") in list(labels.feedback(run))
    read(html_of(run))


@pytest.mark.parametrize(("seconds", "text"), [(3.21, "3.2 s"), (100, "1 min 40 s"), (7500, "2 h 5 min")])
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_what_was_out_of_bounds_is_told_with_its_examples(town):
    row = {
        "step": 20,
        "detector": "canary sycophancy",
        "saw": "fails in 53% of the answers",
        "causes": "the reward pays for it",
        "examples": [{"prompt": HOSTILE, "completion": "it is red ."}],
    }
    page = html_of(dataclasses.replace(town, notices={"policy": [row]}))
    text = re.sub(r"\s+", " ", page)
    assert "Policy, step 20: canary sycophancy" in text
    assert "Fails in 53% of the answers. Likely: the reward pays for it." in text
    assert "it is red ." in text
    assert "<script" not in page
    assert "What was out of bounds" not in html_of(town)


def gated(town, margin):
    demands = {"target": "gold", "margin": margin, "no_more": {}, "no_less": {}}
    change = {"mean": 0.7, "low": 0.6, "high": 0.8, "n": 1024}
    results = {
        **town.results,
        "changes": {"policy_minus_sft": {"gold": change}},
        "gate": {"demands": demands, "hash": "abc", "stated_before": True, "earlier": []},
    }
    return dataclasses.replace(town, results=results)


@pytest.mark.parametrize(("margin", "decided"), [(0.3, "GO"), (0.9, "NO-GO"), (0.7, "NOT ENOUGH DATA")])
def test_the_release_gate_stands_at_the_top(town, margin, decided):
    run = gated(town, margin)
    found = released(run)
    assert found is not None
    assert found.headline == f"Release gate: {decided}"
    assert found.points[0].startswith("gold changed by +0.700 [+0.600, +0.800] on 1,024 prompts")
    page = html_of(run)
    assert page.index(f"Release gate: {decided}") < page.index('id="models"')
    assert verdict(run).tone == ("down" if decided == "NO-GO" else "up"), "no release is no good news"


def test_without_a_gate_nothing_is_said_of_one(town):
    assert released(town) is None
    assert "Release gate" not in html_of(town)
    broken = dataclasses.replace(town, results={**town.results, "gate": {"demands": {"target": 3}}})
    assert "Release gate" not in html_of(broken)


def test_a_run_without_sft_is_measured_against_its_base(town):
    results = copy.deepcopy(dict(town.results))
    del results["models"]["sft"]
    results["models"]["base"] |= {"gold": mean(1.0, 0.01), "score": mean(0.1, 0.02)}
    results["models"]["policy"] |= {"gold": mean(0.84, 0.01), "score": mean(1.3, 0.02)}
    results["gaps"] = {"policy_minus_base": mean(-0.16, 0.02)}
    run = dataclasses.replace(town, results=results)
    said = verdict(run)
    assert (said.tone, said.headline) == (
        "down", "PPO lowered the gold reward from 1.00 to 0.84 (−0.16 ± 0.04), 76 % of an ideal answerer."
    )  # fmt: skip
    assert "reward hacking" in said.paragraphs[0]
    assert "away from the base model" in said.paragraphs[0]
    assert any(one.startswith("One seed.") for one in caveats(run))


def test_choosing_that_only_harms_is_said_to():
    rows = best_of_n_rows()
    for n, row in enumerate(rows):
        row |= {"gold": 0.8 - 0.1 * n, "gold_se": 0.01}
    assert best_of_n(rows).startswith(
        "Choosing by the reward model lifts gold nowhere: it is 0.80 without a choice"
    )


def test_signs_that_nobody_sees_are_shown_as_marks(town):
    hidden = "a\u200bb\u2060c\ufeffd\xade\U000e0041f"
    page = html_of(dataclasses.replace(town, name=hidden))
    assert hidden not in page
    assert "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf" in page


def test_who_beats_whom(town):
    even = {"rate": 0.61, "low": 0.58, "high": 0.64, "slope": -1.0}
    row = {
        "by": HOSTILE,
        "first": "sft",
        "second": "policy",
        "rate": 0.694,
        "low": 0.67,
        "high": 0.71,
        "n": 1500,
    }
    run = dataclasses.replace(
        town, results={**town.results, "win_rates": [{**row, "length_controlled": even}, row]}
    )
    first, second = wins.wins(run, run.results["win_rates"]).rows
    assert (first.label, first.cells[1].text, first.cells[1].error) == (
        "PPO over SFT",
        "69.4 %",
        " (67.0–71.0)",
    )
    assert (first.cells[2].text, second.cells[2]) == ("61.0 %", None)
    page = html_of(run)
    assert "Who beats whom" in page
    assert "<script" not in page
    assert "Who beats whom" not in html_of(town)
