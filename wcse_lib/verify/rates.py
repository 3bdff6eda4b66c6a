"""False-positive rates: judgements added up by problem, with intervals, and corrected for a model's own errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import intervals
from wcse_lib.store import KEY
from wcse_lib.verdicts import decided

COLUMNS = [
    "author",
    "judge",
    "corrected_by",  # the judge by whose judgements the rate was corrected; "" where it is raw
    "n",
    "n_false",
    "value",
    "low",
    "high",
    "n_undecided",
    "reading",
]
READINGS = {
    "exact": "certain",
    "arithmetic": "a lower bound: only wrong sums",
    "model": "uncorrected for its own errors",
}


def corrected_rate(flagged, of_flagged, of_passed) -> intervals.Estimate:
    """False-positive rate from a judge's verdicts on many samples and the truth of some, with its 95 % interval.

    Args: pairs of counts [problems], all of the same problems: `flagged` = (judged flawed, all judged), `of_flagged` =
    (truly flawed, all) of flagged samples with a label, `of_passed` = the same of passed ones. The labelled samples are
    drawn at random among the flagged, and at random among the passed, in any proportion. value = flagged rate · flawed
    share of flagged + passed rate · flawed share of passed: each labelled sample weighted by the inverse of its chance
    to be drawn, which for a judge that says yes or no is prediction-powered inference with its best weight (PPI++,
    Angelopoulos et al. 2023). The variance is that of its influence function added up by problem, so that it carries
    both samples and their clusters; half a made-up sample at each end of either share keeps it honest where few
    labels are. Interval: `intervals.share_with_variance`. NaN where samples of a kind were judged and none labelled, or
    fewer than two problems were. Raises ValueError on impossible counts.
    """
    counts = {"flagged": flagged, "of_flagged": of_flagged, "of_passed": of_passed}
    for name, (part, whole) in counts.items():
        if not (np.less_equal(0, part) & np.less_equal(part, whole)).all():
            raise ValueError(f"{name} must be counts with 0 <= k <= m, got {part} of {whole}")
    n_flagged, n = (np.asarray(column, float) for column in flagged)
    if n.sum() <= 0:
        raise ValueError(
            f"flagged must be counts with some m > 0, got {flagged[0]} of {flagged[1]}"
        )
    n_labelled = np.add(of_flagged[1], of_passed[1])
    n_problems = int((n_labelled > 0).sum())
    share_flagged = n_flagged.sum() / n.sum()
    strata = []
    for part, (n_flawed, n_known) in ((share_flagged, of_flagged), (1 - share_flagged, of_passed)):
        strata.append(_Stratum(part, np.asarray(n_flawed, float), np.asarray(n_known, float)))
    is_unknown = any(stratum.part > 0 and stratum.n == 0 for stratum in strata)
    if is_unknown or n_problems < 2:
        return intervals.Estimate(np.nan, np.nan, np.nan)
    in_flagged, in_passed = strata
    value = in_flagged.part * in_flagged.rate + in_passed.part * in_passed.rate

    # what each problem adds to the error: by how many of its samples are flagged, and by its labels
    by_verdict = n_flagged * (in_flagged.rate - in_passed.rate) + n * (in_passed.rate - value)
    errors = by_verdict / n.sum() + in_flagged.errors + in_passed.errors
    variance = (errors**2).sum() * len(n) / (len(n) - 1)
    variance += in_flagged.unseen_variance + in_passed.unseen_variance
    careful = in_flagged.part * in_flagged.careful_rate + in_passed.part * in_passed.careful_rate
    return intervals.share_with_variance(value, variance, careful, n_problems - 1)


class _Stratum(NamedTuple):
    """Samples that a judge flags, or passes: which part they are of all, and by problem [problems] how many of them
    have a label and are flawed."""

    part: float
    n_flawed: np.ndarray
    n_known: np.ndarray

    @property
    def n(self) -> float:
        return self.n_known.sum()

    @property
    def rate(self) -> float:
        """Flawed share of the labelled; 0 without labels, where the part is 0."""
        return self.n_flawed.sum() / max(self.n, 1)

    @property
    def careful_rate(self) -> float:
        """The same with half a flawed and half a sound sample more."""
        return (self.n_flawed.sum() + 0.5) / (self.n + 1)

    @property
    def errors(self) -> np.ndarray:
        """What each problem's labels [problems] add to the error of the whole rate."""
        return self.part * (self.n_flawed - self.n_known * self.rate) / max(self.n, 1)

    @property
    def unseen_variance(self) -> float:
        """The variance that few labels of one kind hide: that of the careful rate above that of the plain one."""
        spread = self.careful_rate * (1 - self.careful_rate) - self.rate * (1 - self.rate)
        return max(0.0, self.part**2 * spread / max(self.n, 1))


def by_problem(judgements: pd.DataFrame) -> pd.DataFrame:
    """Judgements added up by author, judge and problem: `n` decided, `n_false`, `n_undecided`, a `reason` of these.

    Args: rows of KEY columns, sound (bool or None), judge, reason. Raises ValueError on a repeated judgement.
    """
    keys = [*KEY, "judge"]
    is_repeated = judgements.duplicated(keys)
    if is_repeated.any():
        first = judgements.loc[is_repeated, keys].iloc[0].tolist()
        raise ValueError(f"repeated judgement {first}")
    rows = judgements[["author", "judge", "problem_id"]].copy()
    rows["n"] = decided(judgements)
    rows["n_false"] = judgements["sound"].isin([False])
    rows["n_undecided"] = judgements["sound"].isna()
    rows["reason"] = judgements["reason"].where(rows["n_undecided"])
    groups = rows.groupby(["author", "judge", "problem_id"], sort=False)
    sums = groups[["n", "n_false", "n_undecided"]].sum().astype(int)
    return sums.assign(reason=groups["reason"].first()).reset_index()


def false_positive_table(sums: pd.DataFrame, seed=0) -> pd.DataFrame:
    """False-positive rate by author and judge from rows of `by_problem`.

    The intervals are over problems, as samples of one problem share their faults. Returns COLUMNS, where `reading` says
    how to take the rate.
    """
    rows = []
    for (author, judge), part in sums.groupby(["author", "judge"], sort=True):
        n, n_false, n_undecided = map(int, part[["n", "n_false", "n_undecided"]].sum())
        reading = READINGS.get(judge, "as this judge says")
        if n == 0:
            reading = f"nothing decided; {part['reason'].dropna().iloc[0]}"
        rate = intervals.ratio(part["n_false"], part["n"], seed=seed, clusters=part["problem_id"])
        rows.append((author, judge, "", n, n_false, *rate, n_undecided, reading))
    return pd.DataFrame(rows, columns=COLUMNS)


def calibration(judgements: pd.DataFrame) -> pd.DataFrame:
    """The model's judgements added up by problem, once beside the exact judge and once beside people (`corrected_by`).

    Args: as of `by_problem`. Returns its counts, and of the samples that both decided: those that truly are `flawed`
    and of these the `caught` ones, those that are `sound` and of these the `passed` ones.
    """
    by_model = judgements[judgements["judge"] == "model"]
    parts = []
    for judge in ("exact", "human"):
        truth = judgements.loc[judgements["judge"] == judge, [*KEY, "sound"]]
        both = by_model.merge(truth, on=KEY, how="left", suffixes=("", "_truly"))
        is_passed, is_flagged = both["sound"].isin([True]), both["sound"].isin([False])
        is_sound, is_flawed = both["sound_truly"].isin([True]), both["sound_truly"].isin([False])
        rows = both[["author", "problem_id"]].copy()
        rows["n"] = is_passed | is_flagged
        rows["n_false"] = is_flagged
        rows["n_undecided"] = ~rows["n"]
        rows["caught"], rows["flawed"] = is_flawed & is_flagged, is_flawed & rows["n"]
        rows["passed"], rows["sound"] = is_sound & is_passed, is_sound & rows["n"]
        sums = rows.groupby(["author", "problem_id"]).sum().astype(int).reset_index()
        parts.append(sums.assign(corrected_by=judge))
    return pd.concat(parts, ignore_index=True)


def without_drawn_rate(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the rate of people's own labels where a model judged these samples too.

    The panel shows more of what the model flags than there is, so that the share of flawed ones among the labels is no
    rate of the arm: the model's rate corrected by people is, which weighs them. Their counts stay.
    """
    by_people = table["judge"] == "human"
    authors = table.loc[table["corrected_by"] == "human", "author"]
    is_weighed = by_people & table["author"].isin(authors)
    table = table.copy()
    table.loc[is_weighed, ["value", "low", "high"]] = np.nan
    table.loc[is_weighed, "reading"] = "drawn by the model's verdicts; see the model's, corrected"
    return table


def corrected_table(sums: pd.DataFrame) -> pd.DataFrame:
    """The model judge's rate corrected for its errors on those samples that people, or the exact judge, decided too.

    Args: rows of `calibration`. Columns: as of `false_positive_table`; see `corrected_rate`. The rate is NaN where the
    others decided none of the samples that the model flags, or none that it passes, and there is no row where they
    decided none at all.
    """
    rows = []
    for (author, corrected_by), part in sums.groupby(["author", "corrected_by"], sort=True):
        part = part.groupby("problem_id").sum(numeric_only=True)
        n = part.sum()
        if n["flawed"] + n["sound"] == 0:
            continue
        missed = part["flawed"] - part["caught"]
        of_flagged = part["caught"], part["caught"] + part["sound"] - part["passed"]
        of_passed = missed, missed + part["passed"]
        rate = corrected_rate((part["n_false"], part["n"]), of_flagged, of_passed)
        reading = f"the model flags {n['caught']} of {n['flawed']} flawed ones, "
        reading += f"passes {n['passed']} of {n['sound']} sound ones"
        counts = (n["n"], n["n_false"])
        rows.append((author, "model", corrected_by, *counts, *rate, n["n_undecided"], reading))
    return pd.DataFrame(rows, columns=COLUMNS)
