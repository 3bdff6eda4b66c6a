"""From a params file to a draft of the plan; what is not here is an error, or, in a dry run, a gap."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from wcse_lib.budget import (
    Spend,
    adaptive_arm,
    check_tokenizer,
    describe,
    held_arm,
    match_arms,
    mixed_arm,
)
from wcse_lib.plan.expected import best_shares, matching_curves
from wcse_lib.plan.meaning import ByMeaning, Counted, open_meaning
from wcse_lib.plan.on_policy import check_shared_tokens
from wcse_lib.plan.pilot import PilotCounts, read_pilot
from wcse_lib.plan.problems import check_splits, load_problems
from wcse_lib.plan.students import list_students
from wcse_lib.plan.trial import authors, try_author
from wcse_lib.sample import load_tokenizer, samples_in_file
from wcse_lib.store import StudyError
from wcse_lib.study import (
    AdaptiveArm,
    ImportedArm,
    Machine,
    MeaningFacts,
    MixedArm,
    ModelFacts,
    PlannedArm,
    PlannedStudent,
    Study,
    TriedPrompts,
    pilot_folder,
    resolve_model,
    shares_of,
)

SPLITS = ("train", "validation", "held_out")
EXPECTED = (StudyError, ValueError, OSError, ImportError)  # of what merely is not here
FETCHED = "not on this machine; fetched from the hub when it runs"


class TooFewImported(StudyError):
    """A file of samples that holds fewer than the training seeds' own draws need."""


class Gaps:
    """What the planner could not find. A strict planner (01) raises at the first gap; a dry run collects them."""

    def __init__(self, strict: bool):
        self.strict = strict
        self.missing: list[str] = []  # a run would stop for want of these
        self.fetched: list[str] = []  # a run would fetch these by itself

    @contextlib.contextmanager
    def allowed(
        self, sentence: Callable[[Exception], str], is_fetched: bool = False
    ) -> Iterator[None]:
        """Around a step whose failure is a gap; `sentence` says what is missing, or fetched when it runs."""
        try:
            yield
        except EXPECTED as error:
            if self.strict:
                raise
            (self.fetched if is_fetched else self.missing).append(sentence(error))


@dataclass
class Draft:
    """What the planner decided; in a dry run `splits`, `spend` or single arms may be missing."""

    study: Study
    splits: dict[str, pd.DataFrame] = field(default_factory=dict)
    dropped: list[dict] = field(default_factory=list)
    meaning: MeaningFacts | None = None
    counted: Counted | None = None  # what a dry run would compare by meaning
    prompts: dict[str, TriedPrompts] = field(default_factory=dict)
    known: dict[str, ModelFacts] = field(default_factory=dict)
    # of imported arms: samples of every training problem in the file
    in_file: dict[str, pd.Series] = field(default_factory=dict)
    pilot: dict[str, PilotCounts] = field(default_factory=dict)
    arms: dict[str, PlannedArm] = field(default_factory=dict)
    spend: Spend | None = None
    unmatched: str = ""  # why a dry run could not match the arms
    students: dict[str, PlannedStudent] = field(default_factory=dict)

    @property
    def n_problems(self) -> dict[str, int]:
        return {split: len(self.splits[split]) for split in SPLITS if split in self.splits}

    def shares(self, name: str, budget_name: str) -> dict[str, float]:
        """Samples of a problem at a budget, by the arm whose model draws them."""
        return shares_of(self.arms[name], name, budget_name)

    @property
    def dropped_problems(self) -> dict[str, int]:
        """Problems left out, counted by split and reason."""
        return dict(Counter(f"{row['split']}: {row['reason']}" for row in self.dropped))


def draft_plan(
    study: Study,
    outputs: str | Path,
    gaps: Gaps,
    machine: Machine | None = None,
    tell: Callable[[str], object] = str,
) -> Draft:
    """Check models and data, match the budgets, read the pilot and list the students; writes nothing.

    Args: machine: where vectors of problems are made, if the study wants them; a dry run makes none. tell: is told the
    name of each step when it begins.
    Raises StudyError, where the gaps are strict, for missing models, prices, lengths or pilots and unusable data.
    """
    draft = Draft(study)
    tell("models")
    for name in study.plain_arms:
        with gaps.allowed(lambda error, name=name: _of_arm(name, error)):
            draft.known[name] = describe(study, name)
    if not gaps.strict:
        _look_for_tokenizers(study, gaps)
    tell("problems and copies")
    with gaps.allowed(lambda error: _missing_problems(study, error), _is_on_hub(study)):
        by_meaning = open_meaning(study, machine or Machine(), is_dry=not gaps.strict)
        draft.splits, draft.dropped = load_problems(
            study.dataset, study.seed, study.verification, by_meaning
        )
        if isinstance(by_meaning, ByMeaning):
            draft.meaning = by_meaning.facts
        else:
            draft.counted = by_meaning
        if study.students:
            check_splits(study, draft.splits)
    problems = draft.splits.get("train", pd.DataFrame(columns=["problem_id", "question"]))
    # 02 stops for lost samples, of which a dry run warns
    most_lost = 1.0 if gaps.strict else study.sampling.max_failed_share
    for name, arm in study.arms.items():
        if isinstance(arm, ImportedArm):
            with gaps.allowed(lambda error, name=name: _of_arm(name, error, ".path")):
                match = study.budget.match
                draft.in_file[name] = samples_in_file(name, arm, problems, most_lost, match)
    tell("prompts")
    try_prompts(draft, gaps)
    tell("pilot")
    if study.pilot:
        draft.pilot = _read_pilot(study, outputs, gaps)
        for name, counts in draft.pilot.items():
            draft.known[name] = draft.known[name].model_copy(update=counts.measured())
    tell("budgets")
    if gaps.strict:
        draft.arms, draft.spend = _plan_arms(draft)
    elif _can_be_matched(draft):
        try:
            draft.arms, draft.spend = _plan_arms(draft)
        except TooFewImported as error:
            gaps.missing.append(str(error))
            draft.unmatched = "its file holds too few samples"
        except StudyError as error:
            draft.unmatched = short(error)
            if not study.pilot:  # which tells lengths and times
                gaps.missing.append(draft.unmatched)
    return draft


def _read_pilot(study: Study, outputs: str | Path, gaps: Gaps) -> dict[str, PilotCounts]:
    """The pilot's counts; none in a dry run before it. A pilot's folder that the params file names has to be there."""
    try:
        return read_pilot(pilot_folder(study, outputs), study)
    except StudyError as error:
        if gaps.strict:
            raise
        if study.pilot.folder:
            gaps.missing.append(f"pilot.folder: {short(error)}")
        return {}


def _look_for_tokenizers(study: Study, gaps: Gaps) -> None:
    """What counts an import's tokens is a folder that holds a tokenizer, or is fetched; those of other models are tried
    with prompts."""
    for arm in study.plain_arms.values():
        if not isinstance(arm, ImportedArm) or not arm.tokenizer:
            continue
        with gaps.allowed(lambda error, model=arm.tokenizer: f"model {model}: {short(error)}"):
            model = resolve_model(arm.tokenizer)
            check_tokenizer(model)
            if not Path(model).is_dir():
                _look_in_cache(model, gaps)


def _look_in_cache(hub_id: str, gaps: Gaps) -> None:
    with gaps.allowed(lambda error: f"tokenizer of {hub_id}: {FETCHED}", is_fetched=True):
        load_tokenizer(hub_id, may_fetch=False)


def try_study(study: Study) -> None:
    """Show the study's local models its prompts, all that is tried before a pilot. Raises StudyError."""
    splits, _ = load_problems(study.dataset, study.seed, study.verification)
    try_prompts(Draft(study, splits), Gaps(strict=True))


def try_prompts(draft: Draft, gaps: Gaps) -> None:
    """Show every local model its prompts; see `trial`. A dry run fetches nothing for it."""
    for author in authors(draft.study, draft.splits):
        with gaps.allowed(lambda error: " ".join(str(error).split())):
            draft.prompts[author.key] = try_author(author, may_fetch=gaps.strict)
    with gaps.allowed(lambda error: " ".join(str(error).split())):
        check_shared_tokens(draft.study, may_fetch=gaps.strict)


def _can_be_matched(draft: Draft) -> bool:
    """Whether a dry run knows enough to match the arms; what the pilot measures is not known before it."""
    arms, match = draft.study.arms.values(), draft.study.budget.match
    mixes = [arm.mix for arm in arms if isinstance(arm, MixedArm)]
    if not draft.pilot and (match in ("examples", "coverage") or "best" in mixes):
        return False
    return set(draft.study.plain_arms) <= set(draft.known)


def _plan_arms(draft: Draft) -> tuple[dict[str, PlannedArm], Spend]:
    study = draft.study
    n_problems = draft.n_problems.get("train", 1)
    curves = matching_curves(study, draft.pilot) if draft.pilot else None
    plain, spend = match_arms(study, draft.known, n_problems, curves)
    for name, n_in_file in draft.in_file.items():
        if len(n_in_file):
            _check_own_draws(study, name, plain[name].samples, n_in_file)
            plain[name] = held_arm(study, name, plain[name], n_in_file, draft.known)
    arms: dict[str, PlannedArm] = {}
    for name, arm in study.sampled_arms.items():
        if isinstance(arm, MixedArm):
            shares = _shares(draft, arm, spend)
            in_file = draft.in_file
            arms[name] = mixed_arm(study, name, plain, spend, shares, n_problems, in_file)
        elif isinstance(arm, AdaptiveArm):
            arms[name] = adaptive_arm(study, name, plain)
        else:
            arms[name] = plain[name]
    return arms, spend


def _check_own_draws(
    study: Study, name: str, samples: Mapping[str, int], n_in_file: pd.Series
) -> None:
    """An imported arm's file holds as many samples as all draws need. Raises StudyError where it does not."""
    n_needed = study.n_draws * max(samples.values())
    n_short = int((n_in_file < n_needed).sum())
    if study.n_draws > 1 and n_short:
        raise TooFewImported(
            f"arms.{name}.path: {n_short} of {len(n_in_file)} training problems have fewer than the {n_needed} samples "
            f"that {study.n_draws} training seeds need, each with {n_needed // study.n_draws} of its own; import more, "
            "or set training.draws: shared to let all seeds learn from the same"
        )


def _shares(draft: Draft, arm: MixedArm, spend: Spend) -> dict[str, float]:
    if arm.mix != "best":
        return arm.mix
    return best_shares(spend, draft.pilot, draft.study.budget.largest)


def add_students(draft: Draft, sizes: dict | None = None) -> None:
    """List the draft's students. Raises StudyError for a training that cannot be."""
    n_parameters: dict[str, float | None] = dict.fromkeys(draft.study.plain_arms)
    for name, facts in draft.known.items():
        n_parameters[name] = facts.n_parameters
    draft.students = list_students(draft.study, n_parameters, sizes)


def _is_on_hub(study: Study) -> bool:
    return study.dataset.name == "hub" and not Path(study.dataset.path).is_dir()


def _missing_problems(study: Study, error: Exception) -> str:
    if _is_on_hub(study):
        return f"dataset {study.dataset.path}: {FETCHED}"
    return f"problems: {short(error)}"


def _of_arm(name: str, error: Exception, key: str = "") -> str:
    """An error of an arm, with the arm's key where the error does not name it itself."""
    text = short(error)
    is_named = text.startswith((f"arms.{name}.", f"arms.{name}:"))
    return text if is_named else f"arms.{name}{key}: {text}"


def short(error: Exception) -> str:
    """An error's message on one line of bounded length."""
    return " ".join(str(error).split())[:220] or type(error).__name__
