"""An arm's samples as small tables, by SQL over `judged.parquet`: by problem, by budget, by answer, by length.

The rows are queried some problems at a time, so that memory does not grow with the number of samples, but with the
number of problems and of different answers to each. Samples whose verdict is unverifiable are drawn and not `known`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import budget, metrics
from wcse_lib.analyze.mixes import ArmCounts
from wcse_lib.store import KEY, StudyError, iter_samples, query, read_parquet
from wcse_lib.study import MAIN, PlannedAdaptive, PlannedMixed, Run
from wcse_lib.verdicts import counted_votes

PIECE = 150_000  # samples that are queried at a time
VOTES = (1, 2, 4, 8, 16, 32, 64)  # k of the arms' votes, beside the study's own
COUNTS = """
    count(*) AS n_drawn,
    count_if(known) AS n,
    count_if(correct) AS n_correct,
    count_if(correct AND sound IS NOT FALSE) AS n_sound,
    count_if(correct AND sound IS FALSE) AS n_false,
    count_if(correct AND is_judged) AS n_judged,
    count_if(correct AND judge IS NULL) AS n_unjudged,
    count_if(known AND finish_reason = 'length') AS n_truncated,
    sum(flops_per_token * n_tokens) FILTER (known AND n_tokens >= 0) AS flops,
    count(flops_per_token) FILTER (known AND n_tokens >= 0) AS n_flops,
    min(judge) AS judge"""


class Votes(NamedTuple):
    """Of each problem the self-agreement, and by k the `metrics.majority_details` of the vote among k samples."""

    agreement: np.ndarray
    majority: dict[int, pd.DataFrame]


class ArmSamples:
    """What the tables need of an arm's samples; each property is one query, asked once."""

    def __init__(self, run: Run, arm: str):
        self.run, self.arm = run, arm
        self.budgets: dict[str, int] = run.arm(arm).samples
        self._draws = run.draws(arm)
        problems = read_parquet(run.path("01", "train.parquet"), ["problem_id", "level"])
        self.problem_ids: list[str] = problems["problem_id"].tolist()  # in the plan's order
        self.levels = problems.set_index("problem_id")["level"].sort_index()

    @cached_property
    def _pieces(self) -> list[str]:
        """Conditions that cut the samples between problems, into about PIECE rows each."""
        judged = self.run.path("03", self.arm, "judged.parquet")
        sql = "SELECT problem_id, count(*) AS n FROM judged GROUP BY problem_id ORDER BY problem_id"
        sizes = query(sql, judged=judged)
        if sizes.empty:
            raise StudyError(
                f"{self.run.path('02', self.arm)}: no sample of this plan's problems; run 02_generate and 03_verify for"
                f" {self.arm} first"
            )
        conditions = []
        for _, ids in sizes.groupby(sizes["n"].cumsum() // PIECE)["problem_id"]:
            first, last = (ids.iloc[place].replace("'", "''") for place in (0, -1))
            conditions.append(f"problem_id BETWEEN '{first}' AND '{last}'")
        return conditions

    def _in_pieces(self, sql: str, **tables) -> Iterator[pd.DataFrame]:
        """A query by problem over the arm's `samples` (judged rows, with `draw`, `place`, `known` and `correct`), piece
        by piece."""
        judged = self.run.path("03", self.arm, "judged.parquet")
        for piece in self._pieces:
            samples = f"""
                WITH samples AS (
                    SELECT *, verdict <> 'unverifiable' AS known, verdict = 'correct' AS correct,
                        {self._draws.sql}
                    FROM judged WHERE {piece})"""
            yield query(f"{samples} {sql}", judged=judged, **tables)

    def _query(self, sql: str, **tables) -> pd.DataFrame:
        return pd.concat(self._in_pieces(sql, **tables), ignore_index=True)

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
    def _allotted(self) -> pd.DataFrame:
        """Columns budget, draw, problem_id, and of a problem's samples in a draw, from its first on, how many a budget
        has (n_allotted) and how many of these it has whatever their verdicts were (n_fixed)."""
        path = self.run.path("02", self.arm, "allocation.parquet")
        if path.exists():
            allotted = read_parquet(path).rename(columns={"n": "n_allotted"})
        else:
            budgets = pd.DataFrame(self.budgets.items(), columns=["budget", "n_allotted"])
            draws = pd.DataFrame({"draw": range(self._draws.n)})
            problems = self.levels.index.to_frame(index=False)
            allotted = budgets.merge(draws, how="cross").merge(problems, how="cross")
        fixed = allotted["n_allotted"]
        if self.is_adaptive:
            fixed = np.minimum(fixed, allotted["budget"].map(self._n_fixed))
        return allotted.assign(n_fixed=fixed)

    @property
    def is_adaptive(self) -> bool:
        """Whether verdicts decided how many samples a problem has."""
        return self.run.study.rule_of(self.arm) is not None

    @property
    def is_mix(self) -> bool:
        return isinstance(self.run.arm(self.arm), PlannedMixed)

    @property
    def generator(self) -> str:
        """The arm whose model draws the samples; a mix is its own."""
        planned = self.run.arm(self.arm)
        return planned.rule.of if isinstance(planned, PlannedAdaptive) else self.arm

    @property
    def _n_fixed(self) -> dict[str, int]:
        """Of an adaptive arm by budget: every problem's first samples, drawn before any verdict is looked at."""
        first = self.run.study.rule_of(self.arm).first
        return {name: min(first, n) for name, n in self.budgets.items()}

    @property
    def _is_first(self) -> str:
        """The condition of the samples that numbers at k are made of.

        An adaptive arm's n depends on verdicts, which biases counts out of n. Of such an arm the samples are taken that
        every problem got before any verdict was looked at: a size that the plan fixed.
        """
        return f"known AND {self._is_fixed}"

    @property
    def _is_fixed(self) -> str:
        """The condition of samples that a problem has whatever their verdicts are."""
        return f"place < {max(self._n_fixed.values())}" if self.is_adaptive else "true"

    @cached_property
    def _fixed(self) -> pd.DataFrame:
        """Of samples that a problem has whatever their verdicts are: the COUNTS by problem (index problem_id)."""
        sql = f"""
            SELECT problem_id, {COUNTS} FROM samples LEFT JOIN costs USING (model)
            WHERE {self._is_fixed} GROUP BY problem_id ORDER BY problem_id"""
        return self._query(sql, costs=self._costs).set_index("problem_id")

    @property
    def first(self) -> pd.DataFrame:
        """The COUNTS by problem of the samples that numbers at k are made of; problems with known ones alone."""
        return self._fixed[self._fixed["n"] > 0]

    def counted(self, column: str) -> ArmCounts:
        """Of `first`: known samples, those that `column` counts, and what a sample costs."""
        flops, n_flops = self.first[["flops", "n_flops"]].sum()
        flops_per_sample = flops / n_flops if n_flops else np.nan
        return ArmCounts(self.first["n"], self.first[column], flops_per_sample)

    def counted_if(self, column: str, is_right: bool) -> ArmCounts:
        """`counted` if all unverifiable samples were right, or wrong."""
        counts = self._fixed
        n_counted = counts[column]
        if is_right:
            n_counted = n_counted + counts["n_drawn"] - counts["n"]
        return ArmCounts(counts["n_drawn"], n_counted, self.counted(column).flops_per_sample)

    @property
    def has_unverifiable(self) -> bool:
        """Whether any of the samples that numbers at k are made of is unverifiable."""
        return bool((self._fixed["n_drawn"] > self._fixed["n"]).any())

    @cached_property
    def by_budget(self) -> pd.DataFrame:
        """By budget and problem, what each draw has, added up: the COUNTS; n_different known texts; of the samples that
        the budget has whatever their verdicts n_first_drawn, the known n_first and n_first_correct; and of the correct
        samples n_text, n_normalised and n_equations: how many are different, by what counts as the same.

        Of the draws themselves how many cover the problem (n_covered, n_sound_covered), would if unverifiable samples
        were right (n_coverable), and have unverifiable samples alone (n_unknown).
        """
        different = """
            count_if(place < n_fixed) AS n_first_drawn,
            count_if(known AND place < n_fixed) AS n_first,
            count_if(correct AND place < n_fixed) AS n_first_correct,
            count(DISTINCT same_text) FILTER (known) AS n_different"""
        for kind in metrics.SAMENESS:
            different += f", count(DISTINCT same_{kind}) FILTER (correct) AS n_{kind}"
        sql = f"""
            SELECT budget, problem_id, {COUNTS}, {different}
            FROM samples JOIN allotted USING (draw, problem_id) LEFT JOIN costs USING (model)
            WHERE place < n_allotted GROUP BY budget, draw, problem_id"""
        by_draw = self._query(sql, allotted=self._allotted, costs=self._costs)
        n_open = by_draw["n_drawn"] - by_draw["n"]
        of_draws = {
            "n_covered": by_draw["n_correct"] > 0,
            "n_sound_covered": by_draw["n_sound"] > 0,
            "n_coverable": by_draw["n_correct"] + n_open > 0,
            "n_unknown": by_draw["n"] == 0,
        }
        by_draw = by_draw.assign(**pd.DataFrame(of_draws).astype(int))
        sums = by_draw.groupby(["budget", "problem_id"]).sum(numeric_only=True)
        return sums.reset_index()

    @cached_property
    def profiles(self) -> dict[str, pd.DataFrame]:
        """Of each budget its part of `by_budget` over all problems (index problem_id), with their `level`, and with
        `coverage` and `sound_coverage`: the share of draws that cover the problem.

        A problem to which the budget gives no sample is unsolved; a draw with unverifiable samples alone is left out.
        n_examples: of the main recipe, the mean of a draw.
        """
        profiles = {}
        for name in self.budgets:
            drawn = self.by_budget[self.by_budget["budget"] == name].set_index("problem_id")
            unknown = drawn.index[drawn["n_unknown"] == self._draws.n]
            ids = self.levels.index.difference(unknown)
            counts = drawn.select_dtypes("number").reindex(ids, fill_value=0)
            examples = self._examples.loc[self._examples["budget"] == name]
            n_examples = examples.set_index("problem_id")["n_examples"]
            n_draws = self._draws.n - counts["n_unknown"]
            profiles[name] = counts.assign(
                level=self.levels,
                n_examples=n_examples.reindex(ids, fill_value=0),
                coverage=counts["n_covered"] / n_draws,
                sound_coverage=counts["n_sound_covered"] / n_draws,
            )
        return profiles

    @cached_property
    def _examples(self) -> pd.DataFrame:
        """The main recipe's examples by budget and problem: n_examples, n_example_problems (1 where every draw has
        one) and n_repeated_examples, all means of a draw."""
        sql = f"""
            SELECT budget, problem_id, count(*) AS n_examples, 1 AS n_example_problems,
                count(*) - count(DISTINCT same_text) AS n_repeated_examples
            FROM samples JOIN examples USING (author, problem_id, sample_index)
            WHERE recipe = '{MAIN}' GROUP BY budget, draw, problem_id"""
        by_draw = self._query(sql, examples=self.run.path("03", self.arm, "examples.parquet"))
        means = by_draw.groupby(["budget", "problem_id"]).sum() / self._draws.n
        return means.reset_index()

    @cached_property
    def totals(self) -> pd.DataFrame:
        """Sums over problems, by budget, of `by_budget`, and of the main recipe's examples: n_examples,
        n_example_problems, n_repeated_examples. All are means of a draw."""
        sums = self.by_budget.groupby("budget").sum(numeric_only=True) / self._draws.n
        sums = sums.join(self._examples.groupby("budget").sum(numeric_only=True))
        return sums.reindex(list(self.budgets)).fillna(0)

    @property
    def all_judged(self) -> bool:
        """Whether there are correct samples and all of them were judged, so that sound ones can be counted.

        Sound is what no judge calls unsound: an upper bound where the judge finds some faults only.
        """
        columns = ["n_correct", "n_unjudged"]
        n_correct, n_unjudged = self.first[columns].sum() + self.by_budget[columns].sum()
        return n_correct > 0 and n_unjudged == 0

    @property
    def least(self) -> int:
        """The largest k that all problems allow."""
        return int(self.first["n"].min()) if len(self.first) else 0

    @cached_property
    def votes(self) -> Votes:
        """Votes among the answers, for every k of the study and of VOTES that all problems allow; of a mix, whose k
        samples are no mix of its shares, among all its samples at each budget."""
        how = self.run.study.verification
        votes = self._query(f"""
            SELECT problem_id, extracted, correct, count(*) AS n FROM samples
            WHERE {self._is_first} GROUP BY ALL ORDER BY problem_id, extracted, correct""")
        counted = counted_votes(votes, how)
        if self.is_mix:
            majority = {k: self._whole_vote(name) for name, k in self.budgets.items()}
        else:
            ks = {*self.run.study.evaluation.maj_k, *VOTES}
            majority = {k: counted.majority(k) for k in sorted(ks) if 1 <= k <= self.least}
        return Votes(counted.agreement, majority)

    def _whole_vote(self, budget_name: str) -> pd.DataFrame:
        """The vote among all of a draw's samples of a problem at a budget, the mean over draws; problems of equal
        numbers are counted together."""
        votes = self._query(
            f"""
            SELECT draw, problem_id, extracted, correct, count(*) AS n
            FROM samples JOIN allotted USING (draw, problem_id)
            WHERE known AND place < n_allotted AND budget = '{budget_name}'
            GROUP BY ALL ORDER BY draw, problem_id, extracted, correct""",
            allotted=self._allotted,
        )
        votes["size"] = votes.groupby(["draw", "problem_id"])["n"].transform("sum")
        how = self.run.study.verification
        tables = []
        for (_, size), rows in votes.groupby(["draw", "size"]):
            table = counted_votes(rows, how).majority(size)
            tables.append(table.assign(problem_id=rows["problem_id"].unique()))
        return pd.concat(tables).groupby("problem_id").mean()

    @cached_property
    def classes(self) -> dict[str, pd.DataFrame]:
        """By what counts as the same: how many different correct solutions (`n`) of each problem_id were drawn `size`
        times."""
        classes = {}
        for kind in metrics.SAMENESS:
            classes[kind] = self._query(f"""
                SELECT problem_id, size, count(*) AS n FROM (
                    SELECT problem_id, count(*) AS size FROM samples
                    WHERE correct AND {self._is_first} GROUP BY problem_id, same_{kind})
                GROUP BY ALL ORDER BY ALL""")
        return classes

    @cached_property
    def ngram_classes(self) -> pd.DataFrame:
        """`classes` of solutions that differ in a few words, for which the texts must be read."""
        keys = ", ".join(KEY)
        sql = f"SELECT problem_id, text FROM samples JOIN texts USING ({keys}) WHERE correct AND {self._is_first}"
        sizes = []
        for texts in iter_samples(self.run.path("02", self.arm), [*KEY, "text"]):
            for problem_id, solutions in self._query(sql, texts=texts).groupby("problem_id")[
                "text"
            ]:
                labels = pd.Series(metrics.ngram_clusters(solutions))
                sizes += [(problem_id, size) for size in labels.value_counts()]
        table = pd.DataFrame(sizes, columns=["problem_id", "size"])
        return table.value_counts().sort_index().reset_index(name="n")

    @cached_property
    def lengths(self) -> pd.DataFrame:
        """Samples of known length by verdict ("all" for all of them) and problem: n_tokens, n."""
        return self._by_verdict("problem_id", "sum(n_tokens) AS n_tokens, count(*) AS n")

    @cached_property
    def token_counts(self) -> pd.DataFrame:
        """Samples of known length by verdict ("all" for all of them), n_tokens and finish_reason: n."""
        columns = ["verdict", "n_tokens", "finish_reason"]
        counts = self._by_verdict("n_tokens, finish_reason", "count(*) AS n")
        return counts.groupby(columns, as_index=False).sum()

    def _by_verdict(self, by: str, counts: str) -> pd.DataFrame:
        return self._query(f"""
            SELECT coalesce(verdict, 'all') AS verdict, {by}, {counts} FROM samples WHERE n_tokens >= 0
            GROUP BY GROUPING SETS ((verdict, {by}), ({by})) ORDER BY ALL""")


def read_arms(run: Run) -> dict[str, ArmSamples]:
    """The samples of every arm; a file that 03 did not write is named by a StudyError when it is first needed."""
    return {arm: ArmSamples(run, arm) for arm in run.plan.arms}
