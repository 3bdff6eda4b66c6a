"""Rows of the tables of stopping: how many held-out answers were cut, and who is right among those that ended.

A base that never stops is wrong everywhere, and then any data that end help. What a student gained beyond stopping
shows only among problems that it and its base both ended an answer to. That conditions on both having ended one: on
problems that are short or easy for the base, of which the others say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from wcse_lib import intervals
from wcse_lib.analyze.students import UNTRAINED, HeldOutScores, described, luck_of
from wcse_lib.analyze.tables import of_estimate
from wcse_lib.analyze.words import HELD_OUT, Ending
from wcse_lib.luck import SeedLuck, nested
from wcse_lib.store import parts, query
from wcse_lib.study import MAIN, Run

Rows = Iterator[dict]
Endings = dict[str, dict[str, pd.DataFrame]]  # by student and decoding: a row per held-out problem
DECODINGS = ("greedy", "sampled")
OF_DIFFERENCES = (-1.0, 1.0)  # their range


def read_endings(run: Run) -> Endings:
    """Of every student's verified held-out samples, by problem in the order of the ids: `n`, `n_cut` (at
    evaluation.max_tokens), `n_right`, and `n_right_ended` of those not cut."""
    found = {}
    for student in run.plan.students:
        found[student] = {}
        for decoding in DECODINGS:
            samples = parts(run.path("05", student, decoding))
            if samples:
                found[student][decoding] = query(
                    """SELECT problem_id, count(*) AS n,
                        count(*) FILTER (finish_reason = 'length') AS n_cut,
                        count(*) FILTER (verdict = 'correct') AS n_right,
                        count(*) FILTER (verdict = 'correct' AND finish_reason <> 'length') AS n_right_ended
                    FROM samples JOIN verdicts USING (author, problem_id, sample_index)
                    GROUP BY problem_id ORDER BY problem_id""",
                    samples=samples,
                    verdicts=run.path("05", student, f"verdicts-{decoding}.parquet"),
                )
    return found


def endings(run: Run, found: Endings) -> Rows:
    """Of every student the share of its held-out answers that were cut, and its accuracy among those that ended."""
    is_wanted = _is_held_out(run)
    for student, by_decoding in found.items():
        for decoding, counts in by_decoding.items():
            counts = counts[is_wanted]
            facts = described(run, student) | {"decoding": decoding}
            n_ended = counts["n"] - counts["n_cut"]
            pairs = {
                Ending.CUT: (counts["n_cut"], counts["n"]),
                Ending.OF_ENDED: (counts["n_right_ended"], n_ended),
            }
            for quantity, (numerators, denominators) in pairs.items():
                if denominators.sum():
                    estimate = intervals.ratio(numerators, denominators, seed=run.study.seed)
                    n_problems = int((denominators > 0).sum())
                    row = {"quantity": quantity, "n_answers": int(denominators.sum())}
                    yield facts | row | {"n_problems": n_problems} | of_estimate(estimate)


def stopping(run: Run, tested: HeldOutScores, found: Endings) -> Rows:
    """Students (main recipe and controls) minus their untouched base: accuracy, share cut, accuracy of ended answers.

    Only where an answer of theirs was cut. The last is about the problems to which both ended an answer, with any
    training seed, and there is no such row where there are none: `n_problems` says how many. Intervals count training
    luck as those of `differences` do; that of the last is taken to be accuracy's.
    """
    is_wanted = _is_held_out(run)
    for decoding in DECODINGS:
        counts = {s: by[decoding][is_wanted] for s, by in found.items() if decoding in by}
        shares = {student: _shares(table) for student, table in counts.items()}
        was_cut = {student for student, table in counts.items() if table["n_cut"].any()}
        groups = {key: names for key, names in tested.groups.items() if counts.keys() >= {*names}}
        ended = HeldOutScores(shares, {}, groups, np.full(is_wanted.sum(), HELD_OUT))
        luck = _luck_of_endings(run, ended)
        for (base, group), students in groups.items():
            is_shown = group != UNTRAINED and group.recipe in (None, MAIN)
            if not is_shown or (base, UNTRAINED) not in groups:
                continue
            (untouched,) = groups[base, UNTRAINED]
            if was_cut.isdisjoint([untouched, *students]):
                continue
            facts = {"base": base, "taught_by": group.taught_by, "budget": group.budget}
            for quantity in Ending:
                by_seed = [shares[s][quantity] - shares[untouched][quantity] for s in students]
                of_mean = luck[quantity].times(1 / len(students))
                estimate = _difference(np.column_stack(by_seed), of_mean, run.study.seed)
                if estimate.n:
                    row = {"decoding": decoding, "quantity": quantity, "n_problems": estimate.n}
                    yield facts | row | of_estimate(estimate)


def _luck_of_endings(run: Run, ended: HeldOutScores) -> dict[Ending, SeedLuck]:
    """The luck of a single base's student; of ended answers, which are not the same problems for all, accuracy's."""
    any_base = [next(iter(run.study.students))]  # it is pooled over the bases
    luck = {}
    for quantity in (Ending.ACCURACY, Ending.CUT):
        luck[quantity] = luck_of(run, ended, any_base, quantity, HELD_OUT)
    return luck | {Ending.OF_ENDED: luck[Ending.ACCURACY]}


def _shares(counts: pd.DataFrame) -> dict[Ending, np.ndarray]:
    """A student's rate on every problem, [n]; of ended answers NaN where none ended."""
    n, n_ended = counts["n"].to_numpy(float), (counts["n"] - counts["n_cut"]).to_numpy(float)
    n_ended[n_ended == 0] = np.nan
    return {
        Ending.ACCURACY: counts["n_right"].to_numpy() / n,
        Ending.CUT: counts["n_cut"].to_numpy() / n,
        Ending.OF_ENDED: counts["n_right_ended"].to_numpy() / n_ended,
    }


def _difference(by_seed: np.ndarray, luck: SeedLuck, seed: int) -> intervals.Estimate:
    """The mean of differences [problem, seed] over the problems that have one, with how many these are as n."""
    is_known = ~np.isnan(by_seed)
    n_seeds = is_known.sum(1)
    means = np.nansum(by_seed, axis=1)[n_seeds > 0] / n_seeds[n_seeds > 0]
    if not len(means):
        return intervals.Estimate(np.nan, *OF_DIFFERENCES, n=0)
    return replace(nested(means, luck, seed=seed, bounds=OF_DIFFERENCES), n=len(means))


def _is_held_out(run: Run) -> np.ndarray:
    """Of every held-out problem, in the order of the ids, whether it is of no transfer set.

    Of all of them: unverifiable answers, for which `HeldOutScores` leaves problems out, end or are cut like others.
    """
    return run.sets().sort_index().to_numpy() == HELD_OUT
