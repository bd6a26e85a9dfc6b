"""From chats and votes to the rows that are learnt from: sampled ids as they are, answers whole, prompts trimmed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from concordant.data.batches import Example, Row
from concordant.data.template import Template, load_tokenizer
from concordant.data.types import Completion, Demonstration, Message, Preference, Prompt
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, prefer
from concordant.models.tiny import train_tokenizer
from concordant.pipeline.parts.demonstrations import demonstration_row
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.preferences import completion_ids, examples_of, split_preferences
from concordant.pipeline.reporter import Silent
from telling import tells

WORDS = "one two three four five six seven"
PROMPT = Prompt.user("one two three four")


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(train_tokenizer([WORDS]))


def fitted(
    template: Template, examples: list[Example], limit: int, overlong: str = "trim_prompt_left"
) -> Any:
    recipe = SimpleNamespace(data=SimpleNamespace(overlong=overlong))
    context: Any = SimpleNamespace(tokenizer=template.tokenizer, recipe=recipe, reporter=Silent())
    return fit_examples(context, examples, limit, what="rows")


def test_what_was_sampled_is_not_tokenised_again(template: Template) -> None:
    """no_retokenisation_between_turns: https://github.com/NVIDIA-NeMo/RL/issues/1337,
    https://github.com/thinking-machines-lab/tinker-cookbook/issues/247

    A completion cut at its limit gets no end it never had; where there is text alone, its ids are made once.
    """
    (five, six) = template.completion_ids(PROMPT.messages, "five six")[:2]
    cut = Completion(template.text((five, six)), tokens=(five, six))
    odd = Completion("five", tokens=(template.tokenizer.unk_token_id, five, template.end_id))
    (example,) = examples_of(template, [Preference(PROMPT, cut, odd)])
    assert [row.completion for row in example.rows] == [cut.tokens, odd.tokens]
    written = Completion(cut.text)
    assert completion_ids(template, PROMPT, written) == (five, six, template.end_id)


def test_votes_lead_back_to_the_tokens_that_were_sampled(finished: Path) -> None:
    """no_retokenisation_between_turns: https://github.com/NVIDIA-NeMo/RL/issues/1337"""
    template = Template(load_tokenizer(str(finished / "stages" / "02-sft" / "model")))
    with Store.open(finished / "feedback.sqlite") as store:
        votes = preferences(store)
    assert votes
    differ = 0
    for vote in votes:
        (example,) = examples_of(template, [vote])
        for row, completion in zip(example.rows, (vote.chosen, vote.rejected), strict=True):
            assert row.completion == completion.tokens
            assert template.text(row.completion) == completion.text
            differ += row.completion != tuple(template.completion_ids(vote.prompt.messages, completion.text))
    assert differ, "else this test could not tell"


@pytest.mark.parametrize("limit", [8, 9, 12, 40])
def test_an_overlong_chat_keeps_its_last_answer_to_the_end(limit: int, template: Template) -> None:
    """sft_mask_off_by_one_and_eos_after_truncation: https://github.com/verl-project/verl/issues/3287,
    https://github.com/CarperAI/trlx/issues/401
    """
    turns = (Message("user", "one two"), Message("assistant", "three"), Message("user", "four five"))
    row = demonstration_row(template, Demonstration(Prompt(turns), Completion("six seven")), limit)
    (example,) = fitted(template, [Example((row,))], limit)
    (short,) = example.rows
    assert short.length <= limit
    counted = [i for i, counts in zip(short.completion, short.loss_mask, strict=True) if counts]
    answers = ["three", "six seven"] if limit == 40 else ["six seven"]
    expected = [i for answer in answers for i in template.completion_ids(turns[:1], answer)]
    assert counted == expected
    assert (short.completion[-1], short.loss_mask[-1]) == (template.end_id, True)
    assert short.loss_mask[0], "the first token that counts is the first of an answer"
    assert row.prompt[len(row.prompt) - len(short.prompt) :] == short.prompt
    assert len(short.prompt) == len(row.prompt) or short.length == limit


@pytest.mark.parametrize("limit", [5, 7, 9])
def test_trimming_takes_from_the_prompt_and_rewrites_nothing(limit: int, template: Template) -> None:
    """truncation_never_rewrites_content: https://github.com/OpenRLHF/OpenRLHF/issues/1311,
    https://github.com/OpenRLHF/OpenRLHF/issues/238

    No answer loses a token or has its last one replaced by an end; what does not fit is left out as a whole.
    """
    ids = template.tokenizer(WORDS)["input_ids"]
    prompt = tuple(template.prompt_ids(PROMPT.messages))
    rows = (Row(prompt, tuple(ids[:3])), Row(prompt, (*ids[:2], template.end_id)))
    hopeless = Example((Row(prompt, (*ids, *ids)),))
    (example,) = fitted(template, [Example(rows), hopeless], limit)
    assert [row.completion for row in example.rows] == [row.completion for row in rows]
    assert {row.prompt for row in example.rows} == {prompt[len(prompt) - (limit - 3) :][-len(prompt) :]}


def test_rows_that_do_not_fit_are_told_with_their_lengths(template: Template) -> None:
    long = Example((Row(tuple(range(9)), (1, 2)),))
    with tells("1 of 1 rows are longer than 8 tokens", where="11", expected="overlong = 'error'", fix="drop"):
        fitted(template, [long], 8, "error")
    with tells("none of the 1 rows fit into 8", where="the longest 11", expected="room", fix="model.length"):
        fitted(template, [long], 8, "drop")


def test_votes_that_prefer_nothing_or_one_prompt_alone_are_nothing_to_learn_from(tmp_path: Path) -> None:
    def splitting(dimension: str | None = None) -> Any:
        feedback = SimpleNamespace(view="each", ties="drop", dimension=dimension)
        material = SimpleNamespace(validation=lambda _prompt: False)
        recipe = SimpleNamespace(feedback=feedback)
        return SimpleNamespace(store=tmp_path / "feedback.sqlite", recipe=recipe, material=material)

    with Store.open(tmp_path / "feedback.sqlite") as store:
        keys = store.add_completions([(PROMPT, Completion(text), {}, True) for text in ("five", "six")])
        store.create_tasks("pairwise", [keys])
        with tells(
            "no preferences", where="feedback.sqlite", expected="at least one vote", fix="data.preferences"
        ):
            split_preferences(splitting())
        lease = store.lease(store.add_labeler("ada", "human"))
        assert lease is not None
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(keys[0])))
    with tells("no preferences", expected="by feedback.dimension 'tone'"):
        split_preferences(splitting("tone"))
    with tells(
        "1 preferences for training and 0", where="data.validation", expected="some of each", fix="more"
    ):
        split_preferences(splitting())
