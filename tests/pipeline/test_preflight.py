"""What is wrong with data and models is said before the first stage begins, and leaves everything as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from concordant.data.config import Source
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.material import FileMaterial, content_fingerprint, source_fingerprints
from concordant.pipeline.plan import plan
from concordant.pipeline.recipe import load_recipe
from concordant.pipeline.run import prepare
from tiny_run import STAGES, Outcome, Stopper, concordant, fingerprints, results, snapshot, town_file

FILES = """\
name = "files"
data_root = "data"

[machine]
threads = 1

[model]
path = "model"

[data]
demonstrations = "demonstrations.jsonl"
preferences = "pairs.jsonl"

[sft]
batch = 8
steps = 2

[reward]
batch = 8
steps = 2

[policy]
updates = 1
batch = 8
completion = 8

[evaluate]
prompts = 6
completion = 8
diversity_prompts = 2
best_of_prompts = 0
"""

THINGS = ("bakery", "mill", "school", "bridge", "river", "market", "tower", "garden")
PLACES = ("north", "south", "east", "west", "old", "new")


def pairs() -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"where is the {place} {thing} ?",
            "chosen": f"by the {place} gate",
            "rejected": f"no {thing}",
        }
        for thing in THINGS
        for place in PLACES
    ]


def demonstrations() -> list[dict[str, Any]]:
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs()]


def write(file: Path, rows: Sequence[Any]) -> None:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe, two data files and a model: everything is in order."""
    data = tmp_path / "data"
    data.mkdir()
    shutil.copytree(finished / "stages" / "01-base" / "model", data / "model")
    write(data / "pairs.jsonl", pairs())
    write(data / "demonstrations.jsonl", demonstrations())
    town_file(tmp_path, "files.toml", FILES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def run_of_files(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on files, with its data beside it."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "data").mkdir()
    shutil.copytree(finished / "stages" / "01-base" / "model", folder / "data" / "model")
    write(folder / "data" / "pairs.jsonl", pairs())
    write(folder / "data" / "demonstrations.jsonl", demonstrations())
    recipe = town_file(folder, "files.toml", FILES)
    done = concordant("run", recipe, f"data_root={folder / 'data'}", "--runs", folder / "runs")
    assert done.status == 0, done.err
    return folder


def refused(*words: object) -> Outcome:
    """A run that ends with one message of all four parts, before anything is written."""
    done = concordant("run", "files.toml", *words)
    assert done.status == 2, done.out
    assert "Traceback" not in done.err
    assert done.err.startswith("error: ")
    for part in ("where: ", "expected: ", "do: "):
        assert part in done.err, done.err
    assert not Path("runs").exists()
    return done


def test_a_run_on_files_goes_through(run_of_files: Path) -> None:
    run = run_of_files / "runs" / "files"
    found = results(run)
    assert set(found["models"]) == {"base", "sft", "policy"}
    assert "gold" not in found["models"]["policy"]
    assert found["reward_model"]["n"] > 0
    assert found["feedback"]["live_votes"] == len(pairs())
    assert list(fingerprints(run)) == list(STAGES[1:])


def test_a_missing_file(here: Path) -> None:
    done = refused("data.preferences=pears.jsonl")
    assert "no file pears.jsonl" in done.err
    assert "did you mean pairs.jsonl" in done.err


def test_a_row_with_an_empty_completion(here: Path) -> None:
    rows = demonstrations()
    rows[6]["completion"] = " "
    write(here / "data" / "demonstrations.jsonl", rows)
    assert "demonstrations.jsonl:7" in refused().err
    assert "data.demonstrations" in refused().err


def test_a_broken_line_of_preferences_is_known_before_the_fine_tuning(here: Path) -> None:
    write(here / "data" / "pairs.jsonl", [*pairs()[:3], '{"prompt": "a"', *pairs()[4:]])
    done = refused()
    assert "pairs.jsonl:4" in done.err
    assert "sft" not in done.out


def test_bad_rows_may_be_left_out_and_are_counted(here: Path) -> None:
    rows = pairs()
    rows[2]["rejected"] = None
    write(here / "data" / "pairs.jsonl", rows)
    recipe = load_recipe(here / "files.toml", {"data.skip_bad_rows": True})
    reporter = Stopper(StopRequest())
    prepare(recipe, plan(recipe, here / "run"), reporter)
    assert reporter.said == ["  pairs.jsonl: 1 of 48 rows left out (1 null), first at pairs.jsonl:3"]


def test_columns_of_other_names(here: Path) -> None:
    write(
        here / "data" / "pairs.jsonl",
        [{"prompt": row["prompt"], "good": row["chosen"], "bad": row["rejected"]} for row in pairs()],
    )
    done = refused()
    assert 'columns.chosen = "good"' in done.err
    assert 'columns.rejected = "bad"' in done.err
    mapped = {"path": "pairs.jsonl", "columns": {"chosen": "good", "rejected": "bad"}}
    recipe = load_recipe(here / "files.toml", {"data.preferences": mapped})
    assert len(FileMaterial(recipe).preferences()) == 48


def test_an_empty_file(here: Path) -> None:
    write(here / "data" / "pairs.jsonl", [])
    assert "no usable row" in refused().err


@pytest.mark.parametrize(
    ("n", "share", "said"),
    [(3, 0.001, "3 preferences for training and 0"), (3, 0.999, "0 preferences for training")],
)
def test_too_few_rows_for_both_sides(here: Path, n: int, share: float, said: str) -> None:
    write(here / "data" / "pairs.jsonl", pairs()[:n])
    write(here / "data" / "demonstrations.jsonl", [{"prompt": "x", "completion": "y"} for _ in range(3)])
    recipe = FILES.replace("[sft]\nbatch = 8\nsteps = 2\n", "")
    town_file(here, "files.toml", recipe)
    assert said in refused(f"data.validation={share}").err


def test_demonstrations_that_are_all_kept_out(here: Path) -> None:
    assert "no demonstrations" in refused("data.validation=0.999").err


def test_a_margin_beside_a_probability_names_its_line(here: Path) -> None:
    rows = pairs()
    rows[9] |= {"p_chosen": 0.8, "margin": 0.5}
    write(here / "data" / "pairs.jsonl", rows)
    assert "pairs.jsonl:10" in refused().err


def test_margins_that_nobody_reads_are_counted(here: Path) -> None:
    rows = pairs()
    for row in rows[::2]:
        row["margin"] = 0.5
    write(here / "data" / "pairs.jsonl", rows)
    changed = ("reward.steps=1", "policy={algorithm='dpo', batch=8, steps=1}", "evaluate.prompts=2")
    done = concordant("run", "files.toml", *changed)
    assert done.status == 0, done.err
    said = next(line for line in done.out.splitlines() if "state a margin" in line)
    assert said.endswith("preferences state a margin, which DPO does not read")
    assert 10 < int(said.split()[0]) < 25


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json"])
def test_a_model_folder_that_is_not_complete(here: Path, missing: str) -> None:
    for file in (here / "data" / "model").glob(f"{missing.partition('.')[0]}*"):
        file.unlink()
    done = refused()
    assert "tokenizer" in done.err if "tokenizer" in missing else "config.json" in done.err
    assert "model" in done.err


def test_a_model_that_is_not_there(here: Path) -> None:
    done = refused("model.path=modell")
    assert "no model folder" in done.err


def test_rows_longer_than_the_context(here: Path) -> None:
    long = [{"prompt": row["prompt"], "completion": "the mill " * 200} for row in demonstrations()]
    write(here / "data" / "demonstrations.jsonl", long)
    done = refused()
    assert "none of the" in done.err
    assert "128 tokens" in done.err


def test_prompts_longer_than_the_context(here: Path) -> None:
    for row in (rows := pairs()):
        row["prompt"] = "where " * 150 + row["prompt"]
    write(here / "data" / "pairs.jsonl", rows)
    done = refused("data.overlong=drop")
    assert "none of the" in done.err
    assert "prompts of policy" in done.err
    write(here / "data" / "pairs.jsonl", [*pairs(), rows[0], rows[1]])
    assert "not all of the" in refused("data.overlong=error", "data.validation=0.5").err


def test_completions_that_fill_the_context(here: Path) -> None:
    assert "policy.completion = 128 leaves no room" in refused("policy.completion=128").err
    assert (
        "evaluate.completion = 16 leaves no room" in refused("evaluate.completion=16", "model.length=16").err
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{ kind = 'function', function = 'scores_of_mine:too_few' }", "gave 1 scores for 2 completions"),
        ("{ kind = 'function', function = 'scores_of_mine:word' }", "gave 'good'"),
        ("{ kind = 'function', function = 'scores_of_mine:broken' }", "gave nan"),
        ("{ kind = 'server', url = 'http://127.0.0.1:9' }", "did not answer"),
        ("{ path = 'nowhere' }", "nowhere"),
        ("{ path = 'model' }", "no reward model"),
        ("{ kind = 'ensemble', paths = ['', 'model'] }", "no reward model"),
    ],
)
def test_sources_of_scores_are_tried_first(
    here: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (here / "scores_of_mine.py").write_text(
        "def too_few(prompts, completions): return [1.0]\n"
        "def word(prompts, completions): return 'good'\n"
        "def broken(prompts, completions): return [float('nan')] * len(completions)\n"
    )
    monkeypatch.syspath_prepend(str(here))
    done = refused(f"policy.rewards.mine={source}")
    assert said in done.err
    assert "policy.rewards.mine" in done.err


def test_a_device_that_is_not_there(here: Path) -> None:
    done = refused("machine.device=cuda:99")
    assert "device 'cuda:99' is not available" in done.err
    assert done.err.count("machine.device") == 2  # where, and what to do


def test_a_mistake_leaves_a_finished_run_as_it_is(run_of_files: Path) -> None:
    recipe, run, data = run_of_files / "files.toml", run_of_files / "runs" / "files", run_of_files / "data"
    (data / "broken.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": ""}\n')
    before = snapshot(run_of_files)
    for word in (
        "data.preferences=broken.jsonl",
        "data.demonstrations=none.jsonl",
        "policy.kl_cof=1",
        "machine.device=tpu",
        "model.path=none",
        "name=other",
    ):
        done = concordant("run", recipe, f"data_root={data}", word, "--run", run)
        assert done.status == 2, word
        assert "Traceback" not in done.err
        assert snapshot(run_of_files) == before, word


def test_files_are_read_once_in_a_run(here: Path) -> None:
    material = FileMaterial(load_recipe(here / "files.toml"))
    assert material.preferences() is material.preferences()


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("1\n")
    assert content_fingerprint(tmp_path / "a.jsonl") == content_fingerprint(tmp_path / "b.jsonl")
    before = content_fingerprint(tmp_path / "a.jsonl"), content_fingerprint(tmp_path)
    (tmp_path / "a.jsonl").write_text("2\n")
    assert content_fingerprint(tmp_path / "a.jsonl") != before[0]
    assert content_fingerprint(tmp_path) != before[1]
    assert content_fingerprint(tmp_path / "none") == "hub"
    one, other = (source_fingerprints([Source(path="a.jsonl", limit=n)], tmp_path) for n in (0, 1))
    assert one != other


def test_changed_data_rebuilds_what_was_learnt_from_it(run_of_files: Path, here: Path) -> None:
    run = run_of_files / "runs" / "files"
    recipe = load_recipe(here / "files.toml", {"data_root": str(here / "data")})
    assert {stage.action for stage in plan(recipe, run)} == {"skip"}  # the same content in another place
    write(here / "data" / "pairs.jsonl", pairs()[1:])
    found = {stage.name: stage.action for stage in plan(recipe, run)}
    assert found.pop("sft") == "skip"
    assert set(found.values()) == {"rebuild"}
    write(here / "data" / "demonstrations.jsonl", demonstrations()[1:])
    assert {stage.action for stage in plan(recipe, run)} == {"rebuild"}


def test_rows_said_again_are_counted_before_the_first_stage(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "b", "rejected": "a"},
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "files.toml").write_text(FILES)
    material = FileMaterial(load_recipe(tmp_path / "files.toml", {"data_root": str(tmp_path / "data")}))
    assert len(material.preferences()) == 3
    (said,) = material.problems
    assert "of 3 rows, 1 repeat an earlier one and 1 say the opposite of one" in said
