"""docs/regressions.md: every bug of the list, and no test that is not there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "regressions.md"
LINK = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+/issues/\d+")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

NAMES = (
    "loss_invariant_to_microbatching",
    "loss_invariant_to_world_size",
    "accumulation_keeps_all_gradients",
    "fully_masked_sequence_is_zero_not_nan",
    "nan_outside_mask_does_not_leak",
    "masked_tokens_not_in_mean",
    "agg_mode_reaches_critic_and_entropy",
    "whitening_uses_all_ranks_and_mask",
    "zero_variance_and_single_member_groups",
    "last_partial_accumulation_window",
    "first_step_ratio_is_one",
    "initial_kl_is_zero",
    "dropout_off_when_scoring",
    "logprobs_use_sampling_temperature",
    "values_not_scaled_by_temperature",
    "entropy_same_logits_as_policy",
    "truncated_sampling_refused_or_rescored",
    "logprob_of_sampled_token_fp32",
    "weight_fingerprint_matches_after_sync",
    "lora_adapter_sync_not_bf16_merge",
    "prefix_cache_reset_on_update",
    "no_retokenisation_between_turns",
    "sequence_ratio_sum_vs_mean",
    "correction_uses_old_not_new_logprobs",
    "gap_gate",
    "kl_estimators_match_exact",
    "kl_loss_gradient_is_reverse_kl",
    "kl_sign_and_mask",
    "adaptive_kl_sequence_level",
    "adaptive_kl_survives_resume",
    "reference_anchored_across_resume",
    "eos_trained_when_pad_is_eos",
    "no_double_bos",
    "score_on_last_completion_token",
    "missing_eos_looks_at_completion_and_stop_ids",
    "value_mask_shift",
    "gae_skips_tool_tokens",
    "left_right_padding_equal_logits",
    "packed_equals_unpacked",
    "sft_mask_off_by_one_and_eos_after_truncation",
    "truncation_never_rewrites_content",
    "score_zero_is_not_missing",
    "same_stop_and_length_in_train_and_eval",
    "score_invariant_to_batch_and_padding",
    "pad_in_prompt_does_not_move_score",
    "head_init_and_seed",
    "pairwise_loss_stable_at_large_gaps",
    "preference_golden_numbers",
    "reference_frozen_eval_same_dtype",
)


@cache
def docstrings(file: str) -> dict[str, str]:
    """Docstrings of the tests of a file, by name of the test."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {one.name: ast.get_docstring(one) or "" for one in found if one.name.startswith("test_")}


def table() -> dict[str, str]:
    """Rows of the page by the name in their first cell."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    return {row.split("`")[1]: row for row in rows}


def says(docstring: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", docstring) is not None


def test_the_page_has_every_name_once() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == list(NAMES)
    assert len(NAMES) == 49


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_says_of_a_bug_is_so(name: str) -> None:
    """A public report, and tests that exist and carry name and report; or the reason why there is none yet."""
    row = table()[name]
    reports = set(LINK.findall(row))
    assert reports
    held = TEST.findall(row)
    assert held or "not yet: " in row
    for file, test in held:
        assert (ROOT / file).is_file(), file
        assert test in docstrings(file), f"{file} has no {test}"
        assert says(docstrings(file)[test], name), f"{test} does not say {name}"
        assert reports & set(LINK.findall(docstrings(file)[test])), f"{test} has no report of {name}"


def test_the_page_names_every_test_that_names_a_bug() -> None:
    rows = table()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        file = path.relative_to(ROOT).as_posix()
        for test, docstring in docstrings(file).items():
            for name in NAMES:
                assert not says(docstring, name) or f"`{file}::{test}`" in rows[name], (
                    f"{name}: {file}::{test}"
                )
