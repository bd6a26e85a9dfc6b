"""The page of all messages for people, written from the source; `make docs` puts it into docs/errors.md."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from importlib import import_module
from typing import Any

from concordant.app.web.login import TOO_MANY
from concordant.feedback.database.engine import FAILURES
from sites import Site, sites

INTRODUCTION = """\
# Messages

Every message that concordant has for its users, written from the source (`make docs`); a test compares the two. What
stands in capitals is filled in (`PATH`), `[…]` is there in some cases only, and `(a | b)` is one of the two. Look for
a word of yours that is not of your own data.

A message says what happened, where, what was expected and what to do. The command line prints it after `error: ` and
exits with status 2; nothing that was complete before is touched. Bad words on the command line (an option that is not
there, a number that is none) are told in one line below the usage of the command, with the same status. Ctrl-C ends
with status 130; a run that was asked to stop has saved, and ends with status 0 and the command to go on. A traceback
is a defect of ours.

The pages of `concordant label` show the same messages with status 409; its API sends them as `{"detail": …}`. What a
request lacks by itself is told field by field (status 422); the answers of the last section have statuses of their own.

Problems of single rows of data files are no errors: [check.md](check.md) has what each of them means.
"""

SECTIONS = (
    ("Commands", ("app/commands/", "app/inspecting/", "app/runs.py", "app/report/")),
    ("Recipes, plans and runs", ("pipeline/",)),
    ("Data files and chat templates", ("data/",)),
    ("Models and devices", ("models/",)),
    ("Training and rewards", ("train/",)),
    ("Worlds", ("worlds/",)),
    ("Tasks of lm-evaluation-harness", ("evaluation/harness.py",)),
    ("The red team", ("evaluation/redteam/", "app/redteam/")),
    ("The store of votes", ("feedback/database/", "feedback/store.py", "feedback/missing.py")),
    ("People and accounts", ("feedback/accounts.py", "feedback/names.py")),
    ("What is asked", ("feedback/asking/",)),
    ("Votes", ("feedback/votes.py", "feedback/answering/")),
    ("Files of votes and questions", ("feedback/exchange/", "app/label/leading/")),
    ("What votes say", ("feedback/reading/", "feedback/aggregation/", "feedback/columns.py")),
    ("Disks", ("files.py",)),
)
ANSWERS = "Answers of the servers of pages"
REFUSALS = (  # that are pages by themselves
    (403, "this request comes from another site"),
    (401, "This name and password do not go together."),
    (429, TOO_MANY),
    (404, "There is no such page."),
)
FIXED = ("join", "get_args", "sorted")  # calls that say the same every time


def errors_page() -> str:
    """The page as Markdown."""
    grouped = defaultdict(list)
    for site in sites():
        grouped[_section(site)].append(site)
    titles = [*(title for title, _ in SECTIONS), ANSWERS]
    page = INTRODUCTION + "".join(f"\n## {title}\n\n{_entries(grouped[title])}" for title in titles)
    return page + "".join(f"- **{said}** ({status})\n" for status, said in REFUSALS)


def _section(site: Site) -> str:
    if site.status:
        return ANSWERS
    return next(title for title, places in SECTIONS if site.file.startswith(places))


def _entries(group: list[Site]) -> str:
    """One entry for each message; the same message from several places is told once."""
    return "".join(dict.fromkeys(_entry(site) for site in group))


def _entry(site: Site) -> str:
    words = Words(site)
    if words.known.get("FAILURES") is FAILURES and "SAID" in words.of(site.parts["what"]):
        return "".join(_failure(words.of(site.parts["where"]), *one) for one in FAILURES)
    told = " ".join(words.of(site.parts["what"]).split())
    lines = [f"- **{_escaped(told)}**" + (f" ({site.status})" if site.status else "")]
    for label, part in (("where", "where"), ("expected", "expected"), ("do", "fix")):
        if part in site.parts and (text := words.of(site.parts[part])):
            lines.append(f"  - {label}: {_escaped(text)}")
    return "\n".join(lines) + "\n"


def _failure(where: str, said: str, expected: str, fix: str) -> str:
    """An entry for what a database says, which is told in its own words."""
    return (
        f"- **the feedback store: … {said} …**\n  - where: {where}\n  - expected: {expected}\n  - do: {fix}\n"
    )


def _escaped(text: str) -> str:
    for character in "\\`*_<>":
        text = text.replace(character, f"\\{character}")
    return text


class Words:
    """The words of a message: what is written in the source, with the names of what is filled in."""

    def __init__(self, site: Site) -> None:
        name = "concordant." + site.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        self.known = vars(import_module(name))
        self.local: dict[str, list[ast.expr]] = defaultdict(list)
        for node in ast.walk(site.around):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self.local[target.id].append(node.value)
                    elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        for one, value in zip(target.elts, node.value.elts, strict=False):
                            self.local[ast.unparse(one)].append(value)
        self.arguments = {one.arg for one in (*site.around.args.args, *site.around.args.kwonlyargs)}

    def of(self, node: ast.expr) -> str:
        if (fixed := self._fixed(node)) is not None:
            return fixed
        match node:
            case ast.JoinedStr(values):
                return "".join(map(self.of, values))
            case ast.FormattedValue(value):
                return self.of(value)
            case ast.BinOp(left, ast.Add(), right):
                return self.of(left) + self.of(right)
            case ast.IfExp(_, body, orelse):
                return _either(self.of(body), self.of(orelse))
            case ast.BoolOp(ast.Or(), values):
                return _either(self.of(values[0]), self.of(values[-1]))
            case ast.Name(name) if any(map(_is_text, self.local.get(name, ()))):
                values = self.local.pop(name)  # one that is made of itself is told once
                texts = [self.of(value) for value in values]
                self.local[name] = values
                return texts[0] if len(texts) == 1 else _either(texts[0], texts[-1])
        return _hole(node)

    def _fixed(self, node: ast.expr) -> str | None:
        """What an expression of constants says; None of one that depends on the moment."""
        for part in ast.walk(node):
            if isinstance(part, ast.Call) and ast.unparse(part.func).rpartition(".")[2] not in FIXED:
                return None
            if isinstance(part, ast.Name) and part.id in (*self.local, *self.arguments):
                return None
        try:
            value = eval(compile(ast.Expression(node), "<message>", "eval"), dict(self.known))
        except (NameError, TypeError, AttributeError):
            return None
        return str(value) if isinstance(value, str | int | float) else None


def _is_text(node: ast.expr) -> bool:
    """Whether an expression is put together from words."""
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) or _is_text(node.orelse)
    if isinstance(node, ast.BinOp):
        return _is_text(node.left)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _either(one: str, other: str) -> str:
    if one == other:
        return one
    if not one or not other:
        return f"[{one or other}]"
    return f"({one} | {other})"


def _hole(node: Any) -> str:
    """The name, in capitals, of what an expression fills in."""
    match node:
        case ast.Call(ast.Name("len" | "sum" | "int"), _):
            return "N"
        case ast.Call(ast.Name("type"), _):
            return "TYPE"
        case ast.Call(ast.Attribute(ast.Constant()), [first, *_]):  # ", ".join(names)
            return _hole(first)
        case ast.Call(ast.Attribute(value), _):
            return _hole(value)
        case ast.Call(_, [first, *_]) | ast.BinOp(first):
            return _hole(first)
        case ast.Attribute(value, "__name__"):
            return _hole(value)
        case ast.Attribute(_, name) | ast.Name(name) | ast.Subscript(_, ast.Constant(str(name))):
            return name.strip("_").upper()
        case ast.Subscript(value) | ast.UnaryOp(_, value) | ast.Starred(value):
            return _hole(value)
        case ast.GeneratorExp(elt) | ast.ListComp(elt) | ast.FormattedValue(elt):
            return _hole(elt)
        case ast.JoinedStr(values):
            return next(_hole(one) for one in values if isinstance(one, ast.FormattedValue))
        case ast.List([first, *_]) | ast.IfExp(_, first) | ast.BoolOp(_, [first, *_]):
            return _hole(first)
    return "…"


if __name__ == "__main__":
    sys.stdout.write(errors_page())
