"""Perplexity on held-out text: of a world, and of files that a recipe names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from concordant.evaluation.likelihood import windows
from concordant.evaluation.perplexity import Read, perplexity, text_changes
from concordant.models.load import context_length, load_policy
from concordant.pipeline.context import template_of
from concordant.pipeline.plan import STAGES, settings
from concordant.pipeline.recipe import load_recipe
from concordant.worlds.world import make_world
from tinies import plain_logprobs
from tiny_run import concordant, results, rows, town_file

FILES = """\
name = "files"

[machine]
threads = 1

[model]
path = "MODEL"

[data]
demonstrations = "chats.jsonl"
prompts = "chats.jsonl"

[sft]
batch = 4
steps = 4
optimizer = { lr = 1e-2 }

[evaluate]
prompts = 4
completion = 8
diversity_prompts = 2
text = "held-out.txt"
"""

TEXTS = ("what color is the sky ? it is blue .", " ".join(["the sky is blue ."] * 40), "no .")


def test_what_each_model_made_of_a_worlds_chats_is_on_record(finished: Path) -> None:
    found = results(finished)
    logged = [Read(**row) for row in rows(finished / "stages" / "06-evaluate" / "documents.jsonl")]
    reads = {name: [one for one in logged if one.model == name] for name in ("base", "sft", "policy")}
    assert [len(some) for some in reads.values()] == [500] * 3
    for name, some in reads.items():
        assert found["models"][name]["text"] == perplexity(some)
    for pair, figures in text_changes(reads).items():
        assert figures.items() <= found["changes"][pair].items()
    base, sft = reads["base"], reads["sft"]
    assert [(one.tokens, one.bytes) for one in base] == [(one.tokens, one.bytes) for one in sft]
    answers = [chat.completion.text for chat in make_world("town", 0).held_out_corpus(500)]
    assert sum(map(len, answers)) < sum(one.bytes for one in base) < 1.5 * sum(map(len, answers))


def test_held_out_chats_are_no_copy_of_the_corpus() -> None:
    world = make_world("town", 0)
    held_out, corpus = world.held_out_corpus(200), world.corpus(200)
    assert held_out == world.held_out_corpus(300)[:200]
    assert sum(a == b for a, b in zip(held_out, corpus, strict=True)) < 20


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe on files, whose model is the one that the town left."""
    chats = [f'{{"prompt": "what color is thing {n} ?", "completion": "it is blue ."}}\n' for n in range(40)]
    (tmp_path / "chats.jsonl").write_text("".join(chats), encoding="utf-8")
    (tmp_path / "held-out.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    model = finished / "stages" / "01-base" / "model"
    town_file(tmp_path, "files.toml", FILES.replace("MODEL", str(model)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_text_of_a_file_is_read_by_every_model_to_its_end(here: Path) -> None:
    done = concordant("run", "files.toml")
    assert done.status == 0, done.err
    run = here / "runs" / "files"
    reads = rows(run / "stages" / "06-evaluate" / "documents.jsonl")
    assert [(row["model"], row["document"]) for row in reads] == [
        (m, d) for m in ("base", "sft") for d in range(3)
    ]
    assert [row["bytes"] for row in reads[:3]] == [len(text) for text in TEXTS]
    assert results(run)["changes"]["sft_minus_base"]["text.nll_per_byte"]["n"] == 3
    recipe = load_recipe(here / "files.toml")
    template, model = template_of(recipe, recipe.model.path), load_policy(recipe.model.path)
    for read, text in zip(reads, TEXTS, strict=False):
        ids = template.plain_ids(text)
        assert read["tokens"] == len(ids)
        whole = windows(ids, template.prefix_id, context_length(model))
        nll = -sum(float(plain_logprobs(model, row).sum().detach()) for row in whole)
        assert read["nll"] == pytest.approx(nll, rel=1e-5)
    assert reads[1]["tokens"] > context_length(model)


def test_other_text_makes_another_evaluation_and_nothing_else(here: Path) -> None:
    def kept() -> dict[str, Any]:
        recipe = load_recipe(here / "files.toml")
        return {name: settings(recipe, stage) for name, stage in STAGES.items()}

    before = kept()
    (here / "held-out.txt").write_text("another text", encoding="utf-8")
    assert {name for name, given in kept().items() if given != before[name]} == {"evaluate"}


def test_text_that_is_not_there_or_none_is_said_before_anything_runs(here: Path) -> None:
    done = concordant("run", "files.toml", "evaluate.text=held-uot.txt")
    assert done.status == 2
    assert "held-out.txt" in done.err
    (here / "rows.jsonl").write_text('{"body": "a"}\n', encoding="utf-8")
    done = concordant("run", "files.toml", "evaluate.text=rows.jsonl")
    assert done.status == 2
    assert "rows.jsonl has [body]; need text" in done.err
    assert not (here / "runs").exists()


def test_the_plan_counts_the_text_that_every_model_reads(here: Path) -> None:
    def score(*words: str) -> int:
        done = concordant("plan", "files.toml", "--json", *words)
        assert done.status == 0, done.err
        (evaluate,) = (one for one in json.loads(done.out)["work"] if one["stage"] == "evaluate")
        return int(evaluate["tokens"]["score"]["number"])

    recipe = load_recipe(here / "files.toml")
    template = template_of(recipe, recipe.model.path)
    tokens = sum(len(template.plain_ids(text)) for text in TEXTS)
    assert score() - score("evaluate.documents=0") == pytest.approx(2 * tokens, abs=2 * len(TEXTS))


def test_a_gate_on_text_needs_text(here: Path) -> None:
    demand = (
        "policy.algorithm=dpo",
        "data.preferences=pairs.jsonl",
        "gate.no_more={text = {nll_per_byte = 0.1}}",
    )
    (here / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    assert "nll_per_byte" not in concordant("plan", "files.toml", *demand).err
    done = concordant("plan", "files.toml", *demand, "evaluate.documents=0")
    assert done.status == 2
    assert "text.nll_per_byte" in done.err
