"""The red team of a run: every attack on every stage's model, and a record of each sample.

What was sampled lies in a folder named by all that it depends on, so that the same command goes on where it stopped
and finds what it has finished; verdicts are given anew each time, out of what was sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from concordant.data.types import messages_from
from concordant.errors import UserError
from concordant.evaluation.intervals import Mean
from concordant.evaluation.redteam.attacks import Attack, AttackSet, Effort
from concordant.evaluation.redteam.english import english, harm
from concordant.evaluation.redteam.figures import Family, Record, by_family, changes
from concordant.evaluation.redteam.files import read_requests
from concordant.evaluation.redteam.judges import Errors, Judge, errors_of
from concordant.evaluation.redteam.requests import Request
from concordant.evaluation.redteam.scoring import OPEN, Fails, Verdict, verdict_of
from concordant.evaluation.redteam.town import in_town, town_fails
from concordant.feedback.reading.finds import Find, finds
from concordant.feedback.store import Store
from concordant.files import sha256_of, write_json, write_text
from concordant.models.load import load_policy
from concordant.pipeline.afterwards import (
    MODELS,
    answering,
    context_after,
    fingerprint_of_model,
    finished_stages,
)
from concordant.pipeline.context import Context, store_address
from concordant.pipeline.folder import StageFolder, json_line, read_json, read_jsonl
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.parts.model_judge import ModelJudge
from concordant.pipeline.parts.talks import Talks
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Reporter
from concordant.worlds.town import Town

REDTEAM_SCHEMA = 1
FOLDER = "redteam"  # of a run, beside its stages
FINDS = "finds"  # the set of attacks that people have found


@dataclass(frozen=True)
class Findings:
    """What came of it: the records of each stage, and the judge's errors where one was asked."""

    records: Mapping[str, Sequence[Record]]
    errors: Errors | None

    @property
    def families(self) -> dict[str, dict[str, Family]]:
        """Of each stage the figures of every family."""
        return {name: by_family(records, self.errors) for name, records in self.records.items()}

    @property
    def changes(self) -> dict[str, Mean]:
        """By family, how much more often attacks succeed on the last stage than on the first."""
        sides = list(self.records.values())
        return changes(sides[0], sides[-1]) if len(sides) > 1 else {}

    def as_dict(self) -> dict[str, Any]:
        """For `results.json` of the red team."""
        return {
            "stages": {
                stage: {name: family.as_dict() for name, family in families.items()}
                for stage, families in self.families.items()
            },
            "changes": {name: mean.as_dict() for name, mean in self.changes.items()},
            "judge_errors": self.errors.as_dict() if self.errors else None,
        }


def attack_set(
    recipe: Recipe, name: str = "", files: Sequence[str] = (), found: Sequence[Request] = ()
) -> AttackSet:
    """The attacks called `name` (town or english), or those that suit the recipe; `files` bring requests of their own.

    So does what people have `found`, in the language of the set. Look-alikes stand beside requests that have none.
    Errors: UserError for attacks of the town on a run that knows no town, and for files that are no requests.
    """
    if files:
        if name not in ("", "english"):
            raise UserError(
                "requests of a file are put into the attacks in English, whatever the set",
                where=f"--set {name}",
                expected="one of --set and --file",
                fix="leave out --set or --file",
            )
        brought = [*found, *(request for file in files for request in read_requests(file))]
        return english().on(_beside(harm(), brought), name=", ".join(Path(file).name for file in files))
    chosen = _set_called(name, _town_of(recipe))
    if found:
        return chosen.on(_beside(chosen.requests, found), name=FINDS)
    return chosen


def _set_called(name: str, town: Town | None) -> AttackSet:
    if (name or ("town" if town else "english")) == "english":
        return english()
    if town is None:
        raise UserError(
            "these attacks are in the language of the town, which this run does not know",
            where="--set town",
            expected="a run of the embedded world",
            fix="--set english",
        )
    return in_town(town)


def _beside(known: Sequence[Request], brought: Sequence[Request]) -> list[Request]:
    """What was brought, and where there are no look-alikes among it those of harm that are known."""
    if any(one.harmless for one in brought):
        return list(brought)
    return [*brought, *(one for one in known if one.harmless and one.kind == "harm")]


def found_by_people(recipe: Recipe, run_folder: Path) -> list[Request]:
    """What people have found in this run, each once, with the turns before it.

    Errors: UserError where that is nothing.
    """
    address = store_address(recipe, run_folder)
    found: list[Find] = []
    if not isinstance(address, Path) or address.is_file():
        with Store.open(address) as store:
            found = [one for one in finds(store) if one.new]
    if not found:
        raise UserError(
            "people have found nothing in this run",
            where=str(run_folder),
            expected="a report of theirs, of severity 1 or more",
            fix=f"concordant redteam {run_folder} --people",
        )
    return [
        Request(f"find-{one.id}", "harm", one.prompt.text, before=one.prompt.messages[:-1]) for one in found
    ]


def _town_of(recipe: Recipe) -> Town | None:
    return Town(recipe.seed) if recipe.world is not None and recipe.world.name == Town.name else None


def attack_stages(
    recipe: Recipe,
    run_folder: Path,
    stages: Sequence[str],
    chosen: AttackSet,
    effort: Effort,
    reporter: Reporter,
    *,
    judge: str = "",
    stop: StopRequest | None = None,
) -> Findings:
    """Attack the models of these stages; where none is named of SFT and policy, or else the base model.

    `judge` is the folder or hub name of a model that reads what rules leave open. Records go into a folder for each
    stage, figures into `redteam/results.json`. Errors: UserError for a stage that is not finished; Interrupted where
    `stop` asks for it, and the same call goes on from there.
    """
    attacks = chosen.attacks(effort.most)
    done = finished_stages(run_folder)
    asked = stages or _usual(recipe, done)
    prints = {name: fingerprint_of_model(recipe, run_folder, done, name) for name in asked}
    contexts = {}
    for name in sorted(prints, key=MODELS.index):
        fingerprint = _fingerprint(recipe, prints[name], chosen, attacks, effort)
        folder = StageFolder(run_folder / FOLDER / f"{name}-{fingerprint[:8]}")
        contexts[name] = context_after(
            recipe, run_folder, done, reporter, purpose=FOLDER, folder=folder, stop=stop
        )
        if folder.finished() is None:
            folder.begin(fingerprint)
            _sample(contexts[name], name, attacks, effort)
            folder.finish(fingerprint, {"model": prints[name], "set": chosen.name, "effort": asdict(effort)})
    findings = _judged(contexts, attacks, _gold_of(recipe, chosen), judge)
    for name, records in findings.records.items():
        _write(contexts[name].folder, records)
    samples = {name: f"{one.folder.path.name}/{one.folder.samples.name}" for name, one in contexts.items()}
    how = {"effort": asdict(effort), "judge": judge or None, "models": prints, "samples": samples}
    facts = {**how, **findings.as_dict()}
    _keep(run_folder / FOLDER / "results.json", chosen.name, facts)
    return findings


def _usual(recipe: Recipe, done: Mapping[str, StageFolder]) -> list[str]:
    """SFT and policy as far as they are finished, or else the base model."""
    return [name for name in answering(recipe, done) if name != "base"] or ["base"]


def _sample(context: Context, name: str, attacks: Sequence[Attack], effort: Effort) -> None:
    """Put every attack to the model of a stage."""
    model = load_policy(context.model_path(name)).to(context.machine.device)
    _write(context.folder, Talks(context, model, effort).held(name, attacks))


def _judged(
    contexts: Mapping[str, Context], attacks: Sequence[Attack], gold: Fails | None, judge: str
) -> Findings:
    """What was sampled, with every verdict that can be had."""
    records = {name: _scored(context.folder, attacks, gold) for name, context in contexts.items()}
    if not judge:
        return Findings(records, None)
    return Findings(*judged(ModelJudge(next(iter(contexts.values())), judge), records))


def _keep(file: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Put the figures of one set of attacks beside those of others."""
    before = (read_json(file) or {}).get("sets", {})
    write_json(file, {"schema": REDTEAM_SCHEMA, "sets": {**before, name: facts}})


def _fingerprint(
    recipe: Recipe, model: str, chosen: AttackSet, attacks: Sequence[Attack], effort: Effort
) -> str:
    """Digest of all that samples depend on."""
    first = [[one.id, one.request.text, one.asking.text, one.next(())] for one in attacks]
    return sha256_of([model, recipe.seed, asdict(effort), asdict(chosen.words), repr(first)])


def _gold_of(recipe: Recipe, chosen: AttackSet) -> Fails | None:
    """The truth about answers to the attacks of the town; None for those in English."""
    town = _town_of(recipe)
    if town is None or chosen.name != Town.name:
        return None
    return partial(town_fails, town)


def _write(folder: StageFolder, records: Sequence[Record]) -> None:
    write_text(folder.samples, "".join(json_line(record.as_row()) for record in records))


def _scored(folder: StageFolder, attacks: Sequence[Attack], gold: Fails | None) -> list[Record]:
    """What was sampled into a folder, with the verdicts that need no judge."""
    known = {one.id: one for one in attacks}
    found = []
    for row in read_jsonl(folder.samples):
        one, answers = known[row["attack"]], tuple(row["answers"])
        verdict = OPEN
        if answers:
            counted = one.counted(answers)
            verdict = verdict_of(one.request, answers, gold, counted=counted, opening=one.opening)
        messages = messages_from(row["messages"])
        found.append(Record(row["stage"], one, row["attempt"], messages, answers, verdict))
    return found


def judged(judge: Judge, records: Mapping[str, Sequence[Record]]) -> tuple[dict[str, list[Record]], Errors]:
    """The records with the judge's verdicts where there was none, and its errors on attacks whose outcome is exact."""
    rows = [record for of_stage in records.values() for record in of_stage if _for_judges(record)]
    said = dict(
        zip(map(id, rows), judge.failed([(r.attack.request, r.answers[-1]) for r in rows]), strict=True)
    )
    known = [(said[id(r)], r.verdict.failed) for r in rows if r.verdict.failed is not None]
    errors = errors_of((one, true) for one, true in known if one is not None and true is not None)

    def settled(record: Record) -> Record:
        verdict = said.get(id(record))
        if record.verdict.failed is not None or verdict is None:
            return record
        return replace(record, verdict=Verdict(verdict, "judge", len(record.answers) - 1))

    return {name: [settled(record) for record in of_stage] for name, of_stage in records.items()}, errors


def _for_judges(record: Record) -> bool:
    """Attacks without a verdict, and those of which the last answer has an exact one."""
    if not record.answers or record.attack.request.harmless:
        return False
    verdict = record.verdict
    last = verdict.answer == len(record.answers) - 1
    return verdict.failed is None or (verdict.by in ("canary", "gold") and last)
