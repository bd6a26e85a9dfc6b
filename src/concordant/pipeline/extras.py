"""Packages that not everybody needs: each is an extra of ours, imported where it was chosen."""

from __future__ import annotations

from importlib.util import find_spec

from concordant.errors import UserError


def require(module: str, extra: str) -> None:
    """Raise UserError unless a package can be imported, saying which extra brings it."""
    if find_spec(module) is None:
        raise UserError(
            f"{extra} is not installed",
            where="this Python environment",
            expected=f"the package {module}, which the extra brings",
            fix=f"pip install 'concordant[{extra}]'",
        )
