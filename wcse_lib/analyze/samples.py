"""An arm's samples as small tables, by SQL over `judged.parquet`: by problem, by budget, by answer, by length.

Memory does not grow with the number of samples, but with the number of problems and of different answers to each.
Samples whose verdict is unverifiable are drawn, and counted nowhere else.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import budget, metrics
from wcse_lib.store import (
    KEY,
    StudyError,
    iter_samples,
    query,
    read_parquet,
)
from wcse_lib.study import MAIN, PlannedAdaptive, Run
from wcse_lib.verdicts import answer_lists, majorities

VOTES = (1, 2, 4, 8, 16, 32, 64)  # k of the arms' votes, beside the study's own
KNOWN = "verdict <> 'unverifiable'"
COUNTS = """
    count(*) AS n_drawn,
    count_if(known) AS n,
    count_if(correct) AS n_correct,
    count_if(correct AND sound IS NOT FALSE) AS n_sound,
    count_if(correct AND sound IS FALSE) AS n_false,
    count_if(correct AND is_judged) AS n_judged,
    count_if(correct AND judge IS NULL) AS n_unjudged,
    count_if(known AND finish_reason = 'length') AS n_truncated,
    count(DISTINCT same_text) FILTER (known) AS n_different,
    sum(flops) AS flops, count(flops) AS n_flops, min(judge) AS judge"""


class Votes(NamedTuple):
    """Of each problem the self-agreement, and by k the `metrics.majority_details` of the vote among k samples."""

    agreement: np.ndarray
    majority: dict[int, pd.DataFrame]


class ArmSamples:
    """What the tables need of an arm's samples; each property is one query, asked once."""

    def __init__(self, run: Run, arm: str):
        self.run, self.arm = run, arm
        self.budgets: dict[str, int] = run.arm(arm).samples
        problems = read_parquet(run.path("01", "train.parquet"), ["problem_id", "level"])
        self.levels = problems.set_index("problem_id")["level"].sort_index()
        if self._query("SELECT 1 AS one FROM judged LIMIT 1").empty:
            raise StudyError(
                f"{run.path('02', arm)}: no sample of this plan's problems; run 02_generate and 03_verify for"
                f" {arm} first"
            )

    def _query(self, sql: str, **tables) -> pd.DataFrame:
        """SQL over the arm's `judged` rows, the `allotted` samples of its budgets, and models' `costs`."""
        judged = self.run.path("03", self.arm, "judged.parquet")
        return query(sql, judged=judged, allotted=self._allotted, costs=self._costs, **tables)

    @cached_property
    def _allotted(self) -> pd.DataFrame:
        """Columns budget, problem_id, n_allotted: how many of a problem's samples, from its first on, a budget has."""
        path = self.run.path("02", self.arm, "allocation.parquet")
        if path.exists():
            return read_parquet(path).rename(columns={"n": "n_allotted"})
        budgets = pd.DataFrame(self.budgets.items(), columns=["budget", "n_allotted"])
        return budgets.merge(self.levels.index.to_frame(index=False), how="cross")

    @cached_property
    def _costs(self) -> pd.DataFrame:
        """Columns model, flops_per_token, of models whose size is known."""
        costs = {}
        for planned in self.run.plan.plain_arms().values():
            if planned.n_parameters:
                costs[planned.model] = budget.sampling_flops(planned.n_parameters, 1)
        table = pd.DataFrame(costs.items(), columns=["model", "flops_per_token"])
        return table.astype({"model": "string", "flops_per_token": float})

    @cached_property
    def _first(self) -> str:
        """The condition of the samples that numbers at k are made of.

        An adaptive arm's n depends on its first samples, which biases counts out of n. Of such an arm each problem's
        first samples alone are taken, as many as every problem has.
        """
        if not isinstance(self.run.arm(self.arm), PlannedAdaptive):
            return KNOWN
        sizes = self._query(
            f"SELECT problem_id, count(*) AS n FROM judged WHERE {KNOWN} GROUP BY ALL"
        )
        n = sizes.set_index("problem_id")["n"].reindex(self.levels.index, fill_value=0)
        return f"{KNOWN} AND sample_index < {n.min()}"

    @cached_property
    def first(self) -> pd.DataFrame:
        """Of the samples that numbers at k are made of: the COUNTS by problem (index problem_id)."""
        return self._counts("problem_id", self._first).set_index("problem_id")

    @cached_property
    def by_budget(self) -> pd.DataFrame:
        """The COUNTS by budget and problem, and of the correct samples n_text, n_normalised and n_equations: how many
        are different, by what counts as the same."""
        different = ""
        for kind in metrics.SAMENESS:
            different += f", count(DISTINCT same_{kind}) FILTER (correct) AS n_{kind}"
        return self._counts("budget, problem_id", "sample_index < n_allotted", different)

    def _counts(self, by: str, where: str, more: str = "") -> pd.DataFrame:
        tables = "judged LEFT JOIN costs USING (model)"
        if "budget" in by:
            tables += " JOIN allotted USING (problem_id)"
        return self._query(f"""
            WITH samples AS (
                SELECT *, {KNOWN} AS known, verdict = 'correct' AS correct,
                    CASE WHEN {KNOWN} AND n_tokens >= 0 THEN n_tokens * flops_per_token END AS flops
                FROM {tables} WHERE {where})
            SELECT {by}, {COUNTS} {more} FROM samples GROUP BY {by} ORDER BY {by}""")

    @cached_property
    def profiles(self) -> dict[str, pd.DataFrame]:
        """Of each budget its part of `by_budget` over all problems (index problem_id), with their `level`.

        A problem to which the budget gives no sample is unsolved; one with unverifiable samples alone is left out.
        """
        profiles = {}
        for name in self.budgets:
            drawn = self.by_budget[self.by_budget["budget"] == name].set_index("problem_id")
            unknown = drawn.index[drawn["n"] == 0]
            ids = self.levels.index.difference(unknown)
            counts = drawn.select_dtypes("number").reindex(ids, fill_value=0)
            profiles[name] = counts.assign(level=self.levels)
        return profiles

    @cached_property
    def totals(self) -> pd.DataFrame:
        """Sums over problems, by budget, of `by_budget`, and of the main recipe's examples: n_examples,
        n_example_problems, n_repeated_examples."""
        examples = self._query(
            f"""
            WITH of_problem AS (
                SELECT budget, problem_id, count(*) AS n, count(DISTINCT same_text) AS n_different
                FROM examples JOIN judged USING (author, problem_id, sample_index)
                WHERE recipe = '{MAIN}' GROUP BY budget, problem_id)
            SELECT budget, sum(n) AS n_examples, count(*) AS n_example_problems,
                sum(n - n_different) AS n_repeated_examples
            FROM of_problem GROUP BY budget""",
            examples=self.run.path("03", self.arm, "examples.parquet"),
        )
        sums = self.by_budget.groupby("budget").sum(numeric_only=True)
        return sums.join(examples.set_index("budget")).reindex(list(self.budgets)).fillna(0)

    @property
    def all_judged(self) -> bool:
        """Whether there are correct samples and all of them were judged, so that sound ones can be counted.

        Sound is what no judge calls unsound: an upper bound where the judge finds some faults only.
        """
        counts = self.first[["n_correct", "n_unjudged"]].sum()
        counts += self.by_budget[["n_correct", "n_unjudged"]].sum()
        return counts["n_correct"] > 0 and counts["n_unjudged"] == 0

    @property
    def least(self) -> int:
        """The largest k that all problems allow."""
        return int(self.first["n"].min()) if len(self.first) else 0

    @cached_property
    def votes(self) -> Votes:
        """Votes among the answers, for every k of the study and of VOTES that all problems allow."""
        ks = sorted(k for k in {*self.run.study.evaluation.maj_k, *VOTES} if 1 <= k <= self.least)
        votes = self._query(f"""
            SELECT problem_id, extracted, verdict = 'correct' AS correct, count(*) AS n
            FROM judged WHERE {self._first} GROUP BY ALL ORDER BY problem_id, extracted, correct""")
        agreement = [metrics.self_agreement(answers) for answers, _ in answer_lists(votes)]
        return Votes(np.concatenate(agreement or [[]]), majorities(votes, ks))

    def unique_among(self, k: int, ngrams: bool) -> dict[str, np.ndarray]:
        """By what counts as the same: the expected number of different correct solutions among k, of each problem."""
        kinds = {kind: self._classes(f"same_{kind}") for kind in metrics.SAMENESS}
        if ngrams:
            kinds["n-grams"] = self._ngram_classes
        n = self.first["n"].to_numpy()
        unique = {}
        for kind, classes in kinds.items():
            place = self.first.index.get_indexer(classes["problem_id"])
            unique[kind] = metrics.diversity_per_problem(n, place, classes["size"], k)
        return unique

    def _classes(self, same: str) -> pd.DataFrame:
        """Columns problem_id, size: a row for every set of correct samples that count as one solution."""
        return self._query(f"""
            SELECT problem_id, count(*) AS size FROM judged WHERE verdict = 'correct' AND {self._first}
            GROUP BY problem_id, {same} ORDER BY problem_id, size""")

    @cached_property
    def _ngram_classes(self) -> pd.DataFrame:
        """`_classes` of solutions that differ in a few words, for which the texts must be read."""
        keys = self._query(
            f"SELECT {', '.join(KEY)} FROM judged WHERE verdict = 'correct' AND {self._first}"
        )
        sizes = []
        for samples in iter_samples(self.run.path("02", self.arm), [*KEY, "text"]):
            for problem_id, texts in samples.merge(keys, on=KEY).groupby("problem_id")["text"]:
                labels = pd.Series(metrics.ngram_clusters(texts))
                counts = labels.value_counts().sort_values()
                sizes.append(pd.DataFrame({"problem_id": problem_id, "size": counts}))
        return pd.concat(sizes or [keys.assign(size=0)], ignore_index=True)

    @cached_property
    def lengths(self) -> pd.DataFrame:
        """Samples of known length by verdict ("all" for all of them) and problem: n_tokens, n."""
        return self._by_verdict("problem_id", "sum(n_tokens) AS n_tokens, count(*) AS n")

    @cached_property
    def token_counts(self) -> pd.DataFrame:
        """Samples of known length by verdict ("all" for all of them), n_tokens and finish_reason: n."""
        return self._by_verdict("n_tokens, finish_reason", "count(*) AS n")

    def _by_verdict(self, by: str, counts: str) -> pd.DataFrame:
        return self._query(f"""
            SELECT coalesce(verdict, 'all') AS verdict, {by}, {counts} FROM judged WHERE n_tokens >= 0
            GROUP BY GROUPING SETS ((verdict, {by}), ({by})) ORDER BY ALL""")


def read_arms(run: Run) -> dict[str, ArmSamples]:
    """The samples of every arm. Raises StudyError naming an arm that has none, or a file that 03 did not write."""
    return {arm: ArmSamples(run, arm) for arm in run.plan.arms}
