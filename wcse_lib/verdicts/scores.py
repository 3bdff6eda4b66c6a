"""What a student's verdicts are worth on each held-out problem, by metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import metrics
from wcse_lib.answers import Policy, class_name, pooled
from wcse_lib.store import query
from wcse_lib.study import Verification

POOLED_AMONG = ["problem_id", "is_right"]  # only answers that are alike in these vote together
PIECE = 20_000  # samples whose answers are held at a time


class Metric(NamedTuple):
    """A measure of students: the columns `metric` (pass@k, maj@k), `decoding` (greedy, sampled) and `k`."""

    metric: str
    decoding: str
    k: int

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that hold this metric."""
        return table[table[list(self._fields)].eq(pd.Series(self._asdict())).all(axis=1)]


PRIMARY_METRIC = Metric("pass@k", "greedy", 1)  # what the answer of a study with students is about
SAMPLED = "sampled"  # the decoding of several answers a problem
SAMPLED_PASS_AT_1 = Metric("pass@k", SAMPLED, 1)
UNVERIFIABLE = "unverifiable"


def metric_words(metric: str, decoding: str, k: int) -> str:
    """A metric of students as people call it.

    >>> metric_words("pass@k", "greedy", 1), metric_words("maj@k", "sampled", 4)
    ('greedy pass@1', 'maj@4')
    """
    words = metric.replace("@k", f"@{k}")
    return f"{decoding} {words}" if words == "pass@1" else words


@dataclass(frozen=True)
class Scores:
    """By metric a student's score and its votes' tie rate, over held-out problems in the order of their ids.

    Unverifiable answers are left out, and a vote is then among those that are left. `is_known`: the problems that have
    an answer of either decoding left; scores of others are NaN. `bounds`, where any answer is unverifiable: by metric
    the scores of all problems if these are wrong, and if they are right.
    """

    scores: dict[Metric, np.ndarray]
    tie_rates: dict[Metric, np.ndarray]
    is_known: np.ndarray
    bounds: dict[Metric, tuple[np.ndarray, np.ndarray]]


def student_scores(folder: Path, maj_k: list[int], how: Verification | None = None) -> Scores:
    """The scores of the student whose verdicts, `greedy` and `sampled`, lie in `folder`.

    Args: maj_k: the k of the votes; how: by what the verdicts are, for `answer_lists`.
    pass@1 of either decoding, then maj@k, then pass@k above 1. Memory grows with different answers, not with samples.
    """
    greedy = query(
        "SELECT problem_id, verdict FROM greedy ORDER BY problem_id",
        greedy=folder / "verdicts-greedy.parquet",
    ).set_index("problem_id")["verdict"]
    votes = query(
        """SELECT problem_id, extracted, verdict, verdict = 'correct' AS correct, count(*) AS n
        FROM sampled GROUP BY ALL ORDER BY problem_id, extracted, verdict""",
        sampled=folder / "verdicts-sampled.parquet",
    )
    is_open, votes_open = greedy == UNVERIFIABLE, votes["verdict"] == UNVERIFIABLE
    known = votes[~votes_open]
    scores, tie_rates = _scores(greedy[~is_open] == "correct", known, maj_k, how)
    bounds = {}
    if is_open.any() or votes_open.any():
        wrong, _ = _scores(greedy == "correct", votes, maj_k, how)
        as_right = votes.assign(correct=votes["verdict"] != "incorrect")
        right, _ = _scores(greedy != "incorrect", as_right, maj_k, how)
        bounds = {metric: (wrong[metric].to_numpy(), right[metric].to_numpy()) for metric in wrong}
    is_known = ~is_open & greedy.index.isin(known["problem_id"])
    of_all, ties_of_all = (_over(greedy.index, table) for table in (scores, tie_rates))
    return Scores(of_all, ties_of_all, is_known.to_numpy(), bounds)


def _over(ids: pd.Index, table: dict[Metric, pd.Series]) -> dict[Metric, np.ndarray]:
    """Numbers by problem as arrays over `ids`; NaN of a problem that has none."""
    return {metric: values.reindex(ids).to_numpy() for metric, values in table.items()}


def _scores(
    is_solved: pd.Series, votes: pd.DataFrame, maj_k: list[int], how: Verification | None
) -> tuple[dict[Metric, pd.Series], dict[Metric, pd.Series]]:
    """Scores and tie rates by problem_id: of greedy answers that are right, and of `votes` as of `answer_lists`."""
    n = votes.groupby("problem_id")["n"].sum()
    n_correct = votes["n"].where(votes["correct"], 0).groupby(votes["problem_id"]).sum()
    scores = {PRIMARY_METRIC: is_solved.astype(float)}
    scores[SAMPLED_PASS_AT_1] = n_correct / n
    tie_rates = {}
    for k, table in _votes_of_at_most(votes, n, maj_k, how).items():
        scores[Metric("maj@k", SAMPLED, k)] = table["accuracy"]
        tie_rates[Metric("maj@k", SAMPLED, k)] = table["tie_rate"]
    for k in maj_k:
        if k > 1:
            solved = pd.Series(0.0, n.index)
            for size, here in n.groupby(n.clip(upper=k)):
                ids = here.index
                solved[ids] = metrics.coverage_per_problem(here, n_correct[ids], size)
            scores[Metric("pass@k", SAMPLED, k)] = solved
    return scores, tie_rates


def _votes_of_at_most(
    votes: pd.DataFrame, n: pd.Series, ks: list[int], how: Verification | None
) -> dict[int, pd.DataFrame]:
    """By k the vote among k samples by problem_id, of all of a problem's where it has fewer."""
    nothing = pd.DataFrame(columns=["accuracy", "tie_rate"])
    tables = {k: [] for k in ks}
    # answers are classed once for all k: problems of equal numbers of samples together
    for size, here in n.groupby(n):
        own = votes[votes["problem_id"].isin(here.index)]
        at_most = {k: min(k, size) for k in ks}
        counted = counted_votes(own, how)
        by_size = {k: counted.majority(k) for k in set(at_most.values())}
        for k in ks:
            tables[k].append(by_size[at_most[k]].set_index(here.index))
    return {k: pd.concat(found) if found else nothing for k, found in tables.items()}


def counted_votes(votes: pd.DataFrame, how: Verification | None = None) -> metrics.Votes:
    """The votes of all problems, counted for any k; see `answer_lists`."""
    return metrics.joined_votes(
        metrics.count_votes(answers, correct) for answers, correct in answer_lists(votes, how)
    )


def answer_lists(
    votes: pd.DataFrame, how: Verification | None = None
) -> Iterator[tuple[list[list], list[list[bool]]]]:
    """The answers of some problems' samples (None: no answer), and whether each is correct, by problem in order.

    `votes`: `problem_id`, `extracted`, `correct` and `n`, how many samples are alike in these; sorted by problem. Each
    answer is given by the class that it votes for, so that wrong votes count together as right ones do: where verdicts
    go by answers, by the same policy (`answers.pooled`); where a program gives them, by its own key, which stands as
    `extracted`; else by `answers.class_name`.
    """
    how = how or Verification()
    if how.by == "answer":
        votes = votes.assign(vote=_pooled_votes(votes, Policy(**how.policy)))
    elif how.by == "program":
        # numbers of texts, of which none is taken for an answer in other words
        numbers = pd.Series(pd.factorize(votes["extracted"])[0], votes.index, dtype=object)
        votes = votes.assign(vote=numbers.where(numbers != -1, None))
    else:
        names = votes["extracted"].astype(object).map(class_name, na_action="ignore")
        votes = votes.assign(vote=names.where(names.notna(), None))
    # whole problems, of PIECE samples or one more problem's
    piece = (votes["n"].cumsum() // PIECE).groupby(votes["problem_id"]).transform("min")
    for _, rows in votes.groupby(piece):
        samples = rows.loc[rows.index.repeat(rows["n"])]
        ends = samples.groupby("problem_id").size().cumsum().tolist()
        slices = [slice(start, end) for start, end in pairwise([0, *ends])]
        answers, correct = samples["vote"].tolist(), samples["correct"].tolist()
        yield [answers[one] for one in slices], [correct[one] for one in slices]


def _pooled_votes(votes: pd.DataFrame, policy: Policy) -> pd.Series:
    """The class of each row of `answer_lists`, as the number of a row of it; None where there is no answer.

    Right answers are pooled with each other and wrong ones with each other; one named as a right one is counted there.
    """
    # a name of a class forgets the order of a list
    name_of = class_name if policy.lists == "unordered" else str
    names = []
    for answer in votes["extracted"].astype(object):
        form = None if pd.isna(answer) else metrics.canonical_answer(name_of(answer))
        names.append(None if form is None else str(form))
    classes = np.full(len(votes), None, object)
    given = votes.assign(place=range(len(votes)), name=names).dropna(subset="name")
    given["is_right"] = given.groupby(["problem_id", "name"])["correct"].transform("any")
    given = given.sort_values(POOLED_AMONG, kind="stable").astype(object)
    columns = [given[name].tolist() for name in (*POOLED_AMONG, "place", "extracted", "name", "n")]
    # pandas takes 0.4 ms for a group of its own, and there are as many as problems
    for _, rows in groupby(zip(*columns), key=itemgetter(0, 1)):
        _, _, places, answers, names, n = map(list, zip(*rows))
        found = pooled(answers, names, n, policy)
        classes[places] = [places[place] for place in found]
    return pd.Series(classes, votes.index)
