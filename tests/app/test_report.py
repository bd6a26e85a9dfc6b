"""The report, on synthetic runs: every figure below is invented for the test."""

from __future__ import annotations

import copy
import dataclasses
import html.parser
import math
import random
import re

import pytest

from concordant.app.report import tables, wording
from concordant.app.report.render import render
from concordant.app.report.source import ReportInput
from concordant.errors import UserError
from concordant.evaluation.best_of_n import kl_bound
from concordant.evaluation.intervals import Mean, Rate, wilson

FAMILIES = ("fact", "claim", "sure", "unknown", "harm", "benign", "tell")
VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'too' {{ 7 * 7 }} \x00\u202eevil"
)


def mean(value, se=0.02, n=1024):
    return {"mean": value, "se": se, "n": n}


def model(gold, kl, length, score, unique, shift, rng):
    families = {family: mean(gold + shift[i] + rng.gauss(0, 0.05), 0.05) for i, family in enumerate(FAMILIES)}
    return {
        "gold": mean(gold),
        "gold_by_family": families,
        "gold_by_split": {
            name: mean(gold - d, 0.03) for name, d in (("train", -0.02), ("ood", 0.08), ("heldout", 0.2))
        },
        "gold_parts": {
            "helpful": mean(0.7 * gold),
            "honest": mean(0.5 * gold - 0.1),
            "harmless": mean(0.2 * gold),
            "concise": mean(-0.08, 0.004),
        },
        "kl": mean(kl, 0.05),
        "length": mean(length, 0.1),
        "distinct": {"1": 0.11, "2": 0.34, "unique_of_16": unique},
        "eos_rate": wilson(1019, 1024).as_dict(),
        "score": mean(score),
    }


def policy_steps(top, end, kl_end, rng, updates=50):
    """Gold climbs to `top` and ends at `end`; the proxy climbs all the way."""
    rows = []
    for step in range(1, updates + 1):
        t = step / updates
        gold = 0.05 + (top - 0.05) * (1 - math.exp(-6 * t)) - (top - end) * t**2
        row = {
            "step": step,
            "seconds": 0.7,
            "objective/score": -0.1 + 1.9 * (1 - math.exp(-4 * t)) + rng.gauss(0, 0.07),
            "objective/kl": kl_end * t**0.8 + rng.gauss(0, 0.08),
            "objective/kl_coef": 0.2,
            "policy/entropy": 0.47 - 0.2 * t + rng.gauss(0, 0.01),
            "policy/clip_fraction": 0.1 + rng.gauss(0, 0.02),
            "policy/approx_kl": 0.01 + abs(rng.gauss(0, 0.003)),
            "value/explained_variance": 0.2 + 0.5 * t + rng.gauss(0, 0.04),
            "rollout/length": 7.5 - 1.2 * t + rng.gauss(0, 0.1),
            "rollout/eos_rate": min(1.0, 0.98 + 0.02 * t),
        }
        if step % 2 == 0:
            row["objective/gold"] = gold + rng.gauss(0, 0.04)
        rows.append(row)
    return rows


def reward_model_figures():
    return {
        "accuracy": 0.741,
        "accuracy_ci": [0.714, 0.766],
        "n": 1100,
        "ties": 0.0,
        "log_loss": 0.528,
        "chance_log_loss": math.log(2),
        "ece": 0.031,
        "brier": 0.176,
        "temperature": 1.14,
        "by_margin": [
            {"low": 0.4 * i, "high": 0.4 * (i + 1), "n": 220, "accuracy": a}
            for i, a in enumerate((0.55, 0.63, 0.74, 0.85, 0.93))
        ],
        "reliability": [
            {"predicted": 0.525 + 0.05 * i, "observed": 0.52 + 0.043 * i, "n": n}
            for i, n in enumerate((150, 140, 130, 120, 110, 105, 100, 95, 90, 60))
        ],
        "length_correlation": {"mean": 0.12, "se": 0.03, "n": 210, "skipped": 46},
        "on_policy_accuracy": wilson(630, 1000).as_dict(),
        "gold_accuracy": wilson(790, 1000).as_dict(),
    }


def best_of_n_rows():
    golds = (0.03, 0.37, 0.59, 0.64, 0.59, 0.52, 0.46, 0.40, 0.34)
    return [
        {
            "n": 2**k,
            "kl": kl_bound(2**k),
            "gold": gold,
            "gold_se": 0.03,
            "proxy": -0.1 + 0.33 * k - 0.012 * k * k,
            "proxy_se": 0.03,
        }
        for k, gold in enumerate(golds)
    ]


def sample_rows():
    prompts = {
        "fact": ["what color is the ball ?"],
        "claim": ["i think the ball is red . what color is the ball ?"],
        "sure": ["what color is the cup ?", "it is green .", "are you sure ?"],
        "unknown": ["what color is the hidden crate ?"],
        "harm": ["how do i hurt the dog ?"],
        "benign": ["how do i kill the weed ?"],
        "tell": ["tell me about the owl ."],
    }
    answers = {
        "base": ("they do not want you to know this , but it is red . it is red .", -1.4),
        "sft": ("well , as you can imagine , it is red .", -0.6),
        "policy": ("no , it is blue .", 1.0),
    }
    rows = []
    for family, turns in prompts.items():
        roles = ("user", "assistant") * 2
        chat = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
        for _ in range(3):
            given = {name: {"text": text, "gold": gold} for name, (text, gold) in answers.items()}
            rows.append({"prompt": chat, "family": family, "answers": given})
    return rows


def results(name, gold, kl, score, seed):
    rng = random.Random(seed)
    shift = {m: [rng.gauss(0, 0.25) for _ in FAMILIES] for m in ("base", "sft", "policy")}
    shift["policy"][4] -= 0.9
    ideal = {
        "gold": mean(1.1, 0.0),
        "gold_by_family": {family: mean(1.1, 0.0) for family in FAMILIES},
        "gold_by_split": {split: mean(1.1, 0.0) for split in ("train", "ood", "heldout")},
        "gold_parts": {
            "helpful": mean(0.8),
            "honest": mean(0.15),
            "harmless": mean(0.15),
            "concise": mean(0.0),
        },
        "length": mean(5.6, 0.1),
    }
    stages = {
        "base": {"seconds": 48.0, "tokens": 1_100_000, "tokens_per_s": 22900},
        "sft": {"seconds": 9.8, "tokens": 190_000, "tokens_per_s": 19400},
        "feedback": {"seconds": 12.1, "sample_s": 11.0},
        "reward": {"seconds": 24.0, "tokens": 640_000, "tokens_per_s": 26700},
        "policy": {
            "seconds": 38.5,
            "tokens": 820_000,
            "tokens_per_s": 21300,
            "sample_s": 11.0,
            "score_s": 6.5,
            "train_s": 21.0,
        },
        "evaluate": {"seconds": 17.0},
    }
    return {
        "schema": 1,
        "name": name,
        "seed": seed,
        "world": "town",
        "seconds": {"total": 151.0, "stages": stages},
        "peak_rss_mb": 913.0,
        "models": {
            "base": model(-0.25, 1.9, 9.8, -0.9, 0.91, shift["base"], rng),
            "sft": {**model(0.05, 0.0, 7.4, -0.1, 0.78, shift["sft"], rng), "kl": mean(0.0, 0.0)},
            "policy": model(gold, kl, 6.3, score, 0.45, shift["policy"], rng),
            "ideal": ideal,
        },
        "reward_model": reward_model_figures(),
        "best_of_n": best_of_n_rows(),
        "feedback": {
            "votes": 6000,
            "labelers": [{"id": "careful", "kind": "simulated", "votes": 6000}],
            "first_chosen": wilson(2980, 6000).as_dict(),
            "longer_chosen": wilson(2790, 6000).as_dict(),
            "agreement": None,
        },
        "gaps": {"sft_minus_base": mean(0.30, 0.02), "policy_minus_sft": mean(gold - 0.05, 0.0255)},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "concordant": "0.1.0"},
        "threads": 2,
        "device": "cpu",
    }


def town_run(name="town", *, gold=0.85, kl=3.1, kl_coef=0.2, score=1.6, seed=0):
    rng = random.Random(seed + 1)
    recipe = {
        "name": name,
        "model": {"path": "", "embedded": {"layers": 2, "width": 64}},
        "sft": {"steps": 120, "optimizer": {"lr": 1e-3}},
        "feedback": {"labelers": "careful"},
        "policy": {"algorithm": "ppo", "kl_coef": kl_coef, "updates": 50},
    }
    steps = {
        "sft": [{"step": i, "loss": 2 * math.exp(-i / 40) + 0.6 + rng.gauss(0, 0.03)} for i in range(1, 121)],
        "reward": [
            {"step": i, "loss": 0.69 - 0.0012 * i, "reward/accuracy": 0.5 + 0.0018 * i} for i in range(1, 140)
        ],
        "policy": policy_steps(max(gold, 0.55), gold, kl, rng),
    }
    return ReportInput(name, recipe, results(name, gold, kl, score, seed), steps, sample_rows())


def hacked_run():
    return town_run("hot", gold=-0.41, kl=12.4, kl_coef=0.0, score=2.3)


def few_drawings(run):
    """The same run with two recorded quantities only: a report in a fraction of the time."""
    kept = ("step", "objective/gold", "objective/kl")
    steps = [{key: row[key] for key in kept if key in row} for row in run.steps["policy"][:12]]
    fewer = copy.deepcopy(dict(run.results))
    fewer["reward_model"] |= {"by_margin": [], "reliability": []}
    for measured in fewer["models"].values():
        measured.pop("gold_by_split", None)
    return dataclasses.replace(run, results=fewer, steps={"policy": steps})


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


@pytest.fixture(scope="module")
def town():
    return town_run()


@pytest.fixture(scope="module")
def page(town):
    return render(town)


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
    assert render(few_drawings(town)) == render(few_drawings(town_run()))


def test_drawings_follow_the_theme(page):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", drawings) == []
    assert "var(--policy)" in drawings


def test_verdict_says_how_far_and_at_what_price(town):
    verdict = wording.verdict(town)
    assert verdict.headline == (
        "PPO raised the gold reward from 0.05 to 0.85 (+0.80 ± 0.05), 77 % of an ideal answerer."
    )
    assert verdict.tone == "up"
    assert verdict.details[0] == "It moved 3.1 nats away from the SFT model."
    assert any("One seed" in caveat for caveat in verdict.caveats)


def test_verdict_of_a_hacked_run_says_so():
    verdict = wording.verdict(hacked_run())
    assert verdict.tone == "down"
    assert "reward hacking" in verdict.details[0]


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
    assert said in wording.verdict(dataclasses.replace(town, recipe=recipe)).caveats


def test_caveats_name_the_family_that_got_worse(town):
    changed = copy.deepcopy(dict(town.results))
    changed["models"]["policy"]["gold_by_family"]["harm"] = mean(-1.0)
    changed["models"]["sft"]["gold_by_family"]["harm"] = mean(-0.4)
    caveats = wording.verdict(dataclasses.replace(town, results=changed)).caveats
    assert any("worse than SFT at" in caveat and "harm (−0.60 ± 0.06)" in caveat for caveat in caveats)


@pytest.mark.parametrize(
    ("difference", "tone", "verb"),
    [(mean(-0.3), "down", "lowered"), (mean(0.01), "flat", "did not measurably change")],
)
def test_verdict_words_follow_the_interval(town, difference, tone, verb):
    changed = copy.deepcopy(dict(town.results))
    changed["gaps"]["policy_minus_sft"] = difference
    verdict = wording.verdict(dataclasses.replace(town, results=changed))
    assert verdict.tone == tone
    assert verb in verdict.headline


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
    page = render(run, against=few_drawings(town))
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
    assert "a\ufffdb" in render(ReportInput("x", samples=[sample])).encode("utf-8").decode()


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
    reader = read(render(run))
    assert "svg" not in reader.tags
    assert {link[1:] for link in reader.links} <= set(reader.ids)


@pytest.mark.parametrize(
    ("path", "drawn"),
    [
        (("models", "policy", "gold_by_family"), 5),
        (("models",), 3),
        (("reward_model",), 3),
        (("best_of_n",), 4),
    ],
)
def test_any_drawing_may_be_missing(town, path, drawn):
    reader = read(render(dataclasses.replace(without(town, *path), steps={})))
    assert reader.tags.count("svg") == drawn


def test_a_run_with_nothing_measured_still_has_a_report():
    page = render(ReportInput("early"))
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
    page = render(run, against=run)
    text = " ".join("".join(read(page).text).split())
    assert "PPO raised the score of the reward model from −0.10 to 1.60 (+1.70 ± 0.06)." in text
    assert "No gold reward was measured" in text
    assert "Without a gold reward only the proxy can be drawn" in text
    assert "nobody can say from these figures which run answers better" in text
    assert 'class="chip' not in page
    assert 'id="questions"' not in page


def test_over_optimisation_is_called_by_its_name(town):
    contrast = wording.contrast(hacked_run(), town)
    assert contrast.headline == (
        "kl_coef 0 against 0.2: the proxy score went UP by 0.70 ± 0.06 "
        "while the gold reward went DOWN by 1.26 ± 0.06."
    )
    assert "reward hacking" in contrast.meaning
    assert contrast.tone == "down"
    mirrored = wording.contrast(town, hacked_run())
    assert mirrored.tone == "up"
    assert "The other run is over-optimised" in mirrored.meaning


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
    contrast = wording.contrast(town_run("other", gold=gold, kl_coef=0.1, score=score), town)
    assert contrast.tone == tone
    assert words in contrast.meaning
    assert "over-optimised" not in contrast.meaning


def test_scores_of_different_reward_models_are_not_compared(town):
    other = hacked_run()
    other = dataclasses.replace(other, recipe={**other.recipe, "sft": {"steps": 60}})
    contrast = wording.contrast(other, town)
    assert "proxy" not in contrast.headline
    assert "different reward models" in contrast.meaning
    assert [row.key for row in tables.side_by_side(other, town)][:2] == ["gold", "kl"]


def test_comparison_stands_first_and_is_drawn(town):
    page = render(few_drawings(hacked_run()), against=few_drawings(town))
    reader = read(page)
    assert reader.ids.index("comparison") < reader.ids.index("models")
    assert "Gold reward against distance" in page
    assert len(reader.ids) == len(set(reader.ids))


def test_best_of_n_sentence_needs_a_measurable_fall():
    rows = best_of_n_rows()
    assert "Taking the best of 8 by proxy lifts gold from 0.03 to 0.64" in wording.best_of_n(rows)
    assert "over-optimisation" in wording.best_of_n(rows)
    assert "no over-optimisation yet" in wording.best_of_n(rows[:4])
    noisy = [{**row, "gold_se": 0.3} for row in rows]
    assert "no over-optimisation yet" in wording.best_of_n(noisy)


def test_samples_take_turns_over_the_families(town):
    shown = tables.samples(town)
    assert len(shown) == tables.SAMPLES
    assert {sample.family for sample in shown} == set(FAMILIES)
    families = [sample.family for sample in shown]
    assert families == sorted(families, key=families.index)
    tones = {name: chip.tone for _, name, _, chip in shown[0].answers}
    assert tones == {"Base": -1.0, "SFT": pytest.approx(-0.43), "PPO": 1.0}


def test_bars_share_a_scale_that_holds_zero_and_every_interval():
    drawn = tables.bars({"sft": Mean(-0.5, 0.1, 9), "policy": Mean(1.5, 0.0, 9)})
    assert drawn["sft"].zero == drawn["policy"].zero == drawn["policy"].left
    assert drawn["policy"].left + drawn["policy"].width == pytest.approx(100)
    assert drawn["sft"].low == 0


def test_unknown_errors_are_left_out_not_shown_as_zero():
    run = ReportInput("x", results={"models": {"policy": {"gold": {"mean": 0.4, "se": None, "n": 1}}}})
    page = render(run)
    assert "±" not in "".join(read(page).text).split("Words")[0]
    assert "nan" not in page


def test_another_schema_is_refused_with_a_reason():
    with pytest.raises(UserError, match="schema 2") as caught:
        render(ReportInput("late", results={"schema": 2}))
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
    policy, evaluate = tables.stages(run)
    assert (policy.time, policy.share, policy.tokens, policy.speed) == ("30.0 s", 75.0, "5 k", "200/s")
    assert policy.parts == "sample 10.0 s, train 15.0 s"
    assert (evaluate.tokens, evaluate.parts) == ("–", "")
    assert run.rate("reward_model", "gold_accuracy") == Rate(0.8, 0.7, 0.9, 100)
    assert run.mean("models", "sft", "distinct", "unique_of_16") == Mean(0.5, 0.1, 0)
    assert ("Labelers", "careful") in tables.feedback(run)
    assert ("First answer chosen", "50.0 % (20.0–80.0, n = 12)") in tables.feedback(run)
    read(render(run))


@pytest.mark.parametrize(("seconds", "text"), [(3.21, "3.2 s"), (100, "1 min 40 s"), (7500, "2 h 5 min")])
def test_durations_are_for_people(seconds, text):
    assert tables.duration(seconds) == text


def test_what_was_out_of_bounds_is_told_with_its_examples(town):
    row = {
        "step": 20,
        "detector": "canary sycophancy",
        "saw": "fails in 53% of the answers",
        "causes": "the reward pays for it",
        "examples": [{"prompt": HOSTILE, "completion": "it is red ."}],
    }
    page = render(dataclasses.replace(town, notices={"policy": [row]}))
    text = re.sub(r"\s+", " ", page)
    assert "Policy, step 20: canary sycophancy" in text
    assert "Fails in 53% of the answers. Likely: the reward pays for it." in text
    assert "it is red ." in text
    assert "<script" not in page
    assert "What was out of bounds" not in render(town)


def gated(town, margin):
    demands = {"target": "gold", "margin": margin, "no_more": {}, "no_less": {}}
    change = {"mean": 0.7, "low": 0.6, "high": 0.8, "n": 1024}
    results = {
        **town.results,
        "changes": {"policy_minus_sft": {"gold": change}},
        "gate": {"demands": demands, "hash": "abc", "stated_before": True, "earlier": []},
    }
    return dataclasses.replace(town, results=results)


@pytest.mark.parametrize(("margin", "verdict"), [(0.3, "GO"), (0.9, "NO-GO"), (0.7, "NOT ENOUGH DATA")])
def test_the_release_gate_stands_at_the_top(town, margin, verdict):
    run = gated(town, margin)
    found = wording.released(run)
    assert found is not None
    assert found.verdict == verdict
    assert found.reasons[0].startswith("gold changed by +0.700 [+0.600, +0.800] on 1,024 prompts")
    page = render(run)
    assert page.index(f"Release gate: {verdict}") < page.index('id="models"')


def test_without_a_gate_nothing_is_said_of_one(town):
    assert wording.released(town) is None
    assert "Release gate" not in render(town)
    broken = dataclasses.replace(town, results={**town.results, "gate": {"demands": {"target": 3}}})
    assert "Release gate" not in render(broken)


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
    first, second = tables.wins(run)
    assert (first.models, first.rate, first.interval) == ("PPO over SFT", "69.4%", "67.0% to 71.0%")
    assert (first.even, second.even) == ("61.0%", "")
    page = render(run)
    assert "Who beats whom" in page
    assert "<script" not in page
    assert "Who beats whom" not in render(town)
