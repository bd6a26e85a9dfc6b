"""KTO from a file of judged completions: what is refused before anything runs, and a run from end to end."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from concordant.data.layouts.reading import read_judgements
from concordant.errors import UserError
from concordant.models.config import EmbeddedConfig
from concordant.models.load import save_model
from concordant.models.tiny import tiny_llama, train_tokenizer
from concordant.pipeline.material import FileMaterial
from concordant.pipeline.parts.judgements import check_classes, mismatches
from concordant.pipeline.plan import STAGES as STAGE_TABLE
from concordant.pipeline.plan import plan, settings
from concordant.pipeline.recipe import load_recipe
from tiny_run import Outcome, concordant, results, rows, town_file

RECIPE = """\
name = "judged"
data_root = "data"

[machine]
threads = 1

[model]
path = "model"

[data]
demonstrations = "judged.jsonl"
judgements = "judged.jsonl"

[sft]
batch = 8
steps = 4
optimizer = { lr = 1e-2 }

[policy]
algorithm = "kto"
batch = 16
epochs = 4
optimizer = { lr = 1e-2 }

[evaluate]
prompts = 6
completion = 8
diversity_prompts = 2
best_of_prompts = 0
"""

THINGS = ("bakery", "mill", "school", "bridge", "river", "market")
PLACES = ("north", "south", "east", "west")


def judged() -> list[dict[str, Any]]:
    """Twenty-four questions, a good and a bad answer to each, by turns."""
    questions = [(f"where is the {place} {thing} ?", place) for thing in THINGS for place in PLACES]
    return [
        {"prompt": question, "completion": answer, "label": good}
        for question, place in questions
        for answer, good in ((f"by the {place} gate", True), ("find out", False))
    ]


def write(file: Path, rows: Sequence[Any]) -> None:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe, a file of judgements and a tiny random model."""
    data = tmp_path / "data"
    data.mkdir()
    write(data / "judged.jsonl", judged())
    tokenizer = train_tokenizer(text for row in judged() for text in (row["prompt"], row["completion"]))
    size = EmbeddedConfig(layers=1, width=32, heads=2, context=64)
    save_model(tiny_llama(tokenizer, size, seed=0), tokenizer, data / "model")
    town_file(tmp_path, "judged.toml", RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*words: object) -> Outcome:
    """A run that ends with one message of all four parts, before anything is written."""
    done = concordant("run", "judged.toml", *words)
    assert done.status == 2, done.out
    assert done.err.startswith("error: ")
    for part in ("where: ", "expected: ", "do: "):
        assert part in done.err, done.err
    assert not Path("runs").exists()
    return done


def test_a_run_on_judgements_goes_through(here: Path) -> None:
    done = concordant("run", "judged.toml")
    assert done.status == 0, done.err
    run = here / "runs" / "judged"
    found = results(run)
    assert set(found["models"]) == {"base", "sft", "policy"}
    assert found["stages"]["feedback"]["live_votes"] == found["stages"]["feedback"]["verdicts"] == 48
    assert (found["stages"]["feedback"]["tasks_done"], found["stages"]["feedback"]["items"]) == (48, 24)
    material = FileMaterial(load_recipe(here / "judged.toml"))
    training = [row for row in material.judgements() if not material.validation(row.prompt)]
    assert 0 < found["stages"]["policy"]["examples"] == len(training) < 48
    steps = rows(run / "stages" / "05-policy" / "steps.jsonl")
    first, last = steps[0], steps[-1]
    assert first["reward/desirable"] == pytest.approx(0, abs=1e-6)
    assert last["reward/desirable"] > 0 > last["reward/undesirable"]
    assert {stage.action for stage in plan(load_recipe(here / "judged.toml"), run)} == {"skip"}


def test_other_judgements_make_another_policy(here: Path) -> None:
    recipe = load_recipe(here / "judged.toml")
    before = {name: settings(recipe, stage) for name, stage in STAGE_TABLE.items()}
    write(here / "data" / "judged.jsonl", judged()[:-2])
    after = {name: settings(recipe, stage) for name, stage in STAGE_TABLE.items()}
    changed = {name for name in before if before[name] != after[name]}
    assert {"feedback", "policy", "evaluate"} <= changed
    assert "base" not in changed


def test_prompts_come_from_judgements_where_there_are_no_others(here: Path) -> None:
    questions = {row["prompt"] for row in judged()}
    material = FileMaterial(load_recipe(here / "judged.toml"))
    asked = [*material.prompts(), *material.evaluation(100)["validation"]]
    assert len(asked) == len(questions)
    assert {prompt.text for prompt in asked} == questions
    pair = {"prompt": "who ?", "chosen": "a", "rejected": "b"}
    write(here / "data" / "pairs.jsonl", [pair])
    write(here / "data" / "prompts.jsonl", [{"prompt": "why ?"}])
    changes = {"data.preferences": "pairs.jsonl", "data.validation": 0.001}
    for more, text in (({}, "who ?"), ({"data.prompts": "prompts.jsonl"}, "why ?")):
        material = FileMaterial(load_recipe(here / "judged.toml", changes | more))
        assert [prompt.text for prompt in material.prompts()] == [text]


# What is refused


@pytest.mark.parametrize("good", [True, False])
def test_judgements_of_one_class(here: Path, good: bool) -> None:
    write(here / "data" / "judged.jsonl", [row | {"label": good} for row in judged()])
    write(here / "data" / "demonstrations.jsonl", [row for row in judged() if row.pop("label")])
    done = refused("data.demonstrations=demonstrations.jsonl")
    assert "data.judgements" in done.err
    assert "KTO sets them against each other" in done.err
    assert ("0 undesirable" if good else "0 desirable") in done.err


def test_the_only_bad_ones_are_kept_out_for_validation(here: Path) -> None:
    material = FileMaterial(load_recipe(here / "judged.toml"))
    kept_out = {row.prompt.text for row in material.judgements() if material.validation(row.prompt)}
    assert 0 < len(kept_out) < 24
    write(here / "data" / "judged.jsonl", [r | {"label": r["prompt"] not in kept_out} for r in judged()])
    assert "0 undesirable" in refused().err


def test_judgements_of_one_prompt(here: Path) -> None:
    asked = FileMaterial(load_recipe(here / "judged.toml")).prompts()[0].text
    rows = [row for row in judged() if row["prompt"] == asked]
    write(here / "data" / "judged.jsonl", rows)
    write(here / "data" / "prompts.jsonl", judged())
    done = refused("data.prompts=prompts.jsonl")
    assert "all judged completions answer one prompt" in done.err
    assert "data.judgements" in done.err


def test_a_label_that_is_none(here: Path) -> None:
    data = judged()
    data[6]["label"] = "perhaps"
    write(here / "data" / "judged.jsonl", data)
    done = refused()
    assert "judged.jsonl:7" in done.err
    assert "'perhaps', accepted are true, false, 1, 0" in done.err


def without(*lines: str) -> str:
    return "".join(line for line in RECIPE.splitlines(keepends=True) if line.strip() not in lines)


def test_nobody_judged(here: Path) -> None:
    town_file(here, "judged.toml", without('judgements = "judged.jsonl"'))
    done = refused()
    assert "nobody says which answers are good" in done.err
    assert "data.judgements" in done.err


@pytest.mark.parametrize("other", ["policy.algorithm=dpo", "reward.steps=1"])
def test_judgements_are_no_pairs(here: Path, other: str) -> None:
    done = refused(other)
    assert "nobody says which answers are better" in done.err
    assert "data.preferences" in done.err


def test_judgements_beside_a_world(here: Path) -> None:
    done = refused("world.name=town")
    assert "both a world and data." in done.err


def test_pairs_do_as_judgements(here: Path) -> None:
    """Each has a good side and a bad one, so that judgements of one class may stand beside them."""
    both = judged()
    pairs = [
        {"prompt": good["prompt"], "chosen": good["completion"], "rejected": bad["completion"]}
        for good, bad in zip(both[::2], both[1::2], strict=True)
    ]
    write(here / "data" / "pairs.jsonl", pairs)
    write(here / "data" / "good.jsonl", both[::2])
    words = ("data.preferences=pairs.jsonl", "data.judgements=good.jsonl", "policy.epochs=1")
    done = concordant("run", "judged.toml", *words, "--run", here / "runs" / "judged")
    assert done.status == 0, done.err
    found = results(here / "runs" / "judged")["stages"]
    assert found["feedback"]["live_votes"] == 24 + 24
    material = FileMaterial(load_recipe(here / "judged.toml"))
    training = sum(not material.validation(row.prompt) for row in material.judgements()[::2])
    assert found["policy"]["examples"] == 3 * training


def test_pairs_that_decide_nothing(here: Path) -> None:
    pairs = [{"prompt": row["prompt"], "chosen": "a", "rejected": "b", "p_chosen": 0.5} for row in judged()]
    write(here / "data" / "pairs.jsonl", pairs)
    town_file(here, "judged.toml", without('judgements = "judged.jsonl"'))
    done = refused("data.preferences=pairs.jsonl")
    assert "0 desirable and 0 undesirable" in done.err
    assert "data.preferences" in done.err


# Completions of other prompts


def by_hand(prompts: Sequence[str]) -> list[int]:
    n = len(prompts)
    return [next(j % n for j in range(i + 1, i + n) if prompts[j % n] != p) for i, p in enumerate(prompts)]


@pytest.mark.parametrize(
    ("prompts", "found"),
    [
        ("ab", [1, 0]),
        ("aab", [2, 2, 0]),
        ("abb", [1, 0, 0]),
        ("aabba", [2, 2, 4, 4, 2]),
        ("baaa", [1, 0, 0, 0]),
        ("abaa", [1, 2, 1, 1]),
    ],
)
def test_each_completion_is_matched_with_the_next_one_of_another_prompt(
    prompts: str, found: list[int]
) -> None:
    assert mismatches(list(prompts), "here") == found == by_hand(prompts)


def test_any_order_of_prompts_is_matched() -> None:
    rng = random.Random(0)
    for _ in range(300):
        prompts = ["a", "b", *rng.choices("abcd", weights=(9, 1, 1, 1), k=rng.randint(0, 12))]
        rng.shuffle(prompts)
        assert mismatches(prompts, "here") == by_hand(prompts)


def test_matching_takes_time_in_proportion_to_the_rows() -> None:
    """Each row is looked at a fixed number of times, also where a prompt has nearly all of them."""
    looked = 0

    class Counted(list[str]):
        def __getitem__(self, place: Any) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(place)

    n = 20_000
    found = mismatches(Counted(["a"] * (n - 1) + ["b"]), "here")
    assert found == [n - 1] * (n - 1) + [0]
    assert looked <= 8 * n


@pytest.mark.parametrize("n", [0, 1, 5])
def test_one_prompt_has_no_other(n: int) -> None:
    with pytest.raises(UserError, match="one prompt") as caught:
        mismatches(["a"] * n, "here")
    assert caught.value.where == "here"
    assert "at least two prompts" in caught.value.expected


def test_real_judgements_have_both_classes_and_other_prompts(shared_data: Path) -> None:
    found = read_judgements("llamafactory-demo/kto_en_demo.json", root=shared_data).rows
    check_classes(found, "here")
    ids = [row.prompt.id for row in found]
    others = mismatches(ids, "here")
    assert all(ids[i] != ids[j] for i, j in enumerate(others))
