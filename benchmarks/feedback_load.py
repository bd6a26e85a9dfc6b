"""How fast the feedback store is, and what a killed server loses: python benchmarks/feedback_load.py.

Writers are processes. Through the store: each leases a task and hands a vote in, until every task has three.
Through HTTP: how long a labeler waits for the next question with many tasks in the store. Kills: the server is
killed with SIGKILL while votes come in, and every vote that was acknowledged has to be there afterwards.
"""

from __future__ import annotations

import argparse
import atexit
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from http.client import HTTPException
from pathlib import Path

from sqlalchemy import select

from concordant.data.types import Completion, Prompt
from concordant.feedback.accounts import add_account, make_token
from concordant.feedback.database import schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, prefer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
WRITERS, VOTES = 8, 3


def fill(address: str, tasks: int) -> None:
    """A store with so many pairs to compare, three votes each."""
    with Store.open(address) as store:
        for start in range(0, tasks, 5_000):
            prompts = [Prompt.user(f"question {i}") for i in range(start, min(tasks, start + 5_000))]
            sampled = [(p, Completion(f"answer {j}"), {"seed": 0}, True) for p in prompts for j in (0, 1)]
            ids = store.add_completions(sampled)
            store.create_tasks("pairwise", [ids[i : i + 2] for i in range(0, len(ids), 2)], need=VOTES)


def write(address: str, name: str, queue: multiprocessing.Queue) -> None:
    """Lease and submit until nothing is left; report how many, and what went wrong."""
    done, failures, waits = 0, [], []
    with Store.open(address) as store:
        labeler = store.add_labeler(name, "simulated")
        while True:
            begin = time.perf_counter()
            try:
                lease = store.lease(labeler, project=DEFAULT_PROJECT)
                if lease is None:
                    break
                vote = Vote(lease.comparison.task_id, prefer(lease.comparison.completions[0].id))
                store.submit(lease.token, lease.token, vote)
            except Exception as error:
                failures.append(f"{type(error).__name__}: {str(error)[:80]}")
                continue
            waits.append(time.perf_counter() - begin)
            done += 1
    waits.sort()
    queue.put((done, failures, waits[int(0.99 * len(waits))] if waits else 0.0))


def soak(engine: str, address: str, tasks: int) -> None:
    """Eight writers through the store."""
    fill(address, tasks)
    queue: multiprocessing.Queue = multiprocessing.Queue()
    writers = [
        multiprocessing.Process(target=write, args=(address, f"writer {n}", queue)) for n in range(WRITERS)
    ]
    begin = time.perf_counter()
    for one in writers:
        one.start()
    found = [queue.get() for _ in writers]
    spent = time.perf_counter() - begin
    for one in writers:
        one.join()
    with Store.open(address) as store, store.reading() as connection:
        per_task = Counter(connection.scalars(select(schema.vote.c.task)))
        counted = dict(connection.execute(select(schema.task.c.id, schema.task.c.n_done)).all())
    failures = [failure for _, some, _ in found for failure in some]
    over = sum(n > VOTES for n in per_task.values())
    wrong = sum(counted[key] != per_task.get(key, 0) for key in counted)
    cycles = sum(n for n, _, _ in found)
    print(
        f"{engine}: {WRITERS} writers, {tasks:,} tasks x {VOTES}: {cycles:,} cycles in {spent:.1f} s = "
        f"{cycles / spent:,.0f}/s, p99 {1000 * max(w for _, _, w in found):.0f} ms; {len(failures)} errors, "
        f"{over} over-assigned, {wrong} counts wrong, {len(per_task):,} tasks with {sum(per_task.values()):,} votes"
    )
    for failure, n in Counter(failures).most_common(3):
        print(f"  {n} x {failure}")


SERVER = """
import sys, uvicorn
from concordant.app.label.server import create_app
from concordant.feedback.store import Store
uvicorn.run(create_app(Store.open(sys.argv[1]), owner=None), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


class Server:
    """The labeling server in a process of its own."""

    def __init__(self, address: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, address, str(port)])
        atexit.register(self.process.kill)  # a benchmark that fails leaves nothing running
        while True:
            try:
                urllib.request.urlopen(self.url + "/login", timeout=1)
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


def call(url: str, token: str, body: dict) -> dict:
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def token_of(address: str, name: str) -> str:
    with Store.open(address) as store:
        return make_token(store, add_account(store, name, "labeler"), "load", ["vote"], 1)[1]


def vote_for(question: dict) -> dict:
    payload = {"type": "pairwise", "verdict": "prefer", "winner": question["completions"][0]["id"]}
    return {
        "token": question["token"],
        "task": question["task"],
        "key": question["token"],
        "payload": payload,
    }


def next_question(engine: str, address: str, tasks: int, port: int, n: int = 300) -> None:
    """How long one labeler waits for the next question, with so many in the store."""
    fill(address, tasks)
    token = token_of(address, "reader")
    server = Server(address, port)
    waits, votes = [], []
    for _ in range(n):
        begin = time.perf_counter()
        (question,) = call(server.url + "/api/leases", token, {"project": DEFAULT_PROJECT, "n": 1})[
            "questions"
        ]
        waits.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        call(server.url + "/api/votes", token, vote_for(question))
        votes.append(time.perf_counter() - begin)
    server.kill()
    waits.sort()
    votes.sort()
    p = int(0.95 * n)
    print(
        f"{engine}: {tasks:,} tasks, next question through HTTP: median {1000 * waits[n // 2]:.1f} ms, "
        f"p95 {1000 * waits[p]:.1f} ms; vote: p95 {1000 * votes[p]:.1f} ms"
    )


def label(url: str, token: str, acknowledged: multiprocessing.Queue, stop: multiprocessing.Event) -> None:
    """Vote through HTTP and write down what was acknowledged; a server that is gone is waited for."""
    kept = []
    while not stop.is_set():
        try:
            for question in call(url + "/api/leases", token, {"project": DEFAULT_PROJECT, "n": 1})[
                "questions"
            ]:
                kept.append(call(url + "/api/votes", token, vote_for(question))["vote"])
        except (OSError, HTTPException):  # gone before it answered, or in the middle of it
            time.sleep(0.05)
    acknowledged.put(kept)


def killed(engine: str, address: str, kills: int, port: int) -> None:
    """Kill the server again and again while four labelers vote."""
    fill(address, 5_000)
    tokens = [token_of(address, f"labeler {n}") for n in range(4)]
    queue: multiprocessing.Queue = multiprocessing.Queue()
    stop = multiprocessing.Event()
    server = Server(address, port)
    workers = [multiprocessing.Process(target=label, args=(server.url, t, queue, stop)) for t in tokens]
    for one in workers:
        one.start()
    for number in range(kills):
        time.sleep(1.0 + 0.13 * number)
        server.kill()
        server = Server(address, port)
    time.sleep(1.0)
    stop.set()
    kept = [key for _ in workers for key in queue.get()]
    for one in workers:
        one.join()
    server.kill()
    with Store.open(address) as store, store.reading() as connection:
        there = set(connection.scalars(select(schema.vote.c.id)))
    missing = sum(key not in there for key in kept)
    print(f"{engine}: {kills} kills, {len(kept):,} votes acknowledged, {missing} of them missing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks of the soak, three votes each")
    parser.add_argument("--many", type=int, default=100_000, help="tasks while the next question is timed")
    parser.add_argument("--kills", type=int, default=10, help="times the server is killed")
    parser.add_argument("--engines", default="sqlite,postgresql", help="which engines")
    arguments = parser.parse_args()
    from servers import postgres_server

    with tempfile.TemporaryDirectory() as folder, postgres_server() as postgres:
        for number, engine in enumerate(arguments.engines.split(",")):

            def address(name: str, engine: str = engine) -> str:
                return postgres.database() if engine == "postgresql" else str(Path(folder) / f"{name}.sqlite")

            soak(engine, address("soak"), arguments.tasks)
            next_question(engine, address("many"), arguments.many, 8801 + 10 * number)
            killed(engine, address("killed"), arguments.kills, 8802 + 10 * number)


if __name__ == "__main__":
    main()
