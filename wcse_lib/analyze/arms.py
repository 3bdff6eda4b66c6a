"""Rows of the tables of arms: what their samples are worth, and in what they differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib import intervals, metrics, verify
from wcse_lib.analyze.columns import BOUNDS
from wcse_lib.analyze.mixes import ArmCounts, Point, arm_points, mix_points
from wcse_lib.analyze.samples import ArmSamples
from wcse_lib.analyze.tables import of_estimate
from wcse_lib.analyze.words import ANSWERED, Quantity
from wcse_lib.store import read_json, read_parquet
from wcse_lib.study import MAIN, PlannedMixed, Run
from wcse_lib.train import SCORES, sums_of_arms

Arms = dict[str, ArmSamples]
Rows = Iterator[dict]
Fits = dict[tuple[str, str, str], pd.DataFrame]
Ratio = tuple[np.ndarray, np.ndarray]  # numerators and denominators over problems
COUNTS_A_PROBLEM = {  # quantities that are no shares, and their units
    Quantity.SOLUTIONS: "solutions",
    Quantity.EXAMPLES_PER_PROBLEM: "examples",
}


def profiles(arms: Arms) -> Iterator[tuple[dict, ArmSamples, pd.DataFrame]]:
    """Every arm at every budget: the columns `arm` and `budget`, the arm's samples, and its profile there."""
    for arm, samples in arms.items():
        for budget, profile in samples.profiles.items():
            yield {"arm": arm, "budget": budget}, samples, profile


def quality(arms: Arms) -> Rows:
    """What each arm's samples at each budget are, in rates, and in counts of a draw: means, in whole numbers."""
    for facts, samples, profile in profiles(arms):
        total = samples.totals.loc[facts["budget"]]
        n = total["n"]
        drawn = profile[profile["n_first"] > 0]
        flops_per_sample = total["flops"] / total["n_flops"] if total["n_flops"] else np.nan
        rates = {
            "coverage": profile["coverage"].mean(),
            "pass_at_1": (drawn["n_first_correct"] / drawn["n_first"]).mean(),
            "duplicate_rate": (n - total["n_different"]) / n if n else np.nan,
            "samples_per_problem": samples.run.plan.n_samples(facts["arm"], facts["budget"]),
        }
        counts = {"n_problems": len(profile), "n_samples": round(n)}
        for name in ("n_correct", "n_examples", "n_truncated"):
            counts[name] = round(total[name])
        # rounded up: what a note tells of must not vanish
        counts["n_unverifiable"] = math.ceil(total["n_drawn"] - n)
        if counts["n_unverifiable"]:
            rates |= _quality_bounds(samples, facts["budget"])
        yield facts | rates | counts | {"flops_spent": flops_per_sample * n}


def _quality_bounds(samples: ArmSamples, budget: str) -> dict[str, float]:
    """Coverage and pass@1 of a budget's samples if all unverifiable ones were wrong, and if right."""
    of_budget = samples.by_budget[samples.by_budget["budget"] == budget]
    n_times = len(samples.levels) * samples.run.plan.n_draws
    first = of_budget[of_budget["n_first_drawn"] > 0]
    n_open_first = first["n_first_drawn"] - first["n_first"]
    rates = {}
    for name, is_right, covered in zip(BOUNDS, (0, 1), ("n_covered", "n_coverable")):
        rates[f"coverage_{name}"] = of_budget[covered].sum() / n_times
        n_right_first = first["n_first_correct"] + is_right * n_open_first
        rates[f"pass_at_1_{name}"] = (n_right_first / first["n_first_drawn"]).mean()
    return rates


def coverage(run: Run, arms: Arms) -> Rows:
    """coverage@k for every k that all problems allow; of a mix, that of the mix of k samples."""
    for arm in arms:
        for row in _curve(run, arms, arm, "n_correct"):
            yield {"arm": arm} | row


def sound_coverage(run: Run, arms: Arms) -> Rows:
    """The same by samples that the judge does not call unsound, of arms all of whose correct samples were judged."""
    for arm, samples in arms.items():
        judged = [arms[part] for part in _parts(run, arm)]
        if samples.all_judged and all(part.all_judged for part in judged):
            judge = samples.first["judge"].dropna().iloc[0]
            for row in _curve(run, arms, arm, "n_sound"):
                yield {"arm": arm, "judge": judge} | row


def _parts(run: Run, arm: str) -> list[str]:
    """The arms of whose samples numbers at k are made: a mix's parts, else the arm itself."""
    planned = run.arm(arm)
    return list(planned.shares) if isinstance(planned, PlannedMixed) else [arm]


def _curve(run: Run, arms: Arms, arm: str, column: str) -> Rows:
    parts = {part: arms[part] for part in _parts(run, arm)}
    points = _points(run, arms[arm], {part: of.counted(column) for part, of in parts.items()})
    ends = {}
    if any(part.has_unverifiable for part in parts.values()):
        for name, is_right in zip(BOUNDS, (False, True)):
            counts = {part: of.counted_if(column, is_right) for part, of in parts.items()}
            ends[name] = _points(run, arms[arm], counts)
    for point in points:
        estimate = intervals.bootstrap(point.covered, seed=run.study.seed)
        facts = {"k": point.k, "n_problems": len(point.covered)}
        facts["flops_per_problem"] = point.flops_per_problem
        # what is drawn reaches at least as far as what is known
        for name, at_end in ends.items():
            facts[name] = next(at_end).covered.mean()
        yield facts | of_estimate(estimate)


def _points(run: Run, samples: ArmSamples, counts: dict[str, ArmCounts]) -> Iterator[Point]:
    """Coverage of an arm at k = 1, 2 …, from the counts of the arms whose samples make it."""
    planned = run.arm(samples.arm)
    if isinstance(planned, PlannedMixed):
        return mix_points(planned, counts, samples.problem_ids, run.study.seed)
    return arm_points(counts[samples.arm])


def diversity(run: Run, arms: Arms, ngrams: bool) -> Rows:
    """Different correct solutions among k at each budget, by what counts as the same.

    `average`: over all problems, or over those solved by k samples. `identity` is what it would be if no two correct
    samples were the same: k · pass@1 over coverage@k (over 1 for all problems). Of mixes and adaptive arms, whose
    problems differ in their numbers of samples, it is what their samples at the budget hold, and k their mean number.
    """
    for facts, samples, profile in profiles(arms):
        k = samples.budgets[facts["budget"]]
        if samples.is_mix or samples.is_adaptive:
            for row in _diversity_held(run, profile):
                yield facts | {"k": k} | row
            continue
        if k > samples.least:
            continue
        n, n_correct = samples.first["n"].to_numpy(), samples.first["n_correct"].to_numpy()
        averages = {"all": np.ones(len(n)), "solved": metrics.coverage_per_problem(n, n_correct, k)}
        kinds = samples.classes
        if ngrams:
            kinds = kinds | {"n-grams": samples.ngram_classes}
        for kind, classes in kinds.items():
            place = samples.first.index.get_indexer(classes["problem_id"])
            sizes, n_alike = classes["size"], classes["n"]
            unique = metrics.diversity_per_problem(n, place, sizes, k, n_alike)
            for average, weights in averages.items():
                if not weights.any():
                    continue
                estimate = intervals.ratio(unique, weights, seed=run.study.seed, bounds=(0, k))
                row = facts | {"kind": kind, "average": average, "k": k} | of_estimate(estimate)
                row["identity"] = k * (n_correct / n).sum() / weights.sum()
                yield row | {"n_problems": int((weights > 0).sum())}


def _diversity_held(run: Run, profile: pd.DataFrame) -> Rows:
    """`diversity` of an arm's own samples at a budget, counted and not averaged over choices of k; n-grams are not
    counted, as this would read all texts once for each budget."""
    n_correct = profile["n_correct"].to_numpy()
    averages = {"all": np.ones(len(profile)), "solved": (n_correct > 0).astype(float)}
    bounds = (0, max(1, profile["n"].max()))
    for kind in metrics.SAMENESS:
        unique = profile[f"n_{kind}"].to_numpy()
        for average, weights in averages.items():
            if not weights.any():
                continue
            estimate = intervals.ratio(unique, weights, seed=run.study.seed, bounds=bounds)
            row = {"kind": kind, "average": average} | of_estimate(estimate)
            row["identity"] = n_correct.sum() / weights.sum()
            yield row | {"n_problems": int(weights.sum())}


def false_positives(run: Run, arms: Arms) -> Rows:
    """Share of judged correct samples with unsound reasoning, by every judge, the study's own first.

    A model's rate stands twice: raw, and corrected for its errors where these can be known.
    """
    own = verify.own_judge(run.study)
    for arm, samples in arms.items():
        tables = []
        for budget in samples.budgets:
            rates = verify.false_positives(run, arm, budget)
            tables.append(rates.dropna(subset="value").assign(arm=arm, budget=budget))
        rates = pd.concat(tables)
        rates = rates.sort_values(
            "judge", key=lambda judge: judge.where(judge != own, ""), kind="stable"
        )
        columns = ["arm", "budget", "judge", "corrected_by", "n", "n_false", "value", "low", "high"]
        yield from rates[columns].to_dict("records")


def levels(run: Run, arms: Arms) -> Rows:
    """Coverage at each budget by level of difficulty, where problems have one."""
    for facts, _, profile in profiles(arms):
        for level, problems in profile[profile["level"] != ""].groupby("level"):
            estimate = intervals.bootstrap(problems["coverage"], seed=run.study.seed)
            yield facts | {"level": level, "n_problems": len(problems)} | of_estimate(estimate)


def lengths(run: Run, arms: Arms) -> Rows:
    """Tokens per sample, of all samples and by verdict: the mean with its interval, quantiles, the share cut short."""
    for arm, samples in arms.items():
        counts = samples.token_counts
        bounds = (0, max([run.study.sampling.max_tokens, *counts["n_tokens"]]))
        for verdict, sums in samples.lengths.groupby("verdict"):
            mean = intervals.ratio(sums["n_tokens"], sums["n"], seed=run.study.seed, bounds=bounds)
            own = counts[counts["verdict"] == verdict]
            profile = metrics.length_profile(own["n_tokens"], own["finish_reason"], own["n"])
            del profile["mean_tokens"]
            yield {"arm": arm, "verdict": verdict} | profile | of_estimate(mean)


def self_agreement(run: Run, arms: Arms) -> Rows:
    """Chance that two samples of a problem give the same answer: high and wrong is what votes cannot mend."""
    for arm, samples in arms.items():
        agreement = samples.votes.agreement[~np.isnan(samples.votes.agreement)]
        if len(agreement):
            estimate = intervals.bootstrap(agreement, seed=run.study.seed)
            yield {"arm": arm, "n_problems": len(agreement)} | of_estimate(estimate)


def arm_votes(run: Run, arms: Arms) -> Rows:
    """maj@k of the arms' samples: expected accuracy under a uniform tie-break, tie rate, share without any vote.

    Of a mix only the votes of all its samples at each budget; k is then their mean number.
    """
    for arm, samples in arms.items():
        for k, votes in samples.votes.majority.items():
            estimate = intervals.bootstrap(votes["accuracy"], seed=run.study.seed)
            rates = votes[["tie_rate", "no_answer_rate"]].mean().to_dict()
            yield {"arm": arm, "k": k, "n_problems": len(votes)} | rates | of_estimate(estimate)


def flow(run: Run, arms: Arms) -> pd.DataFrame:
    """Where each arm's samples went, as 03 counted it."""
    tables = [read_parquet(run.path("03", arm, "flow.parquet")) for arm in arms]
    return pd.concat(tables, ignore_index=True)


def pairs_of(run: Run, arms: Iterable[str]) -> list[tuple[str, str]]:
    """Arms that are compared: every other arm minus the reference arm first, then the others with each other."""
    reference = run.study.budget.reference
    others = [arm for arm in arms if arm != reference]
    return [(arm, reference) for arm in others] + list(combinations(others, 2))


def read_fits(run: Run) -> Fits:
    """(base, arm, budget) -> how the main examples fit the base student: by problem the sums that SCORES divides.

    Examples of one problem alone are left out: they have no interval.
    """
    files: dict[tuple[str, str], dict[str, Path]] = {}
    for student, entry in run.plan.students.items():
        path = run.path("04", student, "fit.parquet")
        if entry.source == "arm" and entry.recipe == MAIN and path.exists():
            files.setdefault((entry.base, entry.budget), {}).setdefault(entry.arm, path)
    fits = {}
    for (base, budget), by_arm in files.items():
        examples = {arm: read_parquet(path) for arm, path in by_arm.items()}
        several = {arm: one for arm, one in examples.items() if one["problem_id"].nunique() > 1}
        for arm, sums in sums_of_arms(several).items():
            fits[base, arm, budget] = sums
    return fits


def ratios(profile: pd.DataFrame, is_sound_known: bool) -> dict[Quantity, Ratio]:
    """The quantities of an arm's samples that are ratios over problems; those that no sample tells of are left out."""
    n, n_correct = profile["n"], profile["n_correct"]
    everywhere = n >= 0
    known = {}
    # an adaptive arm's n was chosen by verdicts: the share is one of its first, fixed samples
    n_first = profile["n_first"]
    known[Quantity.PASS_AT_1] = profile["n_first_correct"] / n_first.clip(lower=1), n_first > 0
    known[Quantity.COVERAGE] = profile["coverage"], everywhere
    known[Quantity.SOUND_COVERAGE] = profile["sound_coverage"], everywhere & is_sound_known
    known[Quantity.EXAMPLES_PER_PROBLEM] = profile["n_examples"], everywhere
    known[Quantity.FALSE_POSITIVE_RATE] = profile["n_false"], profile["n_judged"]
    known[Quantity.DUPLICATES] = n_correct - profile["n_text"], n_correct
    known[Quantity.SOLUTIONS] = profile["n_equations"], profile["n_covered"]
    arrays = {}
    for quantity, (numerators, denominators) in known.items():
        if denominators.any():
            arrays[quantity] = numerators.to_numpy(float), denominators.to_numpy(float)
    return arrays


def _unit(quantity: Quantity) -> str:
    return COUNTS_A_PROBLEM.get(quantity, "points")


def _bounds(quantity: Quantity, *numerators: np.ndarray) -> tuple[float, float]:
    """The range that a quantity can have."""
    most = 1.0
    if quantity in COUNTS_A_PROBLEM:
        most = max(1.0, *(values.max() for values in numerators))
    return 0.0, most


def arm_differences(run: Run, arms: Arms, fits: Fits) -> Rows:
    """Paired differences between arms' samples over the problems, in every quantity that both have.

    `n_problems`: those that tell of the quantity, in the arm that has fewer: false positives need solved problems.
    Of ANSWERED, by which a study without students is answered, also p (signs flipped over problems) and what is
    excluded. An adaptive arm has the generator of the arm that it is of, and so its pass@1: that difference is left
    out.
    """
    for arm_a, arm_b in pairs_of(run, run.plan.arms):
        for budget in run.study.budget.samples:
            facts = {"arm_a": arm_a, "arm_b": arm_b, "budget": budget}
            for row in _sample_differences(run, arms[arm_a], arms[arm_b], budget):
                yield facts | row
            for base in run.study.students:
                a, b = fits.get((base, arm_a, budget)), fits.get((base, arm_b, budget))
                if a is not None and b is not None:
                    yield from _fit_differences(run, a, b, facts | {"base": base})


def _sample_differences(run: Run, a: ArmSamples, b: ArmSamples, budget: str) -> Rows:
    profile_a, profile_b = a.profiles[budget], b.profiles[budget]
    both = profile_a.index.intersection(profile_b.index)
    ratios_a = ratios(profile_a.loc[both], a.all_judged)
    ratios_b = ratios(profile_b.loc[both], b.all_judged)
    for quantity, of_a in ratios_a.items():
        if quantity not in ratios_b:
            continue
        if quantity == Quantity.PASS_AT_1 and a.generator == b.generator:
            continue
        of_b = ratios_b[quantity]
        bounds = _bounds(quantity, of_a[0], of_b[0])
        estimate = intervals.paired_ratio_difference(of_a, of_b, seed=run.study.seed, bounds=bounds)
        row = {"quantity": quantity, "base": "", "unit": _unit(quantity)} | of_estimate(estimate)
        # a ratio of few problems in one arm is not better known by many in the other
        row["n_problems"] = int(min((of_a[1] > 0).sum(), (of_b[1] > 0).sum()))
        if quantity in ANSWERED:
            row["p"] = intervals.paired_ratio_p(of_a, of_b)
            options = {"seed": run.study.seed, "bounds": bounds, "level": 0.9}
            _, low, high = intervals.paired_ratio_difference(of_a, of_b, **options)
            row["excluded"] = max(abs(low), abs(high))
        yield row


def _fit_differences(run: Run, a: pd.DataFrame, b: pd.DataFrame, facts: dict) -> Rows:
    # the very same examples, as where a mix is one arm alone, have no interval
    if a.equals(b):
        return
    n_problems = len(a.index.union(b.index))
    for name, score in SCORES.items():
        if not (score.is_known(a) and score.is_known(b)):
            continue
        row = {"quantity": Quantity(name), "unit": score.unit, "n_problems": n_problems}
        yield facts | row | of_estimate(score.difference(a, b, run.study.seed))


def explanation(run: Run, arms: Arms, fits: Fits) -> Rows:
    """What could make one arm teach better, side by side: rates with intervals, and counts (their own low and high)."""
    for facts, samples, profile in profiles(arms):
        facts |= {"base": ""}
        for quantity, (numerators, denominators) in ratios(profile, samples.all_judged).items():
            bounds = _bounds(quantity, numerators)
            estimate = intervals.ratio(numerators, denominators, seed=run.study.seed, bounds=bounds)
            row = {"quantity": quantity, "unit": _unit(quantity), "n": int(denominators.sum())}
            yield facts | row | of_estimate(estimate)
        total = samples.totals.loc[facts["budget"]]
        n_examples = round(total["n_examples"])
        yield facts | _count(Quantity.EXAMPLES, n_examples, n_examples)
        yield facts | _count(Quantity.PROBLEMS, total["n_example_problems"], n_examples)
        yield facts | _count(Quantity.REPEATED_EXAMPLES, total["n_repeated_examples"], n_examples)
    yield from _epochs(run)
    for (base, arm, budget), sums in fits.items():
        facts = {"arm": arm, "budget": budget, "base": base, "n": len(sums)}
        for name, score in SCORES.items():
            if not score.is_known(sums):
                continue
            estimate = of_estimate(score.value(sums, run.study.seed))
            yield facts | {"quantity": Quantity(name), "unit": score.unit} | estimate


def _epochs(run: Run) -> Rows:
    """How often the main recipe's students saw their examples: the mean over training seeds, and over bases too where
    all saw them equally often."""
    reports: dict[tuple[str, str, str], list[dict]] = {}
    for student, entry in run.plan.students.items():
        if (entry.source, entry.recipe) == ("arm", MAIN):
            report = read_json(run.path("04", student, "report.json"))
            reports.setdefault((entry.arm, entry.budget, entry.base), []).append(report)
    rows = []
    for (arm, budget, base), of_seeds in reports.items():
        facts = {"arm": arm, "budget": budget, "base": base}
        epochs = np.mean([report["epochs"] for report in of_seeds])
        n_examples = np.mean([report["n_examples"] for report in of_seeds])
        rows.append(facts | _count(Quantity.EPOCHS, float(epochs), round(n_examples)))
    by_arm = {(row["arm"], row["budget"], row["value"]): row | {"base": ""} for row in rows}
    are_alike = len(by_arm) == len({(row["arm"], row["budget"]) for row in rows})
    yield from by_arm.values() if are_alike else rows


def _count(quantity: Quantity, count: float, n: int) -> dict:
    estimate = (count, count, count)
    return {"quantity": quantity, "unit": "count", "n": n} | of_estimate(estimate)
