"""What a pilot, a small study of the same arms, measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib import forecast
from wcse_lib.intervals import Estimate
from wcse_lib.plan.identity import refuse_other
from wcse_lib.store import StudyError, is_complete, read_json, read_parquet
from wcse_lib.study import (
    Amounts,
    PilotFacts,
    Run,
    Study,
    pilot_study,
)

REMEDY = "python -m wcse_lib.pipeline <the study's file> --until 01_plan draws the pilot first"
OTHERS_REMEDY = (
    "run that study to 03_verify, name another in pilot.folder, or leave it out to draw a pilot"
)
MANY = 1000  # samples: what they leave unsolved is as good as never solved
MEASURED = ("tokens_per_sample", "prompt_tokens", "seconds_per_sample", "judge")


@dataclass(frozen=True)
class PilotCounts:
    """What the pilot counted of one arm.

    `counts`: by problem_id, n samples and c correct ones. `first`: the same of those samples whose number was fixed
    beforehand (of an even pilot all) and, where every correct one was judged, s sound ones. `groups`: per problem the
    sizes of its groups of equal correct solutions. Means are per sample drawn; `judge` is what judging costs per sample
    drawn, by unit, where a model judged all correct ones.

    An adaptive pilot draws more of problems that are unsolved: of its counts the likelihood of rates is as ever, and
    every mean over samples is biased. So false positives, lengths and what judging costs are of `first`.
    """

    counts: pd.DataFrame
    first: pd.DataFrame
    groups: list[list[int]]
    n_false: int
    n_judged: int
    tokens_per_sample: float | None
    prompt_tokens: float | None
    seconds_per_sample: float | None
    judge: dict[str, float] | None
    spent: Amounts

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """n and c, a number per problem each."""
        return _pair(self.counts, "c")

    @property
    def sound(self) -> tuple[np.ndarray, np.ndarray] | None:
        """n and s of `first`, as soundness had no part in what else was drawn; None where some correct samples were not
        judged."""
        return _pair(self.first, "s") if "s" in self.first else None

    @property
    def pass_at_1(self) -> float:
        n, c = _pair(self.first, "c")
        return float((c / n).mean())

    @property
    def false(self) -> tuple[int, int]:
        return self.n_false, self.n_judged

    def measured(self) -> dict:
        """Those facts of an arm that the pilot measured."""
        values = {key: getattr(self, key) for key in MEASURED}
        return {key: value for key, value in values.items() if value is not None}


def _pair(counts: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    return counts["n"].to_numpy(), counts[column].to_numpy()


def read_pilot(folder: Path, study: Study) -> dict[str, PilotCounts]:
    """Every arm's pilot, from a finished study's 02 and 03. Raises StudyError when it is missing or drawn otherwise."""
    plan_file = folder / "01_plan" / "plan.json"
    is_own = not study.pilot.folder
    remedy = REMEDY if is_own else OTHERS_REMEDY
    if not plan_file.exists():
        raise StudyError(f"{folder}: the pilot is not there; {remedy}")
    run = Run(folder)
    if is_own:
        refuse_other(plan_file, pilot_study(study))
    counts = {}
    for name, arm in study.plain_arms.items():
        _check_finished(run, name, arm.model, remedy)
        counts[name] = _read_arm(run, name, study.curation.unique)
    return counts


def _check_finished(run: Run, name: str, model: str, remedy: str) -> None:
    there = run.arm(name).model
    if there != model:
        raise StudyError(f"{run.folder}: the pilot's {name} is {there!r}, not {model!r}")
    for stage in ("02", "03"):
        if not is_complete(run.path(stage, name), run.plan_id):
            raise StudyError(f"{run.path(stage, name)}: the pilot is not complete; {remedy}")


def _read_arm(run: Run, name: str, unique: str) -> PilotCounts:
    arm = run.arm(name)
    rows = read_parquet(run.path("03", name, "judged.parquet"))
    rows = run.rows_of_budget(rows, name, arm.largest_budget, draw=0)
    rule = run.study.rule_of(name)
    n_first = rule.first if rule else arm.samples[arm.largest_budget]

    verified = rows[rows["verdict"] != "unverifiable"]
    verified = verified.assign(correct=verified["verdict"] == "correct")
    if verified["problem_id"].nunique() < 2:
        raise StudyError(
            f"{run.path('03', name)}: the pilot has verdicts on fewer than two problems; "
            "enlarge pilot.n_problems"
        )
    right = verified[verified["correct"]]
    counts = _counted(verified)

    # Of what follows only the samples whose number was fixed beforehand.
    first = _counted(verified[verified["sample_index"] < n_first])
    first_right = right[right["sample_index"] < n_first]
    judged = first_right[first_right["is_judged"]]
    unsound = judged[judged["sound"].isin([False])]
    if len(judged) == len(first_right):  # then sound ones are counted, and need not be estimated
        n_unsound = unsound.groupby("problem_id").size().reindex(first.index, fill_value=0)
        first["s"] = first["c"] - n_unsound
    drawn = rows[rows["finish_reason"] != "error"]
    first_drawn = drawn[drawn["sample_index"] < n_first]
    n_tokens = _mean_known(first_drawn["n_tokens"])
    if n_tokens == 0:
        raise StudyError(
            f"arms.{name}: its {len(first_drawn)} pilot samples hold no token at all; "
            "check prompt and sampling.stop"
        )

    manifest = read_json(run.path("02", name, "manifest.json"))
    spent = Amounts(
        tokens=float(drawn["n_tokens"].clip(lower=0).sum()),
        prompt_tokens=float(drawn["n_prompt_tokens"].clip(lower=0).sum()),
        seconds=float(manifest.get("seconds") or 0),
        usd=float(drawn["usd"].sum()),
    )
    return PilotCounts(
        counts=counts,
        first=first,
        groups=_groups(right, counts.index, unique),
        n_false=len(unsound),
        n_judged=len(judged),
        tokens_per_sample=n_tokens,
        prompt_tokens=_mean_known(first_drawn["n_prompt_tokens"]),
        seconds_per_sample=manifest.get("seconds_per_sample"),
        judge=_cost_of_judging(run, name, len(right), len(first_right) / len(first_drawn)),
        spent=spent,
    )


def _counted(verified: pd.DataFrame) -> pd.DataFrame:
    """n and c by problem_id."""
    counts = verified.groupby("problem_id", sort=True)["correct"].agg(n="size", c="sum")
    return counts.astype(int)


def _mean_known(counts: pd.Series) -> float | None:
    """The mean of token counts; None where one of them is unknown (below 0)."""
    known = len(counts) > 0 and (counts >= 0).all()
    return float(counts.mean()) if known else None


def _groups(right: pd.DataFrame, problems: pd.Index, unique: str) -> list[list[int]]:
    """Per problem the sizes of its groups of correct samples that count as the same solution."""
    kind = "text" if unique == "none" else unique
    sizes = right.groupby(["problem_id", f"same_{kind}"]).size()
    of_problem = sizes.groupby(level=0).agg(list)
    return [of_problem.get(problem, []) for problem in problems]


def _cost_of_judging(run: Run, name: str, n_right: int, rate: float) -> dict[str, float] | None:
    """What judging costs per sample drawn, of which `rate` are correct and judged."""
    path = run.path("03", name, "judge.json")
    asked = run.study.verification.model_judge
    if not (asked and n_right and path.exists()) or asked.n_per_arm:
        return None
    cost = read_json(path)
    return {unit: cost[unit] / n_right * rate for unit in ("flops", "usd") if cost.get(unit)}


def joined(pilot: dict[str, PilotCounts]) -> tuple[dict[str, tuple], dict[str, tuple]]:
    """(n, c) of every arm over the problems that all of them have, in one order; and the same of `first`."""
    common = sorted(set.intersection(*(set(arm.first.index) for arm in pilot.values())))
    if len(common) < 2:
        raise StudyError("pilot: its arms have no two problems in common, and a mix needs them")
    pairs = {name: _pair(arm.counts.loc[common], "c") for name, arm in pilot.items()}
    first = {name: _pair(arm.first.loc[common], "c") for name, arm in pilot.items()}
    return pairs, first


def facts_of(arm: PilotCounts, flops_per_token: float | None) -> PilotFacts:
    """What the plan keeps of an arm's pilot."""
    n, _ = arm.pair
    flops = (flops_per_token or 0.0) * arm.spent.tokens
    return PilotFacts(
        n_problems=len(n),
        n_samples=int(n.sum()),
        pass_at_1=arm.pass_at_1,
        n_false=arm.n_false,
        n_judged=arm.n_judged,
        never_solved=unsolved_at_last(arm).value,
        spent=arm.spent.model_copy(update={"flops": flops}),
    )


def unsolved_at_last(arm: PilotCounts) -> Estimate:
    """The share of problems that MANY samples would not solve."""
    expected = forecast.forecast_coverage(*arm.pair, [MANY]).iloc[0]
    shares = (1 - expected[["value", "high", "low"]]).astype(float)
    return Estimate(*shares, unit="%")


def curves(pilot: dict[str, PilotCounts], k_most: int) -> pd.DataFrame:
    """Expected coverage of every arm after k = 1 … `k_most` samples: arm, k, value, low, high, least, most."""
    ks = np.unique(np.geomspace(1, k_most, 60).round(1))
    each = []
    for name, arm in pilot.items():
        expected = forecast.forecast_coverage(*arm.pair, ks)
        each.append(forecast.with_bounds(expected, *arm.pair).assign(arm=name))
    return pd.concat(each, ignore_index=True)


def correlation(pilot: dict[str, PilotCounts]) -> float:
    """How much the first two arms solve the same problems of the pilot (0/1 outcomes); 0.5 where that cannot be
    told."""
    pairs, _ = joined(pilot)
    solved = [c > 0 for _, c in pairs.values()][:2]
    varies = all(0 < of_arm.mean() < 1 for of_arm in solved)
    if len(solved) < 2 or not varies:
        return 0.5
    return float(np.clip(np.corrcoef(solved)[0, 1], 0, 0.95))
