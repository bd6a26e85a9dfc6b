"""What inspect finds of us: models as `concordant/RUN:STAGE`. What they need is imported with the first of them."""

from __future__ import annotations

from typing import Any

from inspect_ai.model import modelapi


@modelapi(name="concordant")  # type: ignore[untyped-decorator]
def concordant() -> type[Any]:
    """The class behind every such name."""
    from concordant.app.inspecting.provider import StageModel

    return StageModel
