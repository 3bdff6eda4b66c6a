"""False-positive rates: judgements added up by problem, with intervals, and corrected for a model's own errors."""

from __future__ import annotations

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


def corrected_rate(flagged, sensitivity, specificity, seed=0) -> intervals.Estimate:
    """False-positive rate behind an imperfect judge with its 95 % interval, Rogan & Gladen 1978.

    Args: pairs of counts [problems], all of the same problems: `flagged` = (judged flawed, all samples), `sensitivity`
    = (flagged, all) of truly flawed calibration samples, `specificity` = (passed, all) of truly sound ones. value =
    (flagged rate + specificity - 1) / (sensitivity + specificity - 1), kept in [0, 1], NaN when the judge is no better
    than chance on the calibration sample. The interval holds percentiles of draws of all three rates over problems, so
    it carries the calibration sample's uncertainty; a draw without information is uniform. Raises ValueError on
    impossible counts.
    """
    counts = {"flagged": flagged, "sensitivity": sensitivity, "specificity": specificity}
    rates = []
    for name, (part, whole) in counts.items():
        k, m = np.sum(part), np.sum(whole)
        is_possible = np.less_equal(0, part) & np.less_equal(part, whole)
        if m <= 0 or not is_possible.all():
            raise ValueError(
                f"{name} must be counts with 0 <= k <= m and some m > 0, got {k} of {m}"
            )
        rates.append(k / m)
    value = float(_behind_errors(np.array(rates)))

    # a draw in which the judge is no better than chance says nothing: it may be anything
    draws = _behind_errors(intervals.rate_draws(counts.values(), seed=seed))
    anything = np.random.default_rng([seed, 1]).random(len(draws))
    draws = np.where(np.isnan(draws), anything, draws)
    low, high = np.quantile(draws, [0.025, 0.975])
    # a value that was cut may lie at the end
    return intervals.Estimate(value, float(np.fmin(low, value)), float(np.fmax(high, value)))


def _behind_errors(rates: np.ndarray) -> np.ndarray:
    """The true rate [...] behind flagged rates, sensitivities and specificities [..., 3]; NaN without information."""
    flagged, sensitivity, specificity = np.moveaxis(rates, -1, 0)
    information = sensitivity + specificity - 1
    information = np.where(information > 0, information, np.nan)
    return np.clip((flagged + specificity - 1) / information, 0, 1)


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


def corrected_table(sums: pd.DataFrame, seed=0) -> pd.DataFrame:
    """The model judge's rate corrected for its errors on those samples that people, or the exact judge, decided too.

    Args: rows of `calibration`. Columns: as of `false_positive_table`. The interval carries both errors; the rate is
    NaN where no sample shows how often the model misses a flaw, or how often it finds a false one, and there is none
    where nobody else decided any of the model's samples.
    """
    rows = []
    for (author, corrected_by), part in sums.groupby(["author", "corrected_by"], sort=True):
        part = part.groupby("problem_id").sum(numeric_only=True)
        n = part.sum()
        if n["flawed"] + n["sound"] == 0:
            continue
        rate = [np.nan] * 3
        if n["flawed"] and n["sound"]:
            flagged = part["n_false"], part["n"]
            sensitivity = part["caught"], part["flawed"]
            specificity = part["passed"], part["sound"]
            rate = corrected_rate(flagged, sensitivity, specificity, seed)
        reading = f"the model flags {n['caught']} of {n['flawed']} flawed ones, "
        reading += f"passes {n['passed']} of {n['sound']} sound ones"
        counts = (n["n"], n["n_false"])
        rows.append((author, "model", corrected_by, *counts, *rate, n["n_undecided"], reading))
    return pd.DataFrame(rows, columns=COLUMNS)
