"""Every place in the source where a message for people is made, read from the code and not from its run.

A place is a construction of `UserError` or `HTTPException`, or a call of a function that makes one of what it is
given (`def _refused(what, where) -> UserError`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import concordant

PACKAGE = Path(concordant.__file__).parent
KINDS = {"UserError": ("what",), "HTTPException": ("status", "what")}  # by position; all else by name
LABELS = ("where", "expected", "fix")

Parts = dict[str, ast.expr]


@dataclass(frozen=True)
class Site:
    """Where a message is made, and the expression of each of its parts."""

    file: str  # below the package
    first: int  # line
    last: int
    parts: Parts
    around: ast.FunctionDef  # that makes it

    @property
    def status(self) -> int:
        """Of an answer over HTTP; 0 of a message on the terminal."""
        return int(ast.literal_eval(self.parts["status"])) if "status" in self.parts else 0

    def __str__(self) -> str:
        return f"{self.file}:{self.first}  {ast.unparse(self.parts['what'])}"


@dataclass(frozen=True)
class Maker:
    """A function that makes a message of its arguments."""

    name: str
    first: int
    last: int
    arguments: tuple[str, ...]
    parts: Parts

    def filled(self, call: ast.Call) -> Parts:
        """The parts of the message that a call makes."""
        given = dict(zip(self.arguments, call.args, strict=False))
        given |= {word.arg: word.value for word in call.keywords if word.arg}
        return {
            name: given.get(part.id, part) if isinstance(part, ast.Name) else part
            for name, part in self.parts.items()
        }


@cache
def sites() -> tuple[Site, ...]:
    """All of them in the order of files and lines, but for those that hand on the words of another error."""
    files = sorted(file for file in PACKAGE.rglob("*.py") if any(map(file.read_text("utf-8").count, KINDS)))
    found = (site for file in files for site in _sites(file))
    return tuple(site for site in found if ast.unparse(site.parts["what"]) != "error.what")


@cache
def makers(file: str) -> tuple[Maker, ...]:
    """The functions of a file whose callers say what happened."""
    found = []
    for around in _functions(_tree(PACKAGE / file)):
        arguments = [one.arg for one in (*around.args.args, *around.args.kwonlyargs)]
        if isinstance(around.returns, ast.Name) and around.returns.id in KINDS:
            for call in _calls(around):
                parts = _parts(call)
                what = (parts or {}).get("what")
                if parts and isinstance(what, ast.Name) and what.id in arguments:
                    last = around.end_lineno or around.lineno
                    found.append(Maker(around.name, around.lineno, last, tuple(arguments), parts))
    return tuple(found)


def _sites(path: Path) -> Iterator[Site]:
    file = str(path.relative_to(PACKAGE))
    named = {maker.name: maker for maker in makers(file)}
    for around in _functions(_tree(path)):
        if around.name in named:
            continue
        for call in _calls(around):
            maker = named.get(call.func.id) if isinstance(call.func, ast.Name) else None
            parts = maker.filled(call) if maker else _parts(call)
            if parts:
                yield Site(file, call.lineno, call.end_lineno or call.lineno, parts, around)


def _parts(call: ast.Call) -> Parts | None:
    """Of a construction; None of any other call."""
    if not isinstance(call.func, ast.Name) or call.func.id not in KINDS:
        return None
    parts = dict(zip(KINDS[call.func.id], call.args, strict=False))
    return parts | {word.arg: word.value for word in call.keywords if word.arg in LABELS}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return sorted(found, key=lambda one: one.lineno)  # type: ignore[arg-type, return-value]


def _calls(around: ast.FunctionDef) -> list[ast.Call]:
    """The calls of a function, without those of functions inside it."""
    found: list[ast.Call] = []
    waiting: list[ast.AST] = list(around.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        found += [node] if isinstance(node, ast.Call) else []
        waiting += ast.iter_child_nodes(node)
    return sorted(found, key=lambda call: call.lineno)
