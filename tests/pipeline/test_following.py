"""A tracker is told each step once, whatever happens to the run; what happens to the tracker does not reach the run."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from concordant.pipeline.folder import figures_of, read_jsonl
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.run import execute, open_run
from concordant.pipeline.trackers import process, tracker
from concordant.pipeline.trackers.config import TrackConfig
from concordant.pipeline.trackers.follow import Follower
from concordant.pipeline.trackers.process import Following, Guarded
from concordant.pipeline.trackers.story import settings_of
from concordant.pipeline.trackers.tracker import RESULTS, Trail, check_installed
from logged_run import begin_run, log, marks, notice, results, stage
from telling import tells
from tiny_run import STAGES, TOWN, Stopper, clone, concordant, rows, start, town, town_file, wait_until

CONFIG = TrackConfig(to=("wandb",))


@dataclass
class Told:
    """A tracker that remembers what it is told, over all its trails."""

    trails: list[Trail] = field(default_factory=list)
    steps: list[tuple[str, int, Mapping[str, float]]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    alerts: list[tuple[str, int, str, str]] = field(default_factory=list)
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    ends: list[tuple[str, bool]] = field(default_factory=list)
    breaks_at: int = -1

    def begin(self, _name: str, trail: Trail) -> Told:
        self.trails.append(trail)
        return self

    @property
    def trail(self) -> str:
        return self.trails[-1].name

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        if step == self.breaks_at:
            raise ConnectionError("no\nnetwork")
        self.steps.append((self.trail, step, figures))
        self.times.append(time)

    def alert(self, step: int, title: str, text: str, time: float) -> None:
        self.alerts.append((self.trail, step, title, text))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.tables.append((name, columns, rows))

    def artifact(self, file: Path) -> None:
        self.files.append(file.name)

    def flush(self) -> None: ...

    def finish(self, complete: bool) -> None:
        self.ends.append((self.trail, complete))


def follower(told: Told, run: Path, **options: Any) -> Follower:
    return Follower("wandb", run, CONFIG, begin=told.begin, **options)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return begin_run(tmp_path / "runs" / "first")


def numbers(told: Told) -> list[tuple[str, int]]:
    return [(trail, step) for trail, step, _ in told.steps]


def test_stages_notices_and_results_are_told_in_their_order(run: Path) -> None:
    told = Told()
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 2.0}, {"loss": 1.0}])
    sft.finish("one", {})
    policy = stage(run, "05-policy")
    log(policy, 1, [{"objective/kl": 0.5}])
    notice(policy, 1)
    policy.finish("one", {})
    results(run)
    follower(told, run).close()
    assert numbers(told) == [("first/sft", 1), ("first/sft", 2), ("first/policy", 1), ("first/results", 0)]
    assert told.steps[0][2] == {"seconds": 2.0, "loss": 2.0}
    assert told.steps[-1][2] == {"models/sft/score/mean": 0.25, "models/sft/score/n": 3}
    assert told.ends == [("first/sft", True), ("first/policy", True), ("first/results", True)]
    assert [(trail, step, title) for trail, step, title, _ in told.alerts] == [
        ("first/policy", 1, "canary claims"),
        ("first/results", 0, "release gate"),
    ]
    seen_in = "prompt: is it so ?\nsaid: <b>you</b> are | right"
    assert told.alerts[0][3] == f"fails in 40% of the answers. Likely: the reward pays for it\n\n{seen_in}"
    assert told.tables[0][2] == [("claims", "is it so ?", "sft", "no | it\nis not", 0.5, None)]
    assert told.files == ["results.json", "report.html"]
    assert {trail.project for trail in told.trails} == {"logged"}
    assert len({trail.id for trail in told.trails}) == 3


def test_steps_stand_at_the_time_at_which_they_were_over(run: Path) -> None:
    told = Told()
    sft = stage(run, "02-sft")
    os.utime(sft.path / "begun.json", (5_000, 5_000))
    log(sft, 1, [{"loss": 2.0}] * 3)
    follower(told, run).close()
    assert told.times == [5_002.0, 5_004.0, 5_006.0]


def test_what_is_not_finite_is_told_as_it_was(run: Path) -> None:
    told = Told()
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": math.nan, "up": math.inf, "down": -math.inf, "kl": 0.5}])
    follower(told, run).close()
    figures = told.steps[0][2]
    assert math.isnan(figures["loss"])
    assert (figures["up"], figures["down"], figures["kl"]) == (math.inf, -math.inf, 0.5)


def test_the_log_has_null_and_a_word_for_what_is_not_finite(run: Path) -> None:
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": math.inf, "kl": 0.5}])
    (row,) = read_jsonl(sft.steps)
    assert row == {"step": 1, "seconds": 2.0, "loss": None, "kl": 0.5, "not_finite": {"loss": "inf"}}
    assert figures_of(row) == {"seconds": 2.0, "loss": math.inf, "kl": 0.5}
    assert math.isnan(figures_of({"step": 1, "loss": None})["loss"])  # of a log without that word


def test_a_run_that_goes_on_is_told_of_as_it_goes(run: Path) -> None:
    told = Told()
    one = follower(told, run)
    one.look()
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 2.0}])
    one.look()
    with sft.steps.open("a") as half:
        half.write('{"step": 2, "seconds": 2, "loss":')  # being written
    one.look()
    assert numbers(told) == [("first/sft", 1)]
    with sft.steps.open("a") as rest:
        rest.write(' 1.0}\n{"step": 3, "seconds": 2, "loss": 0.5}\n')
    one.look()
    one.look()
    sft.finish("one", {})
    one.close()
    assert [step for _, step in numbers(told)] == [1, 2, 3]
    assert len(told.trails) == 1


def test_a_resumed_run_goes_on_with_the_trail_and_tells_no_step_twice(run: Path) -> None:
    told = Told()
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}])
    notice(sft, 3)
    follower(told, run).close()
    assert told.ends == [("first/sft", False)]
    again = follower(told, run)
    sft.cut_steps(2)  # to the last checkpoint
    again.look()
    log(sft, 3, [{"loss": 1.0}, {"loss": 0.5}])
    notice(sft, 3)
    again.look()
    sft.finish("one", {})
    again.close()
    assert [step for _, step in numbers(told)] == [1, 2, 3, 4]
    assert len(told.alerts) == 1
    assert told.trails[0].id == told.trails[1].id
    assert [trail.told for trail in told.trails] == [0, 3]


def test_a_log_that_is_cut_and_grows_between_two_looks_is_read_from_its_beginning(run: Path) -> None:
    told = Told()
    one = follower(told, run)
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}])
    one.look()
    sft.cut_steps(1)
    log(sft, 2, [{"loss": 2.0}, {"loss": 1.0}, {"loss": 0.5}, {"loss": 0.25}])
    one.close()
    assert [step for _, step in numbers(told)] == [1, 2, 3, 4, 5]


def test_a_stage_that_is_made_anew_gets_a_trail_of_its_own(run: Path) -> None:
    told = Told()
    one = follower(told, run)
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 3.0}])
    one.look()
    log(stage(run, "02-sft", "two"), 1, [{"loss": 5.0}])
    one.close()
    assert numbers(told) == [("first/sft", 1), ("first/sft 2", 1)]
    assert told.ends == [("first/sft", False), ("first/sft 2", False)]
    assert told.trails[0].id != told.trails[1].id


def test_who_knows_everything_is_not_even_opened(run: Path) -> None:
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 3.0}])
    sft.finish("one", {})
    results(run)
    follower(Told(), run).close()
    told = Told()
    one = follower(told, run)
    one.close()
    assert (told.trails, one.told) == ([], 0)
    results(run, more=2)  # measured again
    follower(told, run).close()
    assert [trail.name for trail in told.trails] == ["first/results 2"]


def test_again_tells_everything_into_trails_of_their_own(run: Path) -> None:
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 3.0}])
    sft.finish("one", {})
    follower(Told(), run).close()
    told = Told()
    follower(told, run, again=True).close()
    assert numbers(told) == [("first/sft 2", 1)]


def test_another_place_knows_nothing_yet(run: Path, tmp_path: Path) -> None:
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 3.0}])
    follower(Told(), run).close()
    told = Told()
    elsewhere = CONFIG.model_copy(update={"folder": str(tmp_path / "elsewhere")})
    Follower("wandb", run, elsewhere, begin=told.begin).close()
    assert numbers(told) == [("first/sft", 1)]
    assert told.trails[0].folder == tmp_path / "elsewhere" / "wandb"


def test_a_tracker_that_fails_is_named_once_and_left_alone(run: Path) -> None:
    told = Told(breaks_at=2)
    said: list[str] = []
    sft = stage(run, "02-sft")
    log(sft, 1, [{"loss": 3.0}, {"loss": 2.0}])
    one = Guarded("wandb", run, lambda: follower(told, run), said.append)
    one.look()
    one.look()
    one.close()
    assert len(said) == 1
    assert "wandb is told no more of this run (ConnectionError: no network)" in said[0]
    assert f"concordant track {run} --to wandb" in said[0]
    told.breaks_at = -1
    follower(told, run).close()  # nothing was noted as told that may be lost
    assert [step for _, step in numbers(told)] == [1, 1, 2]


def test_no_address_and_no_key_is_among_the_settings(run: Path) -> None:
    settings = settings_of(run)
    assert settings["policy.rewards.server.url"] == "https://host/score"
    assert "feedback.url" not in settings
    assert "hunter" not in str(settings)


def test_settings_of_trackers_change_neither_plan_nor_directory(finished: Path, tmp_path: Path) -> None:
    recipe = town_file(tmp_path)
    clone(finished, tmp_path / "runs" / "tiny")
    done = concordant("run", recipe, "track.project=other", "--runs", tmp_path / "runs")
    assert "every stage is done" in done.out


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(tracker.TRACKERS, "wandb", "no_such_package")  # type: ignore[arg-type]
    with tells(
        "wandb is not installed", where="track.to", expected="no_such_package", fix="concordant[wandb]"
    ):
        check_installed(("wandb",), where="track.to")
    refused = concordant("run", town_file(tmp_path), 'track.to=["wandb"]', "--runs", tmp_path / "runs")
    assert refused.status == 2
    assert not (tmp_path / "runs").exists()


def test_the_command_wants_a_name_it_knows(finished: Path) -> None:
    nobody = concordant("track", finished)
    assert (nobody.status, "no tracker is named" in nobody.err) == (2, True)
    unknown = concordant("track", finished, "--to", "tensorbord")
    assert (unknown.status, "track.to" in unknown.err, "'tensorboard'" in unknown.err) == (2, True, True)


def a_package(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package in front of the real one, in processes that begin from now on."""
    folder.mkdir()
    (folder / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def test_a_run_goes_on_and_ends_well_while_its_tracker_breaks(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_package(tmp_path / "broken", "wandb", "raise OSError('broken')", monkeypatch)
    runs = tmp_path / "runs"
    clone(finished, runs / "tiny", stages=("01-base", "02-sft", "03-feedback", "04-reward"))
    done = concordant("run", town_file(tmp_path), 'track.to=["wandb"]', "--runs", runs)
    assert done.status == 0, done.err
    assert done.out.count("wandb is told no more") == 1
    log_of = "stages/05-policy/steps.jsonl"
    assert rows(runs / "tiny" / log_of) == rows(finished / log_of)


def test_a_tracker_that_hangs_is_ended_when_it_had_its_time(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_package(tmp_path / "endless", "wandb", "import time\ntime.sleep(600)", monkeypatch)
    monkeypatch.setattr(process, "PATIENCE", 2.0)
    log(stage(run, "02-sft"), 1, [{"loss": 1.0}])
    said: list[str] = []
    begin = time.monotonic()
    with Following(CONFIG, run, said.append) as following:
        following.begin()
    assert following.status == 1
    assert time.monotonic() - begin < 30
    assert "have not been told all" in said[-1]


def test_only_one_process_tells_the_trackers_of_a_run(run: Path) -> None:
    said: list[str] = []
    with Following(CONFIG, run, said.append) as first:
        first.begin()
        lock = run / "trackers" / "run.lock"
        end = time.monotonic() + 60
        while not (lock.is_file() and lock.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
        with Following(CONFIG, run, said.append) as second:
            second.begin()
    assert (first.status, second.status) == (0, 1)
    assert any(line.startswith("the trackers are not told: ") for line in said)


def test_a_killed_run_is_told_of_to_its_last_logged_step(tmp_path: Path) -> None:
    recipe = town_file(tmp_path, text=TOWN.replace("steps = 20", "steps = 100000"))
    going = start(
        "run", recipe, 'track.to=["tensorboard"]', "--run", tmp_path / "runs" / "tiny", cwd=tmp_path
    )
    run = tmp_path / "runs" / "tiny"
    wait_until((run / "trackers" / "tensorboard.json").is_file, going)
    going.send_signal(signal.SIGKILL)
    going.wait()
    logged = len(read_jsonl(run / "stages" / "01-base" / "steps.jsonl"))
    end = time.monotonic() + 60
    while marks(run, "tensorboard")["base"]["rows"] < logged and time.monotonic() < end:
        time.sleep(0.1)
    assert marks(run, "tensorboard")["base"]["rows"] == logged > 0


def test_a_run_that_is_stopped_and_goes_on_is_told_of_once(finished: Path, tmp_path: Path) -> None:
    told = Told()
    run = clone(finished, tmp_path / "runs" / "tiny", stages=STAGES[:4])
    recipe = town(tmp_path, policy__checkpoint="1 steps")
    (run / "results.json").unlink()
    open_run(recipe, run, TOWN)
    stop = StopRequest()
    with pytest.raises(Interrupted):
        execute(recipe, run, Stopper(stop, "PPO", 2), stop)
    follower(told, run).close()
    execute(recipe, run, Stopper(StopRequest()), StopRequest())
    follower(told, run).close()
    assert [step for trail, step in numbers(told) if trail == "tiny/policy"] == [1, 2, 3]
    assert [trail.stage for trail in told.trails].count(RESULTS) == 1
