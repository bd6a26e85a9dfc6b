"""Small tasks of lm-evaluation-harness, in the town's language, for the tests of several rooms."""

from __future__ import annotations

import json
from pathlib import Path

from concordant.worlds.phrases import COLORS, it_is
from concordant.worlds.town import Town

HEAD = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
metadata: {{version: 2.0}}
"""

CHOICE = """\
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: 0
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""

SAY = """\
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["."], max_gen_toks: 12, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""

ROLL = """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}} {{choices[0]}}"
metric_list:
  - {metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
"""


def task_folder(folder: Path, *, n: int = 12) -> Path:
    """A folder with the tasks `choice`, `say` and `roll` on `n` documents: what color things are in the town."""
    folder.mkdir(parents=True, exist_ok=True)
    town = Town(0)
    rows = []
    for number, prompt in enumerate(town.prompts(n, families=["fact"], rng=5)):
        true = town.truth[town.question(prompt).subject][0]
        others = [color for color in COLORS if color != true][number % 3 :][:2]
        choices = [it_is(color) for color in (true, *others)]
        rows.append({"question": prompt.text, "choices": choices})
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    for name, body in (("choice", CHOICE), ("say", SAY), ("roll", ROLL)):
        head = HEAD.format(name=name, rows=folder / "rows.jsonl")
        (folder / f"{name}.yaml").write_text(head + body, encoding="utf-8")
    return folder
