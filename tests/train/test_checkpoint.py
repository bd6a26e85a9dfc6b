"""Checkpoints: whole or not at all, tensors as safetensors, the rest as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from concordant.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "a": shared,
        "the same storage": shared.T,
        "step": torch.tensor(7.0),
        "half": torch.tensor([0.1], dtype=torch.bfloat16),
        "none": torch.empty(0),
        "trained": torch.nn.Parameter(torch.ones(2)),
    }
    facts = {"step": 3, "controller": {"coef": 0.1 + 0.2}, "none": None, "list": [1, 2]}
    save_checkpoint(tmp_path / "state", Checkpoint(tensors, facts))
    found = load_checkpoint(tmp_path / "state")
    assert found is not None
    assert found.facts == facts
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensors[name].detach()) for name in tensors)
    assert all(found.tensors[name].dtype == tensors[name].dtype for name in tensors)
    assert sorted(file.suffix for file in (tmp_path / "state").iterdir()) == [".json", ".safetensors"]


def test_a_checkpoint_replaces_the_former_as_a_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "state", Checkpoint({"old": torch.ones(1)}, {"step": 1, "old": True}))
    (tmp_path / "state" / "left over").write_text("from before")
    save_checkpoint(tmp_path / "state", Checkpoint({"new": torch.zeros(1)}, {"step": 2}))
    found = load_checkpoint(tmp_path / "state")
    assert found is not None
    assert (set(found.tensors), found.facts) == ({"new"}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert len(list((tmp_path / "state").iterdir())) == 2


def test_a_checkpoint_that_fails_leaves_the_former_as_it_was(tmp_path: Path) -> None:
    """old_checkpoint_deleted_after_new_is_complete: https://github.com/verl-project/verl/issues/4873"""
    save_checkpoint(tmp_path / "state", Checkpoint({"a": torch.ones(1)}, {"step": 1}))
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "state", Checkpoint({"a": torch.zeros(1)}, {"step": object()}))
    found = load_checkpoint(tmp_path / "state")
    assert found is not None
    assert found.facts == {"step": 1}
    assert found.tensors["a"].item() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "state") is None
    (tmp_path / "state").mkdir()
    assert load_checkpoint(tmp_path / "state") is None
    (tmp_path / "state.partial").mkdir()  # a run killed while it wrote its first checkpoint
    (tmp_path / "state.partial" / "facts.json").write_text("{")
    assert load_checkpoint(tmp_path / "state") is None
    save_checkpoint(tmp_path / "state", Checkpoint({"a": torch.ones(1)}, {"step": 1}))
    assert load_checkpoint(tmp_path / "state") is not None
