"""The commands on a finished run: what they print, what they leave, and what they leave alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from concordant.app import runs
from concordant.app.cli import parse, parser
from concordant.app.commands import running
from concordant.app.runs import demo_recipe, run_folder_of
from concordant.pipeline.recipe import load_recipe, parse_overrides
from telling import tells
from tiny_run import STAGES, TOWN, clone, concordant, results, snapshot, town_file

COMMANDS = (
    "demo", "run", "plan", "check", "evaluate", "wins", "gate", "report", "chat", "export", "feedback", "doctor",
    "tax", "inspect",
)  # fmt: skip


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A finished run to change, with its recipe beside the folder of runs."""
    town_file(tmp_path)
    return clone(finished, tmp_path / "runs" / "tiny")


# Help and arguments


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_default(command: str) -> None:
    shown = concordant(command, "--help")
    assert shown.status == 0
    said = re.sub(r"\s+", " ", shown.out)
    assert "None" not in said
    assert "[]" not in said
    sub = next(action for action in parser()._actions if action.dest == "command").choices[command]  # type: ignore[index]
    for option in sub._actions:
        if option.option_strings and option.dest != "help":
            (entry,) = re.findall(
                rf"{option.option_strings[-1]} [^-].*?(?= --[a-z]|$)", said.partition("options:")[2]
            )
            assert "default" in entry or option.default is None, entry


def test_the_help_lists_every_command() -> None:
    shown = concordant("--help")
    assert all(command in shown.out for command in COMMANDS)
    assert concordant("--version").out.startswith("concordant ")
    assert concordant("nonsense").status == 2


def test_overrides_may_stand_anywhere() -> None:
    for words in (
        ["run", "a.toml", "seed=1", "sft.steps=2", "--runs", "here"],
        ["run", "a.toml", "--runs", "here", "seed=1", "sft.steps=2"],
        ["run", "--runs", "here", "a.toml", "seed=1", "sft.steps=2"],
        ["run", "a.toml", "seed=1", "--runs", "here", "sft.steps=2"],
    ):
        found = parse(words)
        assert (found.recipe, found.runs) == (Path("a.toml"), Path("here"))
        assert found.overrides == ["seed=1", "sft.steps=2"]


@pytest.mark.parametrize(
    "words", [["run", "a.toml", "--rums", "x"], ["chat", "runs/x", "seed=1"], ["gate", "a", "b"]]
)
def test_unknown_arguments_are_refused(words: list[str]) -> None:
    shown = concordant(*words)
    assert shown.status == 2
    assert "unrecognized arguments" in shown.err


# The directory of a run


def folder_of(recipe: Path, *words: str) -> str:
    overrides = parse_overrides(words)
    return run_folder_of(load_recipe(recipe, overrides), overrides, Path("runs")).name


def test_a_run_is_named_after_what_makes_it_another_one(tmp_path: Path) -> None:
    recipe = town_file(tmp_path)
    assert folder_of(recipe) == "tiny"
    assert folder_of(recipe, "policy.kl_coef=0") == "tiny-policy.kl_coef=0"
    assert folder_of(recipe, "seed=1", "policy.kl_coef=0") == folder_of(recipe, "policy.kl_coef=0", "seed=1")
    assert folder_of(recipe, "machine.threads=2", "data_root=x") == "tiny"
    assert folder_of(recipe, "name=other") == "other"
    assert "/" not in folder_of(recipe, "model.path=../x", "model.chat_template={{ a }}")


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    recipe = town_file(tmp_path)
    one, other = (folder_of(recipe, f"model.chat_template={'x' * 300}{end}") for end in "ab")
    assert one != other
    assert len(one) < 255


# plan


def test_planning_changes_nothing(copy: Path) -> None:
    before = snapshot(copy.parents[1])
    shown = concordant("plan", copy.parents[1] / "tiny.toml", "policy.kl_coef=0", "--runs", copy.parent)
    assert shown.status == 0, shown.err
    assert snapshot(copy.parents[1]) == before
    found = dict(re.findall(r"│ (\w+) +│ (\w+) ", shown.out))
    assert found == {
        "base": "reuse",
        "sft": "reuse",
        "feedback": "reuse",
        "reward": "reuse",
        "policy": "run",
        "evaluate": "run",
    }
    assert re.search(r"policy\.kl_coef +0\.0 +the command line", shown.out)
    assert "Nothing would be downloaded." in shown.out


def test_a_plan_gives_reasons(copy: Path) -> None:
    shown = concordant("plan", copy.parents[1] / "tiny.toml", "reward.steps=3", "--run", copy)
    why = {row[0]: row[1:] for row in re.findall(r"│ (\w+) +│ (\w+) +│ (.+?) +│", shown.out)}
    assert why["sft"] == ("skip", "done")
    assert why["reward"] == ("rebuild", "its settings or data changed")
    assert why["policy"] == ("rebuild", "reward changed")


def test_a_plan_into_a_folder_with_brackets_in_its_name(copy: Path) -> None:
    (copy.parents[1] / "[").mkdir()
    strange = copy.parent.rename(copy.parents[1] / "[" / "red] [bold]")  # "[/red]" closes what nobody opened
    shown = concordant("plan", copy.parents[1] / "tiny.toml", "seed=3", "--runs", strange)
    assert shown.status == 0
    assert "[/red] [bold]" in re.sub(r"│\s+│[^│]*│", "", shown.out)
    again = concordant("report", strange / "tiny")
    assert again.status == 0
    assert str(strange / "tiny" / "report.html") in again.out


def test_a_plan_says_what_would_be_downloaded_and_does_not(tmp_path: Path) -> None:
    recipe = demo_recipe().with_name("qwen-hh.toml")
    shown = concordant("plan", recipe, "--runs", tmp_path / "runs")
    assert shown.status == 0, shown.err
    assert "model Qwen/Qwen2.5-0.5B" in shown.out
    assert "data set Anthropic/hh-rlhf" in shown.out
    assert "Nothing was downloaded or asked for" in shown.out
    assert not (tmp_path / "runs").exists()


# run


def test_the_terminal_of_a_run_says_what_it_does(finished: Path) -> None:
    said = (finished.parents[1] / "terminal.txt").read_text(encoding="utf-8")
    for title in (
        "pretraining 20/20 steps",
        "sampling candidates 48/48 prompts",
        "labeling 48/48",
        "PPO 3/3 steps",
    ):
        assert title in said
    assert "computing on cpu, float32, 1 threads (as set)" in said
    assert re.search(
        r"reward model: accuracy 0\.\d+ \[.*\] on \d+ held-out pairs, log-loss .* \(chance 0\.693\)", said
    )
    for model in ("base", "sft", "policy", "ideal"):
        assert f"│ {model}" in said
    assert f"report: {finished / 'report.html'}" in said
    assert "\x1b" not in said  # no colours where there is no terminal
    assert "-0.00 ±" not in said


def test_a_run_without_its_report_writes_it(copy: Path) -> None:
    (copy / "report.html").unlink()
    done = concordant("run", copy.parents[1] / "tiny.toml", "--runs", copy.parent)
    assert done.status == 0
    assert (copy / "report.html").is_file()


def test_a_stop_is_no_failure_and_promises_no_report(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stops: list[object] = []

    class Request(running.StopRequest):
        def __init__(self) -> None:
            super().__init__()
            stops.append(self)
            self.requested = True  # as if Ctrl-C came while the data was read

    monkeypatch.setattr(running, "StopRequest", Request)
    recipe = copy.parents[1] / "tiny.toml"
    monkeypatch.setattr(running, "demo_recipe", lambda: recipe)
    shown = concordant("demo", "--seed", "3", "--runs", copy.parent)
    assert stops
    assert shown.status == 0
    assert shown.out.endswith(f"Go on with: concordant run {recipe} seed=3 --runs {copy.parent}\n")


def test_the_demo_says_what_to_do_next(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "demo_recipe", lambda: copy.parents[1] / "tiny.toml")
    shown = concordant("demo", "--runs", copy.parent)
    assert "nothing was run" in shown.out
    assert f"concordant chat {copy} --compare base" in shown.out


def test_the_recipe_of_the_demo_is_there() -> None:
    assert load_recipe(demo_recipe()).name == "demo"


def test_a_package_without_its_recipe_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "files", lambda _package: tmp_path / "src" / "concordant")
    with tells("the demo's recipe is missing", where="concordant", expected="demo.toml", fix="install"):
        demo_recipe()


# evaluate and report


def test_evaluate_measures_again_and_trains_nothing(copy: Path) -> None:
    done = concordant("evaluate", copy, "evaluate.prompts=6")
    assert done.status == 0, done.err
    assert results(copy)["models"]["policy"]["gold"]["n"] == 6
    assert "policy: done" in done.out
    before = snapshot(copy)
    refused = concordant("evaluate", copy, "policy.kl_coef=0")
    assert refused.status == 2
    assert "this would train policy" in refused.err
    assert snapshot(copy) == before


def test_report_compares_with_another_run(copy: Path, finished: Path) -> None:
    other = clone(finished, copy.parent / "other")
    shown = concordant("report", copy, other)
    assert shown.status == 0, shown.err
    page = (copy.parent / "comparison.html").read_text(encoding="utf-8")
    assert "tiny against other" in page
    assert "other/policy" in page or "tiny/policy" in page


@pytest.mark.parametrize(("form", "beginning"), [("md", "# "), ("json", "{")])
def test_a_report_has_other_forms(copy: Path, form: str, beginning: str) -> None:
    shown = concordant("report", copy, "--format", form)
    assert shown.status == 0, shown.err
    written = (copy / f"report.{form}").read_text(encoding="utf-8")
    assert written.startswith(beginning)
    assert "How it was made" in written


@pytest.mark.parametrize("command", ["report", "chat", "evaluate"])
def test_what_is_no_run_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "none", tmp_path / "file"):
        shown = concordant(command, place)
        assert shown.status == 2
        assert "this is not a run directory" in shown.err


def test_a_report_before_the_results(copy: Path) -> None:
    (copy / "results.json").unlink()
    shown = concordant("report", copy)
    assert shown.status == 2
    assert "no results yet" in shown.err


# chat


def test_chat_answers_until_the_end_of_the_input(finished: Path) -> None:
    shown = concordant(
        "chat", finished, "--compare", "base", given="where is the bakery ?\n\n/new\nand the mill ?\n"
    )
    assert shown.status == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0] == "talking to policy and base; /new starts over, Ctrl-D ends"
    assert [line.partition(":")[0] for line in lines[1:]] == ["policy", "base", "policy", "base"]
    assert all(len(line.partition(":")[2].split()) > 1 for line in lines[1:])
    assert "there is room for" not in shown.out
    again = concordant(
        "chat", finished, "--compare", "base", given="where is the bakery ?\n\n/new\nand the mill ?\n"
    )
    assert again.out == shown.out
    assert (
        concordant("chat", finished, "--seed", 9, given="where is the bakery ?\n").out.splitlines()[1]
        != lines[1]
    )


def test_a_long_chat_forgets_its_beginning(finished: Path) -> None:
    turns = "\n".join(["where is the bakery , and where the mill ?"] * 12)
    shown = concordant("chat", finished, "--temperature", 0, "--tokens", 24, given=turns)
    assert shown.status == 0
    assert shown.out.count("policy:") == 12
    assert "there is room for" not in shown.out
    too_long = concordant("chat", finished, given="mill " * 500)
    assert "that is" in too_long.out
    assert too_long.status == 0


@pytest.mark.parametrize("words", [["--temperature", "-1"], ["--tokens", "0"]])
def test_chat_refuses_settings_that_make_no_sense(finished: Path, words: list[str]) -> None:
    shown = concordant("chat", finished, *words, given="hello\n")
    assert shown.status == 2
    assert words[0] in shown.err


def test_chat_names_the_stages_there_are(copy: Path) -> None:
    (copy / "stages" / "05-policy" / "stage.json").unlink()
    shown = concordant("chat", copy, given="hello\n")
    assert shown.status == 2
    assert "base, sft, reward" in shown.err or "base, reward, sft" in shown.err
    assert "do: --stage sft" in shown.err


# export


@pytest.mark.parametrize("stage", ["base", "sft", "policy", "reward"])
def test_an_exported_model_loads_and_has_a_card(finished: Path, tmp_path: Path, stage: str) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    target = tmp_path / "new" / "model"
    shown = concordant("export", finished, target, "--stage", stage)
    assert shown.status == 0, shown.err
    kind = AutoModelForSequenceClassification if stage == "reward" else AutoModelForCausalLM
    assert kind.__name__ in shown.out
    model = kind.from_pretrained(target)
    assert len(AutoTokenizer.from_pretrained(target)) == model.config.vocab_size
    card = (target / "README.md").read_text(encoding="utf-8")
    names = {"base": "Base", "sft": "SFT", "policy": "PPO", "reward": "Reward model"}
    assert f"# tiny: {names[stage]}" in card
    assert ("held-out pairs" if stage == "reward" else "| KL |") in card
    assert "made here, from nothing" in card


def test_a_card_can_be_written_without_an_export(copy: Path) -> None:
    shown = concordant("card", copy, "--license", "apache-2.0")
    assert shown.status == 0, shown.err
    assert "license: apache-2.0" in (copy / "card-policy.md").read_text(encoding="utf-8")
    (copy / "results.json").unlink()
    assert concordant("card", copy, "--stage", "sft").status == 0
    assert "has not been measured" in (copy / "card-sft.md").read_text(encoding="utf-8")


def test_an_export_overwrites_nothing(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    for place in (tmp_path / "taken", tmp_path / "taken" / "file"):
        shown = concordant("export", finished, place)
        assert shown.status == 2
        assert "not an empty folder" in shown.err
    assert (tmp_path / "taken" / "file").read_text() == "mine"


def test_a_model_of_the_hub_is_not_exported(finished: Path, tmp_path: Path) -> None:
    """A run that began from a hub model has no base of its own."""
    run = clone(finished, tmp_path / "mine", stages=STAGES[1:])
    recipe = TOWN.replace("[model.embedded]", '[model]\npath = "owner/name"\n\n[model.embedded]')
    (run / "recipe.toml").write_text(recipe)
    shown = concordant("export", run, tmp_path / "out", "--stage", "base")
    assert shown.status == 2
    assert "base is a model on the hub" in shown.err
    assert "do: name one with --stage" in shown.err
    assert not (tmp_path / "out").exists()


# check and doctor


def test_check_shows_what_a_run_would_see(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "chosen": "[bold]yes[/bold]", "rejected": "no"} for n in range(5)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = concordant("check", file)
    assert shown.status == 0, shown.err
    assert "5 rows read, 5 usable, 0 left out, 5 different prompts" in shown.out
    assert "[bold]yes[/bold]" in shown.out
    assert "a run would take this data as it is" in shown.out


def test_check_names_every_problem_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
        '{"prompt": "a", "chosen": "b", "rejected": ""}\n'
        '{"prompt": "a \x1b[2J\x07", "chosen": "b"\n'
    )
    shown = concordant("check", file)
    assert shown.status == 2
    assert f"{file}:2" in shown.out
    assert f"{file}:3" in shown.out
    assert "a run would refuse this data" in shown.out
    assert not set("\x1b\x07") & set(shown.out)


def test_check_maps_columns_and_counts_tokens(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "a", "good": "b", "bad": "c"}\n')
    assert 'columns.chosen = "good"' in concordant("check", file, "--kind", "preferences").err
    tokenizer = finished / "stages" / "01-base" / "model"
    shown = concordant("check", file, "--columns", "chosen=good", "rejected=bad", "--tokenizer", tokenizer)
    assert shown.status == 0, shown.err
    assert "tokens" in shown.out
    wrong = concordant("check", file, "--columns", "chosen:good")
    assert wrong.status == 2
    assert "OURS=YOURS" in wrong.err


@pytest.mark.parametrize(
    ("words", "said", "do"),
    [
        (["--max-length", "9"], "no tokenizer is given", "add --tokenizer"),
        (["--max-length", "0", "--tokenizer", "here"], "0 tokens are no limit", "leave it out"),
    ],
)
def test_check_refuses_limits_that_make_no_sense(
    tmp_path: Path, words: list[str], said: str, do: str
) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    shown = concordant("check", tmp_path / "pairs.jsonl", *words)
    assert shown.status == 2
    assert said in shown.err
    assert "where: --max-length" in shown.err
    assert f"do: {do}" in shown.err


def test_check_of_a_recipe_without_files_or_with_several_to_clean(tmp_path: Path) -> None:
    recipe = town_file(tmp_path)
    shown = concordant("check", recipe)
    assert shown.status == 2
    assert "this recipe names 0 files" in shown.err
    recipe.write_text('name = "two"\n\n[data]\ndemonstrations = "a.jsonl"\npreferences = "b.jsonl"\n')
    shown = concordant("check", recipe, "--fix", tmp_path / "clean.jsonl")
    assert shown.status == 2
    assert "this recipe names 2 files" in shown.err
    assert "do: give the file itself" in shown.err


def test_the_doctor_finds_this_machine_fit() -> None:
    shown = concordant("doctor")
    assert shown.status == 0
    for word in ("python", "torch", "transformers", "computes on", "free here"):
        assert word in shown.out
