"""Commands of concordant that begin in a moment: one process imports what a run needs, and each start is a fork of it.

    with Nursery() as nursery:
        child = nursery.start("run", "tiny.toml", cwd=folder)
        child.send(signal.SIGKILL)
        outcome = child.wait()

Importing takes seconds and a tiny run takes a few, so hundreds of runs that are killed and begun again are cheap only
this way. The process that is forked has one thread and has computed nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

from tiny_run import Outcome

PATIENCE = 120.0  # seconds after which a child is taken for one that never ends
GLANCE = 0.005  # seconds between two looks at a child
BESIDE = ("transformers.models.llama.modeling_llama", "transformers.convert_slow_tokenizer")


class Child:
    """A command under way in a process of its own."""

    def __init__(self, nursery: Nursery, pid: int, said: Path) -> None:
        self.nursery, self.pid, self.said = nursery, pid, said
        self.status: int | None = None

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if not self.ended:
            os.kill(self.pid, number)  # nobody else has this number before `ended` has heard of the end

    @property
    def ended(self) -> bool:
        if self.status is None:
            self.status = self.nursery.ask("status", self.pid)
        return self.status is not None

    def wait(self, patience: float = PATIENCE) -> Outcome:
        """What it left; the status is negative where a signal ended it."""
        if not self.wait_for(lambda: self.ended, patience):
            os.kill(self.pid, 9)
            raise AssertionError(f"process {self.pid} never came to its end: {self.err}")
        assert self.status is not None
        return Outcome(self.status, self.out, self.err)

    def wait_for(self, there: Callable[[], bool], patience: float = PATIENCE, glance: float = GLANCE) -> bool:
        """Wait until something is there, or it has ended; whether it is there."""
        end = time.monotonic() + patience
        while not there():
            if self.ended or time.monotonic() > end:
                return there()
            time.sleep(glance)
        return True

    @property
    def out(self) -> str:
        return (self.said / "out").read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        return (self.said / "err").read_text(encoding="utf-8", errors="replace")


class Nursery:
    """The process that is forked; its children end with the block."""

    def __enter__(self) -> Nursery:
        self.folder = tempfile.TemporaryDirectory()
        self.children: list[Child] = []
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),  # what stands beside the tests is found there too
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
        )
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.send(9)
        self.process.communicate()
        self.folder.cleanup()

    def start(self, *words: object, cwd: Path, before: str = "") -> Child:
        """Begin `concordant WORDS`; the child calls `before` first, a `module:function` or `module:function:word`."""
        said = Path(self.folder.name) / str(len(self.children))
        said.mkdir()
        for name in ("out", "err"):
            (said / name).touch()
        pid = self.ask("start", [str(word) for word in words], str(cwd), before, str(said))
        self.children.append(Child(self, pid, said))
        return self.children[-1]

    def run(self, *words: object, cwd: Path, before: str = "") -> Outcome:
        """Run `concordant WORDS` to its end."""
        return self.start(*words, cwd=cwd, before=before).wait()

    def ask(self, verb: str, *arguments: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def _prepare() -> None:
    """Import everything a run imports, and start no thread."""
    import concordant

    for module in walk_packages(concordant.__path__, "concordant."):
        if "migrations." not in module.name and not module.name.endswith("__main__"):
            import_module(module.name)
    for name in BESIDE:
        import_module(name)


def _start(words: list[str], cwd: str, before: str, said: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _become(words, cwd, before, Path(said))
        finally:
            os._exit(70)  # never back into the loop of the parent
    return pid


def _become(words: list[str], cwd: str, before: str, said: Path) -> None:
    """Be the command, as if it had been started from a shell."""
    os.setsid()
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_WRONLY), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    from concordant.app.cli import main

    status = 1
    try:
        if before:
            module, function, *word = before.split(":", 2)
            getattr(import_module(module), function)(*word)
        status = main(words)
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _status(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _serve() -> None:
    _prepare()
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        answer = _start(*arguments) if verb == "start" else _status(*arguments)
        print(json.dumps(answer), flush=True)  # noqa: T201 - to the process that asked


if __name__ == "__main__":
    _serve()
