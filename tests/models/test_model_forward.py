"""Forward passes of padded rows give what the rows give alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from concordant.data.batches import Row, collate
from concordant.models.forward import completion_logits, hidden_states, positions, sequence_scores
from concordant.models.load import add_adapter, load_policy, new_reward_model
from tinies import ADAPTER, KINDS, MACHINE, PAD, STOPS, alone, disturb, random_rows, tiny_model


def score_alone(model: torch.nn.Module, row: Row) -> torch.Tensor:
    """The score at the last token of the row, from the parts of the model as transformers wrote them."""
    hidden = model.base_model(input_ids=torch.tensor([row.prompt + row.completion])).last_hidden_state
    return model.score(hidden[0, -1])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_do_not_depend_on_padding(kind: str, folders: dict[str, str]) -> None:
    """left_right_padding_equal_logits: https://github.com/huggingface/trl/issues/469"""
    model, rows = load_policy(folders[kind]), random_rows(9)
    logits, hidden = completion_logits(model, collate(rows, PAD), with_hidden=True)
    assert hidden is not None
    assert torch.allclose(model.lm_head(hidden), logits, atol=1e-5), (
        "values read the states the logits come from"
    )
    for b, row in enumerate(rows):
        expected = model(input_ids=torch.tensor([row.prompt + row.completion])).logits[0]
        width = len(row.completion)
        assert torch.allclose(logits[b, :width], expected[len(row.prompt) - 1 : -1], atol=1e-5)
        assert torch.allclose(completion_logits(model, alone(row))[0][0], logits[b, :width], atol=1e-5)


def test_logits_are_computed_for_the_completion_only(folders: dict[str, str]) -> None:
    model, widths = load_policy(folders["llama"]), []
    model.lm_head.register_forward_pre_hook(lambda _module, given: widths.append(given[0].shape[1]))
    completion_logits(model, collate([Row((5,) * 20, (6, 7))], PAD))
    assert widths == [3]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_do_not_depend_on_batch_and_padding(kind: str, folders: dict[str, str]) -> None:
    """score_invariant_to_batch_and_padding: https://github.com/allenai/reward-bench/issues/137"""
    model, rows = new_reward_model(folders[kind], pad_id=PAD, seed=1), random_rows(9)
    batch = collate(rows, PAD)
    scores = sequence_scores(model, batch)
    assert scores.shape == (9,)
    assert scores.dtype == torch.float32
    for row, score in zip(rows, scores, strict=True):
        assert torch.allclose(score, score_alone(model, row), atol=1e-5)
    batch = collate(rows[3:5], STOPS[0])  # another pad token, another width
    assert torch.allclose(sequence_scores(model, batch), scores[3:5], atol=1e-5)


def test_the_score_is_read_at_the_last_completion_token_even_where_that_is_a_pad_token(
    folders: dict[str, str],
) -> None:
    """score_on_last_completion_token: https://github.com/huggingface/trl/issues/3750
    pad_in_prompt_does_not_move_score: https://github.com/huggingface/trl/issues/6952
    """
    model = new_reward_model(folders["llama"], pad_id=PAD, seed=1)
    rows = [Row((5, 6), (7, PAD)), Row((PAD, 5), (7,)), Row((5,), (7, 8, 9, 10))]
    batch = collate(rows, PAD)
    scores = sequence_scores(model, batch)
    for row, score in zip(rows, scores, strict=True):
        assert torch.allclose(score, score_alone(model, row), atol=1e-5)
    shorter = replace(rows[0], completion=(7,))
    assert not torch.allclose(scores[0], score_alone(model, shorter), atol=1e-3)


def test_scores_keep_single_precision_under_autocast(folders: dict[str, str]) -> None:
    """Two scores that differ in their third digit are not a tie, whatever the matrix products are computed in."""
    model = new_reward_model(folders["llama"], pad_id=PAD, seed=1)
    batch = collate(random_rows(30), PAD)
    machine = replace(MACHINE, precision=torch.bfloat16)
    with machine.autocast():
        scores = sequence_scores(model, batch)
        hidden = hidden_states(model, batch)
    expected = (hidden[torch.arange(30), batch.last_B].float() @ model.score.weight.T)[:, 0]
    assert torch.allclose(scores, expected, atol=1e-6)


def test_positions_count_from_the_first_token() -> None:
    attention = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)
    assert positions(attention).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]]


def test_padding_gives_no_nan(folders: dict[str, str]) -> None:
    """A pad column may attend to nothing at all; its states must be finite, gradients as well."""
    for kind in KINDS:
        model = load_policy(folders[kind])
        logits, _ = completion_logits(model, collate([Row((5,) * 9, (6,)), Row((5,), (6,) * 9)], PAD))
        logits.square().sum().backward()
        assert torch.isfinite(logits).all()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_off_in_loaded_models(kind: str, tmp_path: object) -> None:
    """dropout_off_when_scoring: https://github.com/verl-project/verl/issues/4708"""
    dropout = {"resid_pdrop": 0.5, "embd_pdrop": 0.5} if kind == "gpt2" else {"attention_dropout": 0.5}
    tiny_model(kind, **dropout).save_pretrained(tmp_path)
    batch = collate(random_rows(4), PAD)
    for model in (load_policy(str(tmp_path)), new_reward_model(str(tmp_path), pad_id=PAD, seed=0)):
        assert torch.equal(hidden_states(model, batch), hidden_states(model, batch))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_off_with_an_adapter(kind: str, tmp_path: object) -> None:
    """dropout_off_when_scoring: https://github.com/axolotl-ai-cloud/axolotl/issues/3806,
    https://github.com/axolotl-ai-cloud/axolotl/issues/2655
    """
    dropout = {"resid_pdrop": 0.5, "embd_pdrop": 0.5} if kind == "gpt2" else {"attention_dropout": 0.5}
    tiny_model(kind, **dropout).save_pretrained(tmp_path)
    batch = collate(random_rows(4), PAD)
    for model in (load_policy(str(tmp_path)), new_reward_model(str(tmp_path), pad_id=PAD, seed=0)):
        adapted = add_adapter(model, ADAPTER, 0)
        disturb(adapted)
        assert torch.equal(hidden_states(adapted, batch), hidden_states(adapted, batch))
        assert not any(module.training for module in adapted.modules())
