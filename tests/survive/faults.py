"""What happens to runs in the night, one function for each: it happens, the run is begun again, and nothing is lost.

`tests/pipeline/test_survive.py` does each of them once, `benchmarks/survive.py` many times. Each ends with the run that
went on being compared with the one nobody touched; a UserError has to be what the terminal says.
"""

from __future__ import annotations

import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from sqlalchemy import create_engine, text

from concordant.pipeline.lock import LOCK, SILENT, Owner
from concordant.train.checkpoint import (
    FACTS,
    MANIFEST,
    TENSORS,
    Checkpoints,
    DamagedCheckpoint,
    load_checkpoint,
)
from kills import GLANCE, TRAINED, differences, moment, saving
from nursery import Child, Nursery
from tiny_run import STAGES, Outcome, clone, snapshot, town_file

EVERY = [f"{stage}.checkpoint=1" for stage in ("pretrain", "sft", "reward", "policy")]
YEARS = 365 * 86_400.0  # seconds


class Unavailable(Exception):  # noqa: N818 - nothing went wrong
    """This machine, or this user, cannot make this fault happen."""


class Bench:
    """A place for faults: runs in `folder`, beside the one that nobody touched."""

    def __init__(self, nursery: Nursery, folder: Path, whole: Path, seed: int = 0) -> None:
        self.nursery, self.folder, self.whole = nursery, folder, whole
        self.draw = random.Random(seed)
        self.number = 0
        town_file(folder)

    def fresh(self, stage: str, under: Path | None = None) -> Path:
        """The name of a run beside one from which it takes over what comes before this stage."""
        self.number += 1
        early = self.folder / f"before {stage}"
        if not early.exists():
            clone(self.whole, early, stages=STAGES[: STAGES.index(stage)])
            (early / "results.json").unlink()
        place = under or self.folder / str(self.number)
        place.mkdir(exist_ok=True)
        (place / "early").symlink_to(early)
        return place / "tiny"

    def start(self, run: Path, *words: str, before: str = "") -> Child:
        return self.nursery.start(
            "run", "tiny.toml", *EVERY, *words, "--run", run, cwd=self.folder, before=before
        )

    def until(self, child: Child, run: Path, stage: str) -> None:
        """Wait for a random moment of a stage."""
        moment(child, run, self.whole, stage, self.draw)

    def goes_on(self, run: Path, *words: str, store: str | None = None) -> Outcome:
        """The run goes on to its end, which is that of the untouched one; its report is waited for only if need be."""
        results = run / "results.json"
        ended = (
            results.exists()
        )  # it was stopped as late as that: then nothing but its end says that it went on
        child = self.start(run, *words)
        if not ended:
            child.wait_for(results.exists)
            child.send(signal.SIGKILL)
        outcome = child.wait()
        assert outcome.status in (0, -signal.SIGKILL), outcome.err
        assert differences(run, self.whole, store) == []
        return outcome


def refused(outcome: Outcome, *words: str) -> None:
    """One clear message and nothing else."""
    assert outcome.status == 2, outcome
    assert "Traceback" not in outcome.err, outcome.err
    assert outcome.err.startswith("error: "), outcome.err
    for word in ("\n  where: ", "\n  expected: ", "\n  do: "):
        assert outcome.err.count(word) == 1, outcome.err
    assert any(word in outcome.err for word in words), outcome.err


def stopped(outcome: Outcome) -> None:
    """It stopped in good order, or had come to its end."""
    assert outcome.status == 0, outcome
    assert "Traceback" not in outcome.err, outcome.err
    if "report: " not in outcome.out:
        assert "nothing is lost. Go on with: concordant run tiny.toml" in outcome.out, outcome.out


TRIES = 10  # to kill a run at the right moment

# Disks

NO_ROOM = (  # what a run says of it: while it writes, before a checkpoint, before its first stage
    "disk is full",
    "the disk does not take",
    "too little disk space",
    "the models of this run need",
)


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Something mounted at `place`, where this user may mount."""
    command = ["mount", *options, str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        raise Unavailable("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def full_disk(bench: Bench) -> None:
    """Somebody else fills the disk up to a random size, and takes it away again."""
    disk = bench.folder / "disk"
    disk.mkdir(exist_ok=True)
    with mounted(disk, "-t", "tmpfs", "-o", "size=32m", "none"):
        run = bench.fresh(bench.draw.choice(STAGES), under=disk)
        filler = disk / "of somebody else"
        filler.write_bytes(bytes(4096))  # it has a place in its folder
        left = int(2 ** bench.draw.uniform(12, 22))
        with filler.open("ab") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - left)
        outcome = bench.start(run).wait()
        if outcome.status != 0:
            refused(outcome, *NO_ROOM)
        filler.unlink()
        bench.goes_on(run)


def read_only_folder(bench: Bench) -> None:
    """A half-done run lies on a disk that was mounted for reading: it is refused and left as it was."""
    run = bench.fresh(stage := bench.draw.choice(STAGES))
    child = bench.start(run)
    bench.until(child, run, stage)
    child.send(signal.SIGKILL)
    child.wait()
    before = snapshot(run)
    with mounted(run.parent, "--bind", str(run.parent)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(run.parent)], check=True)
        refused(bench.start(run).wait(), "cannot write here", "unable to open database file")
    assert snapshot(run) == before
    bench.goes_on(run)


# Checkpoints


def cut_off(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) - 1)]


def flipped(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) - 1)  # the line end of a manifest says nothing
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def zeroed(content: bytes, draw: random.Random) -> bytes:
    """The last block never reached the disk."""
    at = draw.randrange(len(content) - 1)
    return content[:at] + bytes(len(content) - at)


def overwritten(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) - 1)
    return content[:at] + draw.randbytes(len(content) - at)


def gone(_content: bytes, _draw: random.Random) -> None:
    return None


Damage = Callable[[bytes, random.Random], bytes | None]
DAMAGES: tuple[Damage, ...] = (cut_off, flipped, zeroed, overwritten, gone)


def damage(file: Path, draw: random.Random) -> None:
    """Damage a file in one of the ways; it is another one afterwards."""
    content = file.read_bytes()
    changed: bytes | None = content
    while changed == content:
        changed = draw.choice(DAMAGES)(content, draw)
    if changed is None:
        file.unlink()
    else:
        file.write_bytes(changed)


def states(run: Path, stage: str) -> list[Path]:
    """The whole checkpoints of a stage, oldest first."""
    found = (run / "stages" / stage / "state").glob("step-*")
    whole = [path for path in found if path.name.removeprefix("step-").isdecimal()]
    return sorted(whole, key=lambda path: int(path.name.removeprefix("step-")))


def with_checkpoints(bench: Bench, stage: str) -> Path:
    """A run that was killed in this stage when two checkpoints lay there, or three: an older one was about to go."""
    for _ in range(TRIES):
        run = bench.fresh(stage)
        child = bench.start(run)
        child.wait_for(lambda run=run: len(states(run, stage)) >= 2, glance=GLANCE)
        child.send(signal.SIGKILL)
        child.wait()
        if len(states(run, stage)) >= 2:  # else the kill came when the stage was done already
            return run
    raise AssertionError(f"{TRIES} kills came too late for {stage}")


def damaged_checkpoint(bench: Bench) -> None:
    """One file of the newest checkpoint is damaged: it is named, and the run goes on from the one before."""
    run = with_checkpoints(bench, stage := bench.draw.choice(TRAINED))
    *_, older, newest = states(run, stage)
    damage(newest / bench.draw.choice((TENSORS, FACTS, MANIFEST)), bench.draw)
    said = " ".join(bench.goes_on(run).out.split())
    assert re.search(rf"the checkpoint \S*{newest.name} is damaged \(.+?\) and left out", said), said
    assert f"taken up again after step {older.name.removeprefix('step-')} " in said, said


def damaged_checkpoints(bench: Bench) -> None:
    """All of them are damaged: the stage begins anew and says so."""
    run = with_checkpoints(bench, stage := bench.draw.choice(TRAINED))
    for state in states(run, stage):
        damage(state / bench.draw.choice((TENSORS, FACTS, MANIFEST)), bench.draw)
    assert "the stage begins anew" in bench.goes_on(run).out


def damage_anywhere(bench: Bench) -> None:
    """Any file of a checkpoint, anywhere in it: none is loaded that is not, to the bit, what was written."""
    run = with_checkpoints(bench, stage := bench.draw.choice(TRAINED))
    state = states(run, stage)[-1]
    whole = load_checkpoint(state)
    assert whole is not None
    for _ in range(OFFSETS):
        broken = clone_folder(state, run.parent / "broken")
        file = broken / bench.draw.choice((TENSORS, FACTS, MANIFEST))
        before = file.read_bytes()
        damage(file, bench.draw)
        try:
            load_checkpoint(broken)
        except DamagedCheckpoint:
            continue
        assert file.name == MANIFEST, file
        assert json.loads(before) == json.loads(file.read_bytes()), "other words for the same"
    said: list[str] = []
    assert Checkpoints(state.parent).newest(said.append) is not None
    assert said == []


OFFSETS = 20  # of one checkpoint


def clone_folder(folder: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(folder, target))


# Clocks


def jumping_clock() -> None:
    """Every look at the clock of the wall says another year; a clock that only runs is left alone."""
    draw = random.Random(os.getpid())
    time.time = lambda: draw.uniform(0, 60 * YEARS)  # type: ignore[assignment]
    time.time_ns = lambda: int(draw.uniform(0, 60 * YEARS) * 1e9)  # type: ignore[assignment]


def clock_jumps(bench: Bench) -> None:
    """The clock of the machine jumps by decades, also between a kill and the next start."""
    run = bench.fresh(stage := bench.draw.choice(STAGES))
    child = bench.start(run, before="faults:jumping_clock")
    bench.until(child, run, stage)
    child.send(signal.SIGKILL)
    child.wait()
    child = bench.start(run, before="faults:jumping_clock")
    child.wait_for((run / "results.json").exists)
    child.send(signal.SIGKILL)
    outcome = child.wait()
    assert outcome.status in (0, -signal.SIGKILL), outcome.err
    assert differences(run, bench.whole) == []


# Signals


def asked_to_stop(bench: Bench) -> None:
    """SIGTERM, Ctrl-C or a closed terminal at a random moment."""
    run = bench.fresh(stage := bench.draw.choice(STAGES))
    child = bench.start(run)
    bench.until(child, run, stage)
    child.send(bench.draw.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))
    if not (run / "results.json").exists():  # behind it nobody listens, and nothing can be lost
        stopped(child.wait())
    bench.goes_on(run)


def asked_while_saving(bench: Bench) -> None:
    """SIGTERM while half a checkpoint lies there: it is completed first."""
    run = bench.fresh(stage := bench.draw.choice(TRAINED))
    child = bench.start(run)
    child.wait_for(lambda: saving(run), glance=GLANCE)
    child.send(signal.SIGTERM)
    outcome = child.wait()
    stopped(outcome)
    log = run / "stages" / stage / "steps.jsonl"
    if not (run / "stages" / stage / "stage.json").exists():
        assert states(run, stage)[-1].name == f"step-{len(log.read_text().splitlines())}"
    bench.goes_on(run)


def on_terminal(name: str) -> None:
    """Be the foreground process of this terminal."""
    terminal = os.open(name, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(terminal, descriptor)
    os.environ["TERM"] = "xterm"


def closed_terminal(bench: Bench) -> None:
    """The window of the terminal is closed: the state is saved although nobody reads what is said."""
    ours, theirs = pty.openpty()
    run = bench.fresh(stage := bench.draw.choice(TRAINED))
    child = bench.start(run, before=f"faults:on_terminal:{os.ttyname(theirs)}")
    reader = Thread(target=_read_all, args=(ours,), daemon=True)
    reader.start()
    child.wait_for(lambda: bool(states(run, stage)), glance=GLANCE)
    os.close(theirs)
    os.close(ours)
    outcome = child.wait()
    reader.join()
    assert outcome.status == 0, outcome
    log = run / "stages" / stage / "steps.jsonl"
    if not (run / "stages" / stage / "stage.json").exists():
        assert states(run, stage)[-1].name == f"step-{len(log.read_text().splitlines())}"
    bench.goes_on(run)


def _read_all(terminal: int) -> None:
    with suppress(OSError):
        while os.read(terminal, 4096):
            pass


# Owners


def two_owners(bench: Bench) -> None:
    """Two processes begin on one directory at the same moment: one has it, the other is told."""
    run = bench.fresh(bench.draw.choice(STAGES))
    pair = [bench.start(run), bench.start(run)]
    while not any(child.ended for child in pair):
        time.sleep(GLANCE)
    (refusal,) = [child for child in pair if child.ended]
    (owner,) = [child for child in pair if child is not refusal]
    refused(refusal.wait(), "this run is under way in another process")
    named = (f"held by process {owner.pid} on", "a process that has not said who it is")  # it may be about to
    assert any(words in refusal.err for words in named), refusal.err
    owner.wait_for((run / "results.json").exists)
    owner.send(signal.SIGKILL)
    owner.wait()
    assert differences(run, bench.whole) == []


def stale_lock(bench: Bench) -> None:
    """A half-done run whose lock speaks of an owner that is gone, in one way or another."""
    run = bench.fresh(stage := bench.draw.choice(STAGES))
    child = bench.start(run)
    bench.until(child, run, stage)
    child.send(signal.SIGKILL)
    child.wait()
    here = Owner.this()
    owners = {
        "dead": replace(here, pid=child.pid),
        "its number is another's": replace(
            here, pid=os.getpid()
        ),  # alive, and has nothing to do with the run
        "another boot": replace(here, boot="another"),
        "another machine": replace(here, host="elsewhere"),
        "garbage": "\x00{",
    }
    kind = bench.draw.choice(list(owners))
    owner: Any = owners[kind]
    (run / LOCK).write_text(owner if isinstance(owner, str) else json.dumps(asdict(owner)))
    if kind == "another machine":
        refused(bench.start(run).wait(), "this run is under way in another process")
        os.utime(run / LOCK, (time.time() - SILENT - 1,) * 2)
    said = bench.goes_on(run).out
    assert ("the last owner of this run is gone" in said) == (kind != "garbage"), said


# Others that a run depends on


class _Scores(BaseHTTPRequestHandler):
    """A reward server: the longer the better."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"scores": [len(text) / 10 for text in asked["completions"]]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def reward_server(port: int = 0) -> Iterator[int]:
    """A server of scores; yields its port."""
    server = HTTPServer(("127.0.0.1", port), _Scores)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def impatient() -> None:
    """Do not wait between two tries."""
    import concordant.train.reward_sources as sources

    sources.time = type("Clock", (), {"sleep": staticmethod(lambda _: None)})  # type: ignore[assignment]


def dead_reward_server(bench: Bench) -> None:
    """The server that gives the scores dies; it is started again, and the run goes on."""
    whole, run = bench.fresh("05-policy"), bench.fresh("05-policy")
    with reward_server() as port:
        served = f'policy.rewards={{ judge = {{ kind = "server", url = "http://127.0.0.1:{port}" }} }}'
        words = [served, "policy.updates=6"]
        untouched = Bench(bench.nursery, bench.folder, whole)
        ended = untouched.start(whole, *words)
        ended.wait_for((whole / "results.json").exists)
        ended.send(signal.SIGKILL)
        ended.wait()
        child = bench.start(run, *words, before="faults:impatient")
        child.wait_for(lambda: bool(states(run, "05-policy")), glance=GLANCE)
    outcome = child.wait()
    if outcome.status != 0:
        refused(outcome, "the reward server did not answer")
        assert "goes on from its last checkpoint" in outcome.err
    with reward_server(port):
        untouched.goes_on(run, *words)


def lost_database(bench: Bench) -> None:
    """The PostgreSQL server ends the connections of a run."""
    try:
        from servers import postgres_server
    except ImportError as error:
        raise Unavailable("there is no PostgreSQL here") from error
    with postgres_server() as server:
        address = server.database()
        words = [f"feedback.url={address}"]
        run = bench.fresh("03-feedback")
        child = bench.start(run, *words)
        bench.until(child, run, bench.draw.choice(("03-feedback", "04-reward", "06-evaluate")))
        others = create_engine(server.address("postgres"), isolation_level="AUTOCOMMIT")
        with others.connect() as connection:
            child.wait_for(lambda: connection.scalar(END_CONNECTIONS) > 0, glance=GLANCE)
        others.dispose()
        outcome = child.wait()
        if outcome.status != 0:  # it may have closed the connection in the same moment
            refused(outcome, "the connection to the server is lost")
        bench.goes_on(run, *words, store=address)


END_CONNECTIONS = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname LIKE 'test%'"
)

# By name, and how often in the long form.
FAULTS: dict[str, tuple[Callable[[Bench], None], int]] = {
    "full disk": (full_disk, 25),
    "read-only folder": (read_only_folder, 8),
    "a damaged checkpoint": (damaged_checkpoint, 20),
    "all checkpoints damaged": (damaged_checkpoints, 5),
    "damage anywhere in a checkpoint": (damage_anywhere, 10),
    "jumps of the clock": (clock_jumps, 10),
    "asked to stop": (asked_to_stop, 30),
    "asked to stop while saving": (asked_while_saving, 10),
    "closed terminal": (closed_terminal, 6),
    "two owners at once": (two_owners, 10),
    "a stale lock": (stale_lock, 12),
    "a lost database": (lost_database, 8),
    "a dead reward server": (dead_reward_server, 4),
}
