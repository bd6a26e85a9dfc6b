"""Nobody sees an answer before having read what may stand in it, nor after having said that this is not for them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, HTTPException

from concordant.app.web.security import Labeler
from concordant.feedback.accounts import Account, save_settings
from concordant.feedback.store import Store

KEY = "redteam"  # of the settings of an account

State = Literal["new", "agreed", "left"]


def state_of(account: Account) -> State:
    """Whether somebody has read the warning and wants to take part."""
    said: State = account.settings.get(KEY, "new")
    return said


def remember(store: Store, account: Account, state: State) -> None:
    """Keep what somebody has said to the warning, until they say otherwise."""
    save_settings(store, account, {KEY: state})


def _taking_part(account: Labeler) -> Account:
    if state_of(account) != "agreed":
        raise HTTPException(403, "read what this page shows first, and say that you want to take part")
    return account


Attacker = Annotated[Account, Depends(_taking_part)]
