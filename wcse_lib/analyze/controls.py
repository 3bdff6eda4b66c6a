"""What the control students say: whether the study saw a planted fault, and what was gained by stopping alone."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pandas as pd

from wcse_lib.analyze.words import Ending, join_words
from wcse_lib.intervals import Estimate
from wcse_lib.verdicts import PRIMARY_METRIC

AT = ["base", "taught_by", "budget"]
ESTIMATE = ["value", "low", "high", "n_problems"]


class Learnt(StrEnum):
    """What a student that gained over its base learnt, where it stops more often than the base: column `learnt`."""

    MORE = "more than stopping"
    STOPPING = "only stopping"
    UNKNOWN = "not known"


def controls_hold(tables: dict[str, pd.DataFrame]) -> list[str]:
    """For which bases the study saw the planted fault, as sentences; none where no fault was planted."""
    rows = planted_faults(tables)
    seen = rows[rows["is_seen"]]
    sentences = []
    if len(seen):
        sentences.append(f"This study saw a planted fault of {_by_base(seen)}.")
    return [*sentences, *unseen_faults(tables)]


def unseen_faults(tables: dict[str, pd.DataFrame]) -> list[str]:
    """For which bases the study could not see the planted fault, as a sentence; none where it saw it."""
    rows = planted_faults(tables)
    unseen = rows[~rows["is_seen"]]
    if unseen.empty:
        return []
    bases = join_words(list(unseen["base"]))
    return [
        f"This study could not see a planted fault for {bases}: a null result there says nothing"
        f" (the fault cost {_by_base(unseen)})."
    ]


def planted_faults(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows `arm_minus_planted` of `controls` in greedy pass@1, one for each base, with `is_seen`.

    A fault is seen where the interval of arm minus planted lies above zero, by the rule that finds a difference between
    arms. Each base is judged by itself, so that their number needs no correction.
    """
    if "controls" not in tables:
        return pd.DataFrame(columns=["base", "value", "low", "high", "is_seen"])
    rows = PRIMARY_METRIC.rows(tables["controls"])
    rows = rows[rows["comparison"] == "arm_minus_planted"]
    return rows.assign(is_seen=rows["low"] > 0)


def _by_base(rows: pd.DataFrame) -> str:
    words = []
    for row in rows.itertuples():
        fault = Estimate(row.value, row.low, row.high, unit="points")
        text = fault.text(signed=False, interval=" ({low} to {high})")
        words.append(f"{text} for {row.base}")
    return join_words(words)


def gains_by_stopping(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Students whose gain over their base may be stopping: AT, differences of `stopping` by quantity, and `learnt`.

    These are groups that gained (greedy, interval above zero) and whose answers are cut less often than their base's by
    at least half of the gain: less could not make up most of it. They learnt more than stopping where they are better
    (interval above zero) at problems to which both ended an answer; only stopping where they are at most half as much
    better there as in all; and else it is not known. Columns such as `accuracy_low`; NaN where no answer of both ended.
    """
    if "stopping" not in tables:
        return pd.DataFrame(columns=[*AT, "learnt"])
    greedy = tables["stopping"][tables["stopping"]["decoding"] == PRIMARY_METRIC.decoding]
    wide = greedy.fillna({"budget": ""}).pivot(index=AT, columns="quantity", values=ESTIMATE)
    wide.columns = [f"{quantity}_{column}" for column, quantity in wide.columns]
    every = [f"{quantity}_{column}" for column in ESTIMATE for quantity in Ending]
    wide = wide.reindex(columns=every).reset_index()

    gained = wide["accuracy_low"] > 0
    stops_more = wide["cut_share_high"] < 0
    could_be_it = -wide["cut_share_value"] >= wide["accuracy_value"] / 2
    wide = wide[gained & stops_more & could_be_it]
    is_better = wide["accuracy_of_ended_low"] > 0
    is_hardly = wide["accuracy_of_ended_high"] < wide["accuracy_value"] / 2
    cases = [is_better, is_hardly]
    return wide.assign(learnt=np.select(cases, [Learnt.MORE, Learnt.STOPPING], Learnt.UNKNOWN))


def stopping_sentences(tables: dict[str, pd.DataFrame]) -> list[str]:
    """A sentence for each student whose gain over its base is stopping, or may be."""
    sentences = []
    for row in gains_by_stopping(tables).itertuples():
        taught_by = f"{row.taught_by} at {row.budget}" if row.budget else row.taught_by
        student = f"{row.base}'s student of {taught_by}"
        gain = Estimate(row.accuracy_value, row.accuracy_low, row.accuracy_high, unit="points")
        if row.learnt == Learnt.MORE:
            continue
        if row.learnt == Learnt.STOPPING:
            start = f"Only stopping was learnt by {student}"
        else:
            start = f"Whether {student} learnt more than to stop is not known"
        ended = "there is no problem to which both ended an answer"
        if row.accuracy_of_ended_n_problems > 0:
            ended = _among_ended(row)
        sentences.append(f"{start}: it gained {gain.text(signed=False, interval='')} and {ended}.")
    return sentences


def _among_ended(row) -> str:
    among = Estimate(
        row.accuracy_of_ended_value,
        row.accuracy_of_ended_low,
        row.accuracy_of_ended_high,
        unit="points",
    )
    return (
        f"among the {row.accuracy_of_ended_n_problems:.0f} problems to which it and its base ended an answer"
        f" {among.text(interval=' ({low} to {high})')}"
    )
