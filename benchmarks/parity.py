"""The table of `make parity`, printed and written into docs/parity.md: `python benchmarks/parity.py`.

Reads what the parity tests left in `.parity/results`. Relative differences: of the losses, |ours - theirs| / |theirs|;
of the gradients, the norm of their difference divided by the norm of theirs, over all parameters of the model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / ".parity" / "results"
PAGE = ROOT / "docs" / "parity.md"
BEGIN, END = "<!-- begin: benchmarks/parity.py -->", "<!-- end: benchmarks/parity.py -->"


def figures(row: dict[str, Any]) -> list[str]:
    """The cells of one row."""
    differences = [f"{row[name]:.0e}" if row[name] else "0" for name in ("loss", "gradient")]
    return [row["objective"], f"{row['ours']:.6g}", f"{row['theirs']:.6g}", *differences]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table whose columns stand below each other in a terminal too."""
    rule = ["---", *["--:"] * 4, *["---"] * (len(head) - 5)]
    widths = [max(len(row[i]) for row in (head, rule, *rows)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, rule, *rows)
    ]
    return "\n".join(lines)


def page(sessions: list[dict[str, Any]]) -> str:
    """Both tables and where they come from."""
    head = ["objective", "our loss", "theirs", "difference of loss", "of gradient"]
    equal = [
        [*figures(row), session["versions"]["trl"], "yes" if row["within"] else "**no**"]
        for session in sessions
        for row in session["equal"]
    ]
    apart = [[*figures(row), session["versions"]["trl"]] for session in sessions for row in session["apart"]]
    shared = {name: told for name, told in sessions[0]["versions"].items() if name != "trl"}
    trl = " and ".join(session["versions"]["trl"] for session in sessions)
    versions = ", ".join(f"{name} {told}" for name, told in shared.items())
    return "\n\n".join(
        (
            f"{sessions[-1]['date']}: TRL {trl}, {versions}.",
            markdown([*head, "TRL", "equal"], equal),
            "What the deliberate deviations amount to on the same batches:",
            markdown([*head, "TRL"], apart),
        )
    )


def main() -> int:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("trl-*.json")]
    if len(found) != 2:
        print("say `make parity` first: the results of both versions of TRL are needed", file=sys.stderr)
        return 1
    sessions = sorted(found, key=lambda session: -len(session["equal"]))
    told = page(sessions)
    print(told)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
