"""False-positive rates: judgements added up by problem, with intervals, and corrected for a model's own errors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wcse_lib import intervals
from wcse_lib.verdicts import decided

SAID = ["n", "n_false", "n_undecided", "caught", "flawed", "passed", "sound"]
COLUMNS = ["author", "judge", "n", "n_false", "value", "low", "high", "n_undecided", "reading"]
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
    for name, (k, m) in counts.items():
        if not (np.sum(m) > 0 and (np.less_equal(0, k) & np.less_equal(k, m)).all()):
            raise ValueError(
                f"{name} must be counts with 0 <= k <= m and some m > 0, got {np.sum(k)} of {np.sum(m)}"
            )
    q, se, sp = (np.sum(k) / np.sum(m) for k, m in counts.values())
    value = min(max((q + sp - 1) / (se + sp - 1), 0.0), 1.0) if se + sp > 1 else float("nan")
    q, se, sp = intervals.rate_draws(counts.values(), seed=seed).T
    informed = se + sp - 1 > 0
    draws = np.where(
        informed,
        (q + sp - 1) / np.where(informed, se + sp - 1, 1),
        np.random.default_rng([seed, 1]).random(len(q)),
    )
    low, high = np.quantile(np.clip(draws, 0, 1), [0.025, 0.975])
    return intervals.Estimate(
        value, float(np.fmin(low, value)), float(np.fmax(high, value))
    )  # a cut value may lie at the end


def by_problem(judgements: pd.DataFrame) -> pd.DataFrame:
    """Judgements added up by author, judge and problem: `n` decided, `n_false`, `n_undecided`, a `reason` of one of these.

    Args: rows of author, problem_id, sample_index, sound (bool or None), judge, reason. Raises ValueError on a repeated
    judgement.
    """
    keys, undecided = ["author", "problem_id", "sample_index", "judge"], judgements["sound"].isna()
    if judgements.duplicated(keys).any():
        raise ValueError(
            f"repeated judgement {judgements.loc[judgements.duplicated(keys), keys].values[0].tolist()}"
        )
    flags = {
        "n": decided(judgements),
        "n_false": judgements["sound"].isin([False]),
        "n_undecided": undecided,
    }
    groups = judgements.assign(**flags, reason=judgements["reason"].where(undecided)).groupby(
        ["author", "judge", "problem_id"], sort=False
    )
    return groups[[*flags]].sum().astype(int).assign(reason=groups["reason"].first()).reset_index()


def false_positive_table(sums: pd.DataFrame, seed=0) -> pd.DataFrame:
    """False-positive rate by author and judge from rows of `by_problem`, with intervals over problems, as samples of one
    problem share their faults. Returns COLUMNS, where `reading` says how to take the rate."""
    rows = []
    for (author, judge), part in sums.groupby(["author", "judge"], sort=True):
        n, n_false, n_undecided = map(int, part[["n", "n_false", "n_undecided"]].sum())
        reading = (
            READINGS.get(judge, "as this judge says")
            if n
            else f"nothing decided; {part['reason'].dropna().iloc[0]}"
        )
        rate = intervals.ratio(part["n_false"], part["n"], seed=seed, clusters=part["problem_id"])
        rows.append((author, judge, n, n_false, *rate, n_undecided, reading))
    return pd.DataFrame(rows, columns=COLUMNS)


def calibration(judgements: pd.DataFrame) -> pd.DataFrame:
    """What the model said, as `by_problem`, once beside the exact judge and once beside people: of the samples that both
    decided, those that truly are `flawed` and `caught` by the model, `sound` and `passed`."""
    key, out = ["author", "problem_id", "sample_index"], []
    for judge in ("exact", "human"):
        truth = judgements.loc[judgements["judge"] == judge, [*key, "sound"]]
        both = judgements[judgements["judge"] == "model"].merge(
            truth, on=key, how="left", suffixes=("", "_truly")
        )
        (passed, flagged), (sound, flawed) = (
            [both[c].isin([x]) for x in (True, False)] for c in ("sound", "sound_truly")
        )
        known = passed | flagged
        said = dict(
            zip(
                SAID,
                (
                    known,
                    flagged,
                    ~known,
                    flawed & flagged,
                    flawed & known,
                    sound & passed,
                    sound & known,
                ),
            )
        )
        sums = both[key[:2]].assign(**said).groupby(key[:2])[SAID].sum().astype(int)
        out.append(sums.reset_index().assign(judge=f"model, corrected by {judge}"))
    return pd.concat(out, ignore_index=True)


def corrected_table(sums: pd.DataFrame, seed=0) -> pd.DataFrame:
    """The model judge's rate corrected for its errors on those samples that people, or the exact judge, decided too.

    Args: rows of `calibration`. Columns: as of `false_positive_table`, the judge being "model, corrected by
    human". The interval carries both errors; the rate is NaN where no sample shows how often the model misses a flaw,
    or how often it finds a false one, and there is none where nobody else decided any of the model's samples.
    """
    rows = []
    for (author, judge), part in sums.groupby(["author", "judge"], sort=True):
        part = part.groupby("problem_id")[SAID].sum()
        n, n_false, n_undecided, caught, flawed, passed, sound = map(int, part.sum())
        if flawed + sound:
            pairs = [
                (part[k], part[m])
                for k, m in (("n_false", "n"), ("caught", "flawed"), ("passed", "sound"))
            ]
            rate = corrected_rate(*pairs, seed) if flawed and sound else (float("nan"),) * 3
            reading = f"the model flags {caught} of {flawed} flawed ones, passes {passed} of {sound} sound ones"
            rows.append((author, judge, n, n_false, *rate, n_undecided, reading))
    return pd.DataFrame(rows, columns=COLUMNS)
