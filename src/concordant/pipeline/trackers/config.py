"""Who else is told of a run while it trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from concordant.config import Config

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class TrackConfig(Config):
    """Trackers that are told of a run while it trains. They read its log, and change nothing of it."""

    to: tuple[TrackerName, ...] = ()
    """Who is told: tensorboard, wandb, mlflow, trackio. Each is an extra: pip install 'concordant[wandb]'."""
    project: str = Field("", pattern=r"^([A-Za-z0-9_][A-Za-z0-9 ._+-]*)?$")
    """What runs are collected under; empty = the recipe's name."""
    name: str = Field("", pattern=r"^([A-Za-z0-9_][A-Za-z0-9 ._+=-]*)?$")
    """What the run is called there; empty = the name of its directory."""
    folder: str = ""
    """Where they keep it; empty = trackers/ beside the run's directory, shared by the runs there."""
    online: bool = False
    """Send it to where the trackers' own environment variables and logins say; false = nothing leaves this machine."""
