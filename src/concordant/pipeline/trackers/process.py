"""Trackers beside a run, in a process of their own: what they break, print or wait for is not the run's business.

The process follows the run's log until its input ends, which it does with the process that began it, however that ends.
Each line of its output is for the user.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Thread

from concordant.errors import UserError
from concordant.pipeline.lock import locked
from concordant.pipeline.trackers.config import TrackConfig
from concordant.pipeline.trackers.follow import MARKS, Follower

EVERY = 1.0  # seconds between two looks at the log
PATIENCE = 120.0  # seconds that trackers have to come to an end after the run
PRINTED = "printed.txt"  # what the packages print
TOLD_OF = 3  # exit status where a tracker failed, and the user has been told


class Following:
    """The trackers of a run; nobody where the recipe names none. Leaving the block lets them come to an end."""

    def __init__(self, config: TrackConfig, run_folder: Path, say: Callable[[str], None]) -> None:
        self.config, self.run_folder, self.say = config, run_folder, say
        self.status = 0  # 1 where a tracker was not told all there is
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Following:
        return self

    def begin(self, *, again: bool = False) -> None:
        """Follow the run from here on; what it has done before is told first."""
        if not self.config.to:
            return
        words = {"run": str(self.run_folder), "config": self.config.model_dump(mode="json"), "again": again}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the run, which stops in good order and then lets go
        )
        assert self._process.stdout is not None
        self._heard = Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
        self._heard.start()

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            ended = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            ended = process.wait()
        self._heard.join()
        self.status = 1 if ended else 0
        if ended not in (0, TOLD_OF):
            self.say(
                f"the trackers have not been told all of this run; {_later(self.config, self.run_folder)}"
            )

    def _pass_on(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.say(line.rstrip("\n"))


def _later(config: TrackConfig, run_folder: Path) -> str:
    printed = run_folder / MARKS / PRINTED
    return f"see {printed}, and `concordant track {run_folder} --to {','.join(config.to)}` goes on from there"


class Guarded:
    """A follower whose failure is told once, and then it is left alone."""

    def __init__(self, name: str, run_folder: Path, make: Callable[[], Follower], say: Callable[[str], None]):
        self.name, self.run_folder, self.say = name, run_folder, say
        self.follower: Follower | None = None
        self.works = True
        self._try(lambda: setattr(self, "follower", make()))

    def look(self) -> None:
        """See `Follower`."""
        if self.follower is not None:
            self._try(self.follower.look)

    def close(self) -> None:
        """See `Follower`."""
        if self.follower is not None:
            self._try(self.follower.close)
            if self.works:
                said = "has been told" if self.follower.told else "knows all there is"
                self.say(f"  {self.name} {said}: {self.follower.place}")

    def _try(self, do: Callable[[], None]) -> None:
        if not self.works:
            return
        try:
            do()
        except Exception as error:
            self.works = False
            what = " ".join(str(error).split())[:300]
            self.say(
                f"{self.name} is told no more of this run ({type(error).__name__}: {what}). The run goes on, and "
                f"`concordant track {self.run_folder} --to {self.name}` makes up for it"
            )


def follow(
    run_folder: Path,
    config: TrackConfig,
    *,
    again: bool,
    over: Callable[[], bool],
    say: Callable[[str], None],
) -> bool:
    """Tell trackers of a run until it is `over`, which waits for a while itself. False if one of them failed."""

    def make(name: str) -> Callable[[], Follower]:
        return lambda: Follower(name, run_folder, config, again=again)

    guarded = [Guarded(name, run_folder, make(name), say) for name in config.to]
    while not over():
        for one in guarded:
            one.look()
    for one in guarded:
        one.close()
    return all(one.works for one in guarded)


def main(words: str) -> int:
    """Follow a run until the input of this process ends."""
    given = json.loads(words)
    run_folder, config = Path(given["run"]), TrackConfig.model_validate(given["config"])
    heard = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    (run_folder / MARKS).mkdir(parents=True, exist_ok=True)
    try:
        with (
            (run_folder / MARKS / PRINTED).open("a", encoding="utf-8") as printed,
            locked(run_folder / MARKS),
        ):
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
            told = follow(
                run_folder,
                config,
                again=given["again"],
                over=lambda: bool(select.select([0], [], [], EVERY)[0]),
                say=lambda line: print(line, file=heard),
            )
    except UserError as error:
        heard.write(f"the trackers are not told: {error}\n")
        told = False
    return 0 if told else TOLD_OF


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
