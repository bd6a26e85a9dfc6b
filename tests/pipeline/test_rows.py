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
from concordant.models.tiny import train_tokenizer
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.preferences import completion_ids, examples_of
from concordant.pipeline.reporter import Silent
from concordant.pipeline.stages.sft import demonstration_row

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
