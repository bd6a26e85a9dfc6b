"""Change `core/` in every small way, and see whether a test of `tests/core` notices: `make mutation`.

    python benchmarks/mutation.py [PATTERN]

Prints the share of changes that were noticed and each one that was not, and writes the same to
docs/mutation.md. mutmut does the changing, on a copy of the tree in .mutation/tree.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / ".mutation" / "tree"
PAGE = ROOT / "docs" / "mutation.md"
BEGIN, END = "<!-- begin: written by benchmarks/mutation.py -->", "<!-- end -->"
SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/concordant/core/*"]
pytest_add_cli_args_test_selection = ["tests/core"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist"]
"""


def main() -> None:
    copy_tree()
    mutmut("run", "--max-children", "1", *sys.argv[1:])
    results = [
        line.strip() for line in mutmut("results", "--all", "true").splitlines() if "__mutmut_" in line
    ]
    states = dict(line.split(": ") for line in results)
    missed = [name for name, state in states.items() if state == "survived"]
    checked = [state for state in states.values() if state != "not checked"]
    noticed = len(checked) - len(missed)
    lines = [
        f"{noticed} of {len(checked)} changes noticed: {noticed / len(checked):.1%}.",
        "",
        "| where | changed from | to |",
        "|---|---|---|",
        *(row(name) for name in missed),
    ]
    print("\n".join(lines))
    if len(sys.argv) == 1 and PAGE.exists():
        text = PAGE.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}")


def copy_tree() -> None:
    """What the tests of `core` need, with mutmut's settings in the project file."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, TREE / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", TREE)
    (TREE / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + SETTINGS)


def mutmut(*words: str) -> str:
    """Run mutmut in the copy; its progress goes to the terminal, its other output is returned."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / ".mutation" / "lib")}
    running = words[0] == "run"
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *words],
        cwd=TREE,
        env=environment,
        text=True,
        stdout=None if running else subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.stdout or ""


def row(name: str) -> str:
    """A change that nobody noticed, as a row of the table."""
    changed = [line for line in mutmut("show", name).splitlines() if re.match(r"[-+](?![-+])", line)]
    before, after = (
        " ".join(line[1:].strip() for line in changed if line[0] == sign).replace("|", "\\|") for sign in "-+"
    )
    place = re.sub(r"x_|__mutmut_\d+|ǁ", " ", name.removeprefix("concordant.core.")).replace(" ", "")
    return f"| `{place}` | `{before}` | `{after}` |"


if __name__ == "__main__":
    main()
