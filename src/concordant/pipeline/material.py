"""What a run learns from and is measured on: an embedded world, or files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from concordant.data.config import Source
from concordant.data.doctor.checkup import repetitions
from concordant.data.layouts.account import Loaded
from concordant.data.layouts.reading import (
    read_demonstrations,
    read_documents,
    read_judgements,
    read_preferences,
    read_prompts,
)
from concordant.data.splits import place
from concordant.data.types import Demonstration, Document, Judgement, Preference, Prompt
from concordant.errors import UserError, located
from concordant.pipeline.recipe import Recipe
from concordant.worlds.world import Gold, World, make_world

TRAINING, EVALUATION = 1, 2  # two draws from a world, beside its own seed
HASHED_WHOLE = 256 * 2**20  # larger files are known by size, head and tail


class Material(Protocol):
    """The text of a run."""

    def corpus(self) -> Sequence[Demonstration]:
        """What the embedded model reads before anything else."""
        ...

    def demonstrations(self) -> Sequence[Demonstration]:
        """Answers to imitate."""
        ...

    def held_out_demonstrations(self, n: int) -> Sequence[Demonstration]:
        """Up to `n` of the same kind that nothing learns from."""
        ...

    def preferences(self) -> Sequence[Preference]:
        """Pairs that came with the data; empty where labelers make them."""
        ...

    def judgements(self) -> Sequence[Judgement]:
        """Answers that came with the data, each called good or bad."""
        ...

    def prompts(self) -> Sequence[Prompt]:
        """Prompts to sample on."""
        ...

    def to_compare(self) -> Sequence[Prompt]:
        """Prompts whose candidates labelers compare: those kept out for validation too, to measure on."""
        ...

    def evaluation(self, n: int) -> dict[str, Sequence[Prompt]]:
        """Up to `n` prompts of each split to measure on; the first split is the one reported first."""
        ...

    def held_out_chats(self, n: int) -> Sequence[Demonstration]:
        """Up to `n` chats of a world's language that no stage learns from; empty where there is no world."""
        ...

    def held_out_text(self, n: int) -> Sequence[Document]:
        """Up to `n` documents of plain text that no stage learns from; empty where the recipe names none."""
        ...

    def validation(self, prompt: Prompt) -> bool:
        """Whether this prompt is kept out of training."""
        ...

    def gold(self, prompt: Prompt, completion: str) -> Gold | None:
        """The exact reward, where the world knows it."""
        ...

    def failures(self, prompt: Prompt, completion: str) -> Mapping[str, bool]:
        """By behaviour, whether the completion fails where the world knows it; empty elsewhere."""
        ...

    @property
    def world(self) -> World | None:
        """The embedded world, if this is one."""
        ...


class WorldMaterial:
    """Everything drawn from an embedded world by the seed."""

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.world is not None
        self.settings = recipe.world
        self.share = recipe.data.validation
        self.world: World = make_world(recipe.world.name, recipe.seed)

    def corpus(self) -> Sequence[Demonstration]:
        return self.world.corpus(self.settings.corpus)

    def demonstrations(self) -> Sequence[Demonstration]:
        return self.world.demonstrations(self.settings.demonstrations)

    def held_out_demonstrations(self, n: int) -> Sequence[Demonstration]:
        learnt = self.settings.demonstrations
        return self.world.demonstrations(learnt + n)[learnt:]

    def preferences(self) -> Sequence[Preference]:
        return ()

    def judgements(self) -> Sequence[Judgement]:
        return ()

    def prompts(self) -> Sequence[Prompt]:
        return self.world.prompts(self.settings.prompts, split="train", rng=TRAINING)

    def to_compare(self) -> Sequence[Prompt]:
        return self.prompts()

    def evaluation(self, n: int) -> dict[str, Sequence[Prompt]]:
        splits = ("train", "ood", "heldout")
        return {split: self.world.prompts(n, split=split, rng=EVALUATION) for split in splits}

    def held_out_chats(self, n: int) -> Sequence[Demonstration]:
        return self.world.held_out_corpus(n)

    def held_out_text(self, n: int) -> Sequence[Document]:
        return ()

    def validation(self, prompt: Prompt) -> bool:
        return place(prompt.id, 0) < self.share

    def gold(self, prompt: Prompt, completion: str) -> Gold | None:
        return self.world.gold(prompt, completion)

    def failures(self, prompt: Prompt, completion: str) -> Mapping[str, bool]:
        return self.world.failures(prompt, completion)


class FileMaterial:
    """Everything read from the files of the recipe."""

    world = None

    def __init__(self, recipe: Recipe) -> None:
        self.data = recipe.data
        self.text = recipe.evaluate.text if recipe.evaluate else ()
        self.root = Path(recipe.data_root)
        self.problems: list[str] = []  # for the user: rows left out, mended, or said again, by file
        self._known: dict[str, list[Any]] = {}  # rows by recipe key: a run reads its files once

    def corpus(self) -> Sequence[Demonstration]:
        raise AssertionError("planning refuses to pretrain without a world")

    def demonstrations(self) -> Sequence[Demonstration]:
        rows = self._read(read_demonstrations, self.data.demonstrations, "data.demonstrations")
        return [row for row in rows if not self.validation(row.prompt)]

    def held_out_demonstrations(self, n: int) -> Sequence[Demonstration]:
        rows = self._read(read_demonstrations, self.data.demonstrations, "data.demonstrations")
        return [row for row in rows if self.validation(row.prompt)][:n]

    def preferences(self) -> Sequence[Preference]:
        return self._read(read_preferences, self.data.preferences, "data.preferences")

    def judgements(self) -> Sequence[Judgement]:
        return self._read(read_judgements, self.data.judgements, "data.judgements")

    def prompts(self) -> Sequence[Prompt]:
        return [prompt for prompt in self._all_prompts() if not self.validation(prompt)]

    def to_compare(self) -> Sequence[Prompt]:
        return self._all_prompts()

    def evaluation(self, n: int) -> dict[str, Sequence[Prompt]]:
        kept_out = [prompt for prompt in self._all_prompts() if self.validation(prompt)]
        return {"validation": kept_out[:n]}

    def held_out_chats(self, n: int) -> Sequence[Demonstration]:
        return ()

    def held_out_text(self, n: int) -> Sequence[Document]:
        found: Sequence[Document] = self._read(read_documents, self.text, "evaluate.text")
        return found[:n]

    def validation(self, prompt: Prompt) -> bool:
        return place(prompt.id, 0) < self.data.validation

    def gold(self, prompt: Prompt, completion: str) -> Gold | None:
        return None

    def failures(self, prompt: Prompt, completion: str) -> Mapping[str, bool]:
        return {}

    def _all_prompts(self) -> list[Prompt]:
        """Distinct prompts in the order of their hash, which mixes the files."""
        if self.data.prompts:
            found: Sequence[Prompt] = self._read(read_prompts, self.data.prompts, "data.prompts")
        else:
            found = [row.prompt for row in self.preferences() or self.judgements()]
        return [prompt for _, prompt in sorted({prompt.id: prompt for prompt in found}.items())]

    def _read(self, read: Any, sources: Sequence[Source], key: str) -> list[Any]:
        if key in self._known:
            return self._known[key]
        rows: list[Any] = []
        for source in sources:
            loaded = self._load(read, source, key)
            rows += loaded.rows[: source.limit or None]
            if loaded.problems:
                account = _account(source.path, loaded)
                if account not in self.problems:
                    self.problems.append(account)
            said_again = "" if read is read_documents else _said_again(source.path, loaded)
            if said_again and said_again not in self.problems:
                self.problems.append(said_again)
        self._known[key] = rows
        return rows

    def _load(self, read: Any, source: Source, key: str) -> Loaded[Any]:
        """The rows of one source; what is wrong with them is said with the key of the recipe."""
        with located(key):
            loaded: Loaded[Any] = read(
                source.path,
                root=self.root,
                split=source.split,
                columns=source.columns,
                strict=not self.data.skip_bad_rows,
            )
        return loaded


def _said_again(source: str, loaded: Loaded[Any]) -> str:
    """One line about the rows of a file that repeat or contradict others of it; empty where none does."""
    repeated, opposed = repetitions(loaded.rows)
    if not repeated and not opposed:
        return ""
    return (
        f"{source}: of {loaded.kept} rows, {repeated} repeat an earlier one and {opposed} say the opposite of one; "
        f"`concordant check` says which, and writes a copy without them"
    )


def _account(source: str, loaded: Loaded[Any]) -> str:
    """One line about the rows of a file that were left out or mended."""
    parts = []
    for dropped, done in ((True, "left out"), (False, "mended")):
        problems = [problem for problem in loaded.problems if problem.dropped is dropped]
        if problems:
            kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(p.kind for p in problems).items())
            parts.append(
                f"{len(problems)} of {loaded.read} rows {done} ({kinds}), first at {problems[0].where}"
            )
    return f"{source}: {'; '.join(parts)}"


def check_split(training: int, validation: int, kind: str) -> None:
    """Raise UserError unless both sides of the split have rows."""
    if not training or not validation:
        raise UserError(
            f"{training} {kind} for training and {validation} for validation",
            where="data.validation",
            expected="some of each; the split goes by a hash of the prompt",
            fix=f"give more {kind}, or change data.validation",
        )


def material_of(recipe: Recipe) -> WorldMaterial | FileMaterial:
    """The material a recipe asks for."""
    return FileMaterial(recipe) if recipe.world is None else WorldMaterial(recipe)


def source_fingerprints(sources: Sequence[Source], root: Path) -> list[dict[str, Any]]:
    """What identifies the rows of these sources: settings, and the content of files and folders."""
    return [{**source.model_dump(), "content": content_fingerprint(root / source.path)} for source in sources]


def content_fingerprint(path: Path) -> str:
    """Digest of a file, or of all files below a folder; "hub" for what is not here."""
    if path.is_dir():
        files = (p for p in sorted(path.rglob("*")) if p.is_file())
        return "|".join(f"{p.relative_to(path)}:{content_fingerprint(p)}" for p in files)
    if not path.is_file():
        return "hub"
    facts = path.stat()
    return _digest(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, _mtime_ns: int, _inode: int) -> str:
    """Each plan asks for every file several times; one that was not touched is read once."""
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= HASHED_WHOLE:
            while block := file.read(2**20):
                digest.update(block)
        else:
            digest.update(file.read(2**20))
            file.seek(-(2**20), 2)
            digest.update(file.read(2**20))
    return digest.hexdigest()
