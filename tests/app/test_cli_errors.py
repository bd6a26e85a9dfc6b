"""Whatever goes wrong for a reason the user can mend is one message and status 2, and leaves the rest intact."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from concordant.pipeline.lock import locked
from tiny_run import TOWN, Outcome, clone, concordant, figures, snapshot, town_file, weights


def refused(shown: Outcome) -> str:
    """The message of a command that failed as it should."""
    assert shown.status == 2, shown.out
    assert "Traceback" not in shown.err
    assert shown.err.startswith("error: ")
    for part in ("where: ", "expected: ", "do: "):
        assert part in shown.err, shown.err
    return shown.err


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return town_file(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["policy.kl_coff=0"], "did you mean 'policy.kl_coef'"),
        (["polici.kl_coef=0"], "did you mean 'policy'"),
        (["world.name=twon"], "town"),
        (["feedback.labelers=carefull"], "did you mean 'careful'"),
        (["policy.minibatches=5"], "policy.minibatches"),
        (["machine.device=gpu"], "cuda:N"),
        (["policy.batch=few"], "policy.batch"),
        (["kl_coef"], "policy.kl_coef=0.1"),
        (["name=a/b"], "'name'"),
    ],
)
def test_a_mistake_on_the_command_line(recipe: Path, words: list[str], said: str) -> None:
    for command in ("run", "plan"):
        assert said in refused(concordant(command, recipe, *words))
    assert not Path("runs").exists()


def test_a_mistake_in_the_recipe(recipe: Path) -> None:
    recipe.write_text(TOWN + "\n[polcy]\nbatch = 3\n")
    assert "did you mean 'policy'" in refused(concordant("run", recipe))
    recipe.write_text(TOWN.replace("[reward]\n", ""))
    assert refused(concordant("run", recipe))
    recipe.write_text(TOWN + "\nbroken =\n")
    assert f"{recipe}:{len(TOWN.splitlines()) + 2}:" in refused(concordant("run", recipe))
    assert "did you mean" in refused(concordant("run", recipe.with_name("tinny.toml")))
    assert "cannot read this recipe" in refused(concordant("run", recipe.parent))


def test_ppo_without_a_reward_model(recipe: Path) -> None:
    head, _, tail = TOWN.partition("[reward]")
    recipe.write_text(head + "[policy]" + tail.partition("[policy]")[2])
    assert "needs a reward model" in refused(concordant("run", recipe))


def test_the_directory_of_another_recipe(recipe: Path, finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "mine")
    before = snapshot(run)
    said = refused(concordant("run", recipe, "name=other", "--run", run))
    assert "belongs to the recipe 'tiny', not to 'other'" in said
    assert str(tmp_path / "other") in said
    assert snapshot(run) == before


def test_a_directory_that_is_no_run(recipe: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert "thesis.tex" in refused(concordant("run", recipe, "--run", mine))
    assert [file.name for file in mine.iterdir()] == ["thesis.tex"]
    assert "this is a file" in refused(concordant("run", recipe, "--run", mine / "thesis.tex"))
    refused(concordant("run", recipe, "--run", tmp_path))  # holds the recipe
    refused(concordant("run", recipe, "--run", "."))


def test_a_damaged_run(recipe: Path, finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "mine")
    (run / "run.json").write_text("{")
    assert "damaged" in refused(concordant("run", recipe, "--run", run))
    (run / "run.json").write_text(json.dumps({"of": "another program"}))
    assert "belongs to the recipe None" in refused(concordant("run", recipe, "--run", run))


def test_a_damaged_record_of_settings(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "mine")
    for content in (b"name =\n", b"\xff"):
        (run / "resolved.toml").write_bytes(content)
        said = refused(concordant("report", run))
        assert "not valid TOML" in said
        assert f"where: {run / 'resolved.toml'}" in said


def test_a_run_that_is_under_way(recipe: Path, finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "mine")
    with locked(run):
        assert "another process" in refused(concordant("run", recipe, "seed=1", "--run", run))


def test_what_a_message_quotes_cannot_steer_the_terminal(recipe: Path) -> None:
    said = refused(concordant("run", recipe.with_name("\x1b]0;owned\x07[red].toml")))
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "[red]" in said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this system has no mount command")
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def leave_free(disk: Path, kilobytes: int) -> None:
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    facts = os.statvfs(disk)
    filler.write_bytes(b"x" * max(0, facts.f_bavail * facts.f_frsize - kilobytes * 1024))


def test_a_full_disk_stops_a_run_in_good_order_wherever_it_happens(
    recipe: Path, small_disk: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("concordant.pipeline.run.check_disk", lambda *_: None)  # as if it filled up later
    run, reached = small_disk / "tiny", set()
    for room in (4, 24, 60, 96, 116, 128, 140, 164, 180, 200):
        leave_free(small_disk, room)
        shown = concordant("run", recipe, "--runs", small_disk)
        if shown.status == 0:
            break
        said = refused(shown)
        assert "disk" in said
        assert "run" in said  # again
        reached.add(said.partition("where: ")[2].split("/")[-1].split("\n")[0])
    assert len(reached) >= 4, reached
    (small_disk / "filler").unlink()
    assert concordant("run", recipe, "--runs", small_disk).status == 0
    assert figures(run) == figures(finished)
    for stage in ("01-base", "02-sft", "04-reward", "05-policy"):
        assert weights(run, stage) == weights(finished, stage)
    assert not list(run.rglob("*.partial"))


def test_a_full_disk_leaves_a_finished_run_as_it_is(recipe: Path, small_disk: Path, finished: Path) -> None:
    run = clone(finished, small_disk / "tiny")
    before = snapshot(run / "stages")
    leave_free(small_disk, 8)
    said = refused(concordant("run", recipe, "policy.kl_coef=0", "--runs", small_disk))
    assert "free some space" in said
    assert snapshot(run / "stages") == before


def test_a_disk_that_may_only_be_read(recipe: Path, small_disk: Path, finished: Path) -> None:
    run = clone(finished, small_disk / "tiny")
    before = snapshot(run)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "cannot write here" in refused(concordant("run", recipe, "seed=1", "--runs", small_disk))
    assert "cannot write here" in refused(concordant("report", run))
    assert "may be written to" in refused(concordant("run", recipe, "policy.kl_coef=0", "--runs", small_disk))
    assert snapshot(run) == before


def test_a_directory_nobody_may_write_to(recipe: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    try:
        assert "cannot write here" in refused(concordant("run", recipe, "--runs", closed))
    finally:
        closed.chmod(0o700)


def test_a_critic_of_a_reward_model_that_is_not_made(recipe: Path) -> None:
    head, _, tail = TOWN.partition("[reward]")
    recipe.write_text(head + "[policy]" + tail.partition("[policy]")[2])
    rewards = "policy.rewards.mine={ kind = 'function', function = 'math:fsum' }"
    assert "starts from a reward model" in refused(
        concordant("plan", recipe, rewards, "policy.critic=reward_model")
    )
