"""Figures that others have published of real data sets, and what the functions of this package make of the same files.

    python benchmarks/published.py DATA

DATA is a folder with the sets under the names below, each as its authors publish it. The status is 1 where a figure is
not the published one to its last digit. Of what cannot be computed again, as the votes or models are not published,
nothing is said here.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from concordant.evaluation.redteam.files import read_requests
from concordant.evaluation.win_rates import Duels, win_rate
from concordant.feedback.exchange.importing import import_votes
from concordant.feedback.reading.agreement import cohen_kappa
from concordant.feedback.reading.standing import standing
from concordant.feedback.store import Store


@dataclass(frozen=True)
class Figure:
    """A published figure, as it is printed, and the same computed here."""

    what: str
    published: str
    ours: float
    source: str

    @property
    def told(self) -> str:
        """Ours with as many digits."""
        return f"{self.ours:.{len(self.published.partition('.')[2])}f}"


def _json(file: Path) -> Any:
    text = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)


VERDICTS = {"Tie": 0, "garbage": 0}  # a reply that could not be read counts as a tie
JUDGES = {
    "PandaLM-7B": (
        "pandalm-7b-testset-v1.json",
        "pandalm_result",
        ("0.6677", "0.5738", "0.5750", "0.5743"),
    ),
    "gpt-3.5-turbo": (
        "gpt-3.5-turbo-testset-v1.json",
        "gpt_result",
        ("0.7107", "0.5879", "0.5736", "0.5755"),
    ),
}


def pandalm(folder: Path) -> Iterator[Figure]:
    """Three people and two judges on 999 pairs; 0 is a tie."""
    source = "PandaLM, README and arXiv:2306.05087v1"
    rows = _json(folder / "testset-v1.json")
    labels = np.array([[row[f"annotator{k}"] for k in (1, 2, 3)] for row in rows], dtype=float)
    for (a, b), published in (((0, 1), "0.85"), ((0, 2), "0.88"), ((1, 2), "0.86")):
        kappa = cohen_kappa(labels[:, a].astype(int), labels[:, b].astype(int))
        yield Figure(f"Cohen's kappa of people {a + 1} and {b + 1}", published, kappa, source)
    with TemporaryDirectory() as scratch, Store.open(Path(scratch) / "votes.sqlite") as store:
        import_votes(store, str(folder / "testset-v1.json"))
        kappas = sorted(kappa for _, _, kappa, _ in standing(store).cohen)
    for kappa, published in zip(kappas, ("0.85", "0.86", "0.88"), strict=True):
        yield Figure("the same from a store that imported them", published, kappa, source)
    most = np.array([Counter(row.tolist()).most_common(1)[0][0] for row in labels])
    for value, published in ((0, "105"), (1, "422"), (2, "472")):
        yield Figure(f"pairs whose majority says {value}", published, float((most == value).sum()), source)
    for judge, (file, key, published) in JUDGES.items():
        said = {row["idx"]: float(VERDICTS.get(row[key], row[key])) for row in _json(folder / file)}
        figures = _judged(np.array([said[row["idx"]] for row in rows]), most)
        for name, value, told in zip(
            ("accuracy", "precision", "recall", "F1"), figures, published, strict=True
        ):
            yield Figure(f"{name} of the judge {judge}", told, value, source)


def _judged(judge: np.ndarray, truth: np.ndarray) -> tuple[float, float, float, float]:
    """Accuracy, and means over the three answers of precision, recall and F1."""
    rows = []
    for value in (0, 1, 2):
        right = float(((judge == value) & (truth == value)).sum())
        precision, recall = right / (judge == value).sum(), right / (truth == value).sum()
        rows.append((precision, recall, 2 * precision * recall / (precision + recall)))
    return (float((judge == truth).mean()), *np.mean(rows, axis=0).tolist())


def vicuna(folder: Path) -> Iterator[Figure]:
    """GPT-4's marks for ChatGPT and Vicuna-13B on 80 questions."""
    source = "Vicuna, lmsys.org/blog/2023-03-30-vicuna"
    rows = _json(folder / "review_gpt35_vicuna-13b.jsonl")
    marks = np.array(
        [json.loads(row["score"]) if isinstance(row["score"], str) else row["score"] for row in rows]
    )
    values = 0.5 + 0.5 * np.sign(marks[:, 1] - marks[:, 0])
    asked = tuple(row["question_id"] for row in rows)
    found = win_rate(Duels("gpt-4", "chatgpt", "vicuna-13b", asked, values, np.zeros(len(rows))))
    assert found is not None
    totals = marks.sum(axis=0)
    yield Figure("marks of ChatGPT, all questions", "693.0", float(totals[0]), source)
    yield Figure("marks of Vicuna-13B", "638.0", float(totals[1]), source)
    yield Figure("Vicuna's share of ChatGPT's marks, %", "92", float(100 * totals[1] / totals[0]), source)
    better = 100 * (found.wins + found.ties) / found.n
    yield Figure("questions on which Vicuna is better or as good, %", "45", better, source)


def hhh(folder: Path) -> Iterator[Figure]:
    """Pairs of the HHH alignment set by what they are about."""
    source = "Askell et al. 2021, arXiv:2112.00861, as BIG-bench has it"
    counts = Counter(row["source"] for row in _json(folder / "hhh_alignment_eval.json"))
    for name, published in (("helpful", "59"), ("honest", "61"), ("harmless", "58"), ("other", "43")):
        yield Figure(f"pairs: {name}", published, counts[name], source)


def redteam_sets(folder: Path) -> Iterator[Figure]:
    """What the loaders of the red team make of two files."""
    requests = read_requests(str(folder / "xstest" / "xstest_prompts.csv"))
    source = "Röttger et al. 2023, arXiv:2308.01263"
    harmless = sum(one.harmless for one in requests)
    yield Figure("XSTest: safe prompts", "250", harmless, source)
    yield Figure("XSTest: unsafe contrasts", "200", len(requests) - harmless, source)
    behaviours = read_requests(str(folder / "harmbench" / "harmbench_behaviors_text_all.csv"))
    source = "Mazeika et al. 2024, arXiv:2402.04249"
    yield Figure("HarmBench: textual behaviours", "400", len(behaviours), source)


def davidson(folder: Path) -> Iterator[Figure]:
    """Tweets by what most people called them."""
    source = "labels of the file, Davidson et al. 2017, arXiv:1703.04009"
    with (folder / "labeled_data.csv").open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    votes = np.array(
        [[int(row[name]) for name in ("hate_speech", "offensive_language", "neither")] for row in rows]
    )
    counts = np.bincount(votes.argmax(axis=1), minlength=3)
    for name, count, published in zip(
        ("hate", "offensive", "neither"), counts, ("1430", "19190", "4163"), strict=True
    ):
        yield Figure(f"tweets whose majority says {name}", published, float(count), source)


SETS: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "pandalm-testset": pandalm,
    "vicuna-eval": vicuna,
    "hhh-alignment": hhh,
    "": redteam_sets,
    "davidson-offensive": davidson,
}


def main(words: Sequence[str]) -> int:
    """Print a row for each figure; 1 if one is another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the sets")
    data = parser.parse_args(words).data
    print("| figure | published | ours | source |\n|---|--:|--:|---|")
    alike = True
    for name, figures in SETS.items():
        for figure in figures(data / name):
            same = figure.told == figure.published
            alike = alike and same
            print(
                f"| {figure.what} | {figure.published} | {figure.told}{'' if same else ' ≠'} | {figure.source} |"
            )
    return 0 if alike else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
