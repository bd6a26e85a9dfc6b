"""Our row of the table of code shape: `python benchmarks/style.py`.

kLOC: lines of library Python. Clone %: lines (stripped; blank, comment, import and shorter than four characters left
out) that lie in a window of eight which also occurs in another file. fn: last minus first line plus one of every def;
p90 is element int(0.9 n) of the sorted list. Loss closure: internal modules and kLOC that the PPO losses import.
tests / kLOC: `def test_` per thousand lines; patches / test: Mock, patch( and monkeypatch. per test.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
WINDOW = 8


def counted(path: Path) -> list[str]:
    """The lines that count as code for clones."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if len(line) >= 4 and not line.startswith(("#", "import ", "from "))]


def clone_share(files: list[Path]) -> float:
    """Share of counted lines inside a window that another file has too."""
    lines = {path: counted(path) for path in files}
    owners: dict[tuple[str, ...], set[Path]] = defaultdict(set)
    for path, rows in lines.items():
        for i in range(len(rows) - WINDOW + 1):
            owners[tuple(rows[i : i + WINDOW])].add(path)
    cloned = 0
    for rows in lines.values():
        marked = [False] * len(rows)
        for i in range(len(rows) - WINDOW + 1):
            if len(owners[tuple(rows[i : i + WINDOW])]) > 1:
                marked[i : i + WINDOW] = [True] * WINDOW
        cloned += sum(marked)
    return cloned / sum(map(len, lines.values()))


def function_lengths(files: list[Path]) -> list[int]:
    """Length of every function, sorted."""
    defs = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (
        node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, defs)
    )
    return sorted((node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes)


def closure(module: str) -> set[Path]:
    """Files reached from `module` by imports inside the package, its parent packages included."""
    reached: set[Path] = set()
    waiting = [module]
    while waiting:
        parts = waiting.pop().split(".")
        for n in range(1, len(parts) + 1):
            base = SOURCE.joinpath(*parts[:n])
            path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
            if not path.is_file() or path in reached:
                continue
            reached.add(path)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("concordant"):
                    waiting += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return reached


def main() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    lengths = function_lengths(files)
    loc = {path: len(path.read_text().splitlines()) for path in files}
    losses = closure("concordant.core.losses")
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    n_tests = len(re.findall(r"def test_", tests))
    patches = len(re.findall(r"MagicMock|\bMock\(|\bpatch\(|monkeypatch\.", tests))
    kloc = sum(loc.values()) / 1000
    print(
        "| codebase | kLOC | clone % | fn p90 / max | largest file | loss closure (modules / kLOC) "
        "| tests / kLOC | patches / test |\n|---|--:|--:|--:|--:|---|--:|--:|"
    )
    print(
        f"| concordant | {kloc:.1f} | {clone_share(files):.1%} | {lengths[int(0.9 * len(lengths))]} / {lengths[-1]} "
        f"| {max(loc.values())} | {len(losses)} / {sum(loc[p] for p in losses) / 1000:.1f} "
        f"| {n_tests / kloc:.1f} | {patches / n_tests:.2f} |"
    )


if __name__ == "__main__":
    main()
