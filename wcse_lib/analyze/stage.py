"""Room 06: from rows on disk to tidy tables with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from wcse_lib import budget, forecast, intervals, metrics
from wcse_lib import train as finetune
from wcse_lib import verify as judges
from wcse_lib.analyze.outcome import outcomes
from wcse_lib.analyze.tables import write_tables
from wcse_lib.analyze.words import ALL, PRIMARY, whole
from wcse_lib.budget import ledger_table
from wcse_lib.plan import MAIN
from wcse_lib.store import (
    KEY,
    StudyError,
    iter_samples,
    problem_range_filter,
    read_json,
    read_parquet,
    read_pieces,
)
from wcse_lib.study import Run
from wcse_lib.verdicts import JUDGEMENT_COLUMNS, decided

KINDS = {
    "text": metrics.text_key,
    "normalised": metrics.normalised_key,
    "equations": metrics.equation_key,
}
QUANTITIES = {  # of an arm at a budget, from `_profile`: unit, and per problem what is divided by what
    "pass@1": ("points", lambda p: (p["c"] / p["n"].clip(lower=1), p["n"] > 0)),
    "coverage": ("points", lambda p: (p["c"] > 0, p["n"] >= 0)),
    "sound coverage": (
        "points",
        lambda p: ((p["sound"] > 0).where(p["sound"].notna()), p["n"] >= 0),
    ),
    "false-positive rate": ("points", lambda p: (p["false"], p["judged"])),
    "duplicates among correct": ("points", lambda p: (p["c"] - p["text"], p["c"])),
    "solutions per solved problem": ("solutions", lambda p: (p["equations"], p["c"] > 0)),
}
FALSE_POSITIVES = ["arm", "budget", "judge", "n", "n_false", "value", "low", "high"]
WIDE = (-np.inf, np.inf)
VOTES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class ArmTables:
    """An arm's samples as small tables, by problem or counted; gathered a few problems at a time (`_gather`).

    Of the samples that numbers at k come from (`_first`), sorted by problem: `problems` (n, c correct, sound, agreement, and
    of the vote among k `accuracy@k`, `tie_rate@k`, `no_answer_rate@k`) and `unique` (of each kind of sameness, different
    correct solutions among k: columns (kind, k)). `at`: budget -> per problem n, c, sound, judged, false, different texts
    and equations, level. `totals`: by budget, of its samples and main examples. `judged`: judges.by_problem and a model's
    judges.calibration, by budget. `lengths`: verdict, sum of tokens, size, by problem. `tokens`: verdict, n_tokens,
    finish_reason, size. `sound` is NaN where not every correct sample was judged.
    """

    problems: pd.DataFrame
    unique: pd.DataFrame
    at: dict[str, pd.DataFrame]
    totals: pd.DataFrame
    judged: pd.DataFrame
    lengths: pd.DataFrame
    tokens: pd.DataFrame
    flops_per_sample: float
    judge: str


def analyze(run: Run, ngrams: bool = False) -> dict[str, pd.DataFrame]:
    """Compute every table of the study from its files alone, write `06_analyze/tables/*.csv` and return them by name.

    `ngrams` adds diversity by clusters of reworded solutions (slow where a problem has thousands of correct samples).
    `ablations` and `transfer` are about other recipes and held-out sets; every other table about the main ones. Raises
    StudyError naming the file that an unfinished stage lacks.
    """
    arms = {arm: _gather(run, arm, ngrams) for arm in run.plan["arms"]}
    at = {(arm, b): table for arm, found in arms.items() for b, table in found.at.items()}
    likely = _likelihoods(run)
    tables = {
        "quality": _quality(run, arms, at),
        "coverage": _coverage(run, arms, "c"),
        "sound_coverage": _coverage(run, arms, "sound"),
        "diversity": _diversity(run, arms),
        "false_positives": _false_positives(run, arms),
        "levels": _levels(run, at),
        "lengths": _lengths(run, arms),
        "self_agreement": _self_agreement(run, arms),
        "arm_votes": _arm_votes(run, arms),
        "flow": pd.concat(
            [read_parquet(run.path("03", arm, "flow.parquet")) for arm in arms], ignore_index=True
        ),
        "arm_differences": _arm_differences(run, at, likely),
        "explanation": _explanation(run, arms, likely),
    }
    if run.plan["students"]:
        scores = {s: _scores(run, s) for s in run.plan["students"]}
        groups, sets = _groups(run, scores), run.sets()
        tables |= {
            "students": _students(run, scores, sets),
            "differences": _differences(run, groups, sets, ["held_out"]),
            "ablations": _ablations(run, groups, sets),
            "transfer": _differences(
                run, groups, sets, [s for s in sets.unique() if s != "held_out"]
            ),
            "controls": _controls(run, groups, sets, at),
            "student_false_positives": _student_false_positives(run, sets),
            "training": _training(run),
        }
    tables["forecast"] = _forecast(run)
    tables["ledger"] = ledger_table(run)
    tables = {name: frame for name, frame in tables.items() if len(frame)}
    write_tables(run.path("06", "tables"), tables)
    return tables


def _row(estimate, **facts) -> dict:
    return facts | dict(zip(("value", "low", "high"), map(float, estimate)))


def _gather(run: Run, arm: str, ngrams: bool) -> ArmTables:
    """Read an arm's samples, a few problems at a time, and keep of them what the tables need."""
    (limit, least), problems = (
        _first(run, arm),
        read_parquet(run.path("01", "train.parquet"), ["problem_id", "level"]),
    )
    budgets, votes = (
        run.arm(arm)["samples"],
        sorted(k for k in {*run.study.evaluation.maj_k, *VOTES} if 1 <= k <= least),
    )
    found, lost, who, solved, every = (
        defaultdict(list),
        {b: set() for b in budgets},
        {},
        False,
        True,
    )
    for rows, examples, judged in _pieces(run, arm, problems):
        solved, every = (
            solved or rows["correct"].any(),
            every and not (rows["correct"] & rows["judge"].isna()).any(),
        )
        known = _known(rows)
        even = known[known["sample_index"] < limit]
        who |= dict.fromkeys(even["judge"].dropna())
        found["problems"].append(_by_problem(even, votes))
        found["unique"].append(_unique(even, {k for k in budgets.values() if k <= least}, ngrams))
        found["flops"].append(even["flops"].agg(["sum", "count"]))
        for b in budgets:
            drawn, own = run.rows_of_budget(rows, arm, b), examples[examples["budget"] == b]
            known = _known(drawn)
            lost[b] |= set(drawn["problem_id"]) - set(known["problem_id"])
            found["at", b].append(_profile(known))
            found["totals"].append(
                {
                    "budget": b,
                    "samples": len(known),
                    "unverifiable": len(drawn) - len(known),
                    "truncated": (known["finish_reason"] == "length").sum(),
                    "repeated": known.duplicated(["problem_id", "text"]).sum(),
                    "flops": known["flops"].sum(),
                    "n_flops": known["flops"].count(),
                    "examples": len(own),
                    "problems": own["problem_id"].nunique(),
                    "repeated_examples": own.duplicated(["problem_id", "text"]).sum(),
                }
            )
            own = run.rows_of_budget(judged, arm, b)
            found["judged"].append(judges.by_problem(own).assign(budget=b))
            if (own["judge"] == "model").any():
                found["judged"].append(judges.calibration(own).assign(budget=b))
        rows = rows[rows["n_tokens"] >= 0]
        rows = pd.concat([rows.assign(verdict="all"), rows])
        found["lengths"].append(
            rows.groupby(["verdict", "problem_id"])["n_tokens"]
            .agg(["sum", "size"])
            .reset_index("verdict")
        )
        found["tokens"].append(rows.groupby(["verdict", "n_tokens", "finish_reason"]).size())
    if not found:
        raise StudyError(
            f"{run.path('02', arm)}: no sample of this plan's problems; run 02_generate and 03_verify for {arm} first"
        )
    levels, at = problems.set_index("problem_id").sort_index()["level"], {}
    for b in budgets:
        at[b] = (
            pd.concat(found["at", b])
            .reindex(levels.index.difference(lost[b]), fill_value=0)
            .assign(level=levels)
        )
    table = pd.concat(found["problems"])
    if not (solved and every):
        table["sound"] = np.nan
        at = {b: profile.assign(sound=np.nan) for b, profile in at.items()}
    flops, n = sum(found["flops"])
    return ArmTables(
        table,
        pd.concat(found["unique"]),
        at,
        pd.DataFrame(found["totals"]).groupby("budget").sum(),
        pd.concat(found["judged"]),
        pd.concat(found["lengths"]),
        pd.concat(found["tokens"]).groupby(level=[0, 1, 2]).sum().reset_index(name="size"),
        flops / n if n else np.nan,
        next(iter(who), ""),
    )


def _pieces(
    run: Run, arm: str, problems: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]:
    """A few problems' samples with verdict, judgement and the keys of correct ones, by key; their main examples; and every
    judge's judgements of correct ones.

    `false`: correct and judged unsound. `judged`: correct and judges.decided. `sound`: correct and not judged unsound,
    an upper bound where the judge finds some faults only.
    """
    size = {
        spec["model"]: spec["n_parameters"]
        for spec in run.plan["arms"].values()
        if spec["n_parameters"]
    }
    verdicts, own, others, examples = (
        run.path("03", arm, f"{name}.parquet")
        for name in ("verdicts", "judgements", "other_judgements", "examples")
    )
    for frame in iter_samples(
        run.path("02", arm), [*KEY, "text", "n_tokens", "finish_reason", "model"]
    ):
        near = problem_range_filter(frame)
        frame = frame[frame["problem_id"].isin(problems["problem_id"])]
        frame = frame.merge(
            read_parquet(verdicts, [*KEY, "extracted", "verdict"], near),
            on=KEY,
            validate="one_to_one",
        )
        judged = read_parquet(own, JUDGEMENT_COLUMNS, near).drop_duplicates(KEY)
        flags = judged[[*KEY, "judge"]].assign(
            false=judged["sound"].isin([False]), judged=decided(judged)
        )
        frame = frame.merge(flags, on=KEY, how="left", validate="one_to_one")
        correct, known = (
            frame["verdict"] == "correct",
            frame["n_tokens"].where(frame["n_tokens"] >= 0),
        )
        frame["correct"] = correct
        frame["false"], frame["judged"] = (
            frame[c].isin([True]) & correct for c in ("false", "judged")
        )
        frame["sound"] = (correct & ~frame["false"]).astype(float)
        frame["flops"] = (
            budget.sampling_flops(1, 1) * frame["model"].map(size).astype(float) * known
        )
        for kind, key in KINDS.items():
            frame[f"kind_{kind}"] = [
                key(text) if right else None for text, right in zip(frame["text"], correct)
            ]
        judged = pd.concat(
            [judged, read_parquet(others, JUDGEMENT_COLUMNS, near)], ignore_index=True
        )
        if len(frame):
            yield (
                frame,
                read_parquet(examples, None, [*near, ("recipe", "==", MAIN)]),
                judged.merge(frame.loc[correct, KEY], on=KEY),
            )


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["verdict"] != "unverifiable"]


def _first(run: Run, arm: str) -> tuple[float, int]:
    """Of which samples numbers at k are made (those below the first number), and how many every problem has at least.

    An adaptive arm's n follows from its first samples, which biases counts out of n: of such an arm each problem's
    first samples alone are taken, as many as all have.
    """

    def sizes(limit: float) -> pd.Series:
        pieces = map(
            _known,
            read_pieces(
                run.path("03", arm, "verdicts.parquet"), ["problem_id", "sample_index", "verdict"]
            ),
        )
        counts = [
            rows[rows["sample_index"] < limit].groupby("problem_id").size() for rows in pieces
        ]
        return pd.concat(counts or [pd.Series(dtype=int)]).groupby(level=0).sum()

    limit, spec = np.inf, run.study.arms.get(arm)
    if spec is not None and spec.adaptive:
        problems = read_parquet(run.path("01", "train.parquet"), ["problem_id"])["problem_id"]
        limit = sizes(limit).reindex(problems, fill_value=0).min()
    n = sizes(limit)
    return limit, int(n.min()) if len(n) else 0


def _by_problem(rows: pd.DataFrame, votes: list[int]) -> pd.DataFrame:
    """What `ArmTables.problems` holds of these samples."""
    out = rows.groupby("problem_id").agg(
        n=("correct", "size"), c=("correct", "sum"), sound=("sound", "sum")
    )
    answers, correct = _lists(rows, "extracted"), _lists(rows, "correct")
    out["agreement"] = metrics.self_agreement(answers) if len(rows) else np.nan
    for k in votes if len(rows) else ():
        out[[f"{name}@{k}" for name in ("accuracy", "tie_rate", "no_answer_rate")]] = (
            metrics.majority_details(answers, correct, k).to_numpy()
        )
    return out


def _unique(rows: pd.DataFrame, ks: set[int], ngrams: bool) -> pd.DataFrame:
    """What `ArmTables.unique` holds of these samples."""
    correct, n, out = rows[rows["correct"]], rows.groupby("problem_id").size(), {}
    kinds = {kind: correct[f"kind_{kind}"] for kind in KINDS}
    if ngrams:
        kinds["n-grams"] = correct.groupby("problem_id")["text"].transform(metrics.ngram_clusters)
    for kind, keys in kinds.items():
        classes = keys.groupby([correct["problem_id"], keys]).size()
        owner = n.index.get_indexer(classes.index.get_level_values(0))
        for k in ks:
            weights = (
                metrics.coverage_per_problem(n.to_numpy()[owner], classes, k) if len(owner) else []
            )
            out[kind, k] = np.bincount(owner, weights, len(n))
    return pd.DataFrame(out, index=n.index)


def _profile(known: pd.DataFrame) -> pd.DataFrame:
    """What `ArmTables.at` holds of a budget's samples, but for the level. A problem to which the budget gives no sample is then
    unsolved; one all of whose samples are unverifiable is left out."""
    kinds = {kind: (f"kind_{kind}", "nunique") for kind in ("text", "equations")}
    sums = {name: (name, "sum") for name in ("judged", "false", "sound")}
    return known.groupby("problem_id").agg(
        n=("correct", "size"), c=("correct", "sum"), **sums, **kinds
    )


def _quality(run: Run, arms, at) -> pd.DataFrame:
    out = []
    for (arm, b), p in at.items():
        total = arms[arm].totals.loc[b]
        n = int(total["samples"])
        out.append(
            {
                "arm": arm,
                "budget": b,
                "samples_per_problem": run.arm(arm)["samples"][b],
                "n_problems": len(p),
                "n_samples": n,
                "n_correct": int(p["c"].sum()),
                "n_examples": int(total["examples"]),
                "n_truncated": int(total["truncated"]),
                "n_unverifiable": int(total["unverifiable"]),
                "duplicate_rate": total["repeated"] / n if n else np.nan,
                "pass_at_1": float((p["c"] / p["n"])[p["n"] > 0].mean()),
                "coverage": float((p["c"] > 0).mean()),
                "flops_spent": total["flops"] / total["n_flops"] * n
                if total["n_flops"]
                else np.nan,
            }
        )
    return pd.DataFrame(out)


def _coverage(run: Run, arms, flag: str) -> pd.DataFrame:
    """coverage@k for every k that all problems allow; by `sound`: only samples that no judge calls unsound count."""
    out = []
    for arm, found in arms.items():
        if found.problems.empty or found.problems[flag].isna().any():
            continue
        n, c = found.problems["n"].to_numpy(), found.problems[flag].to_numpy().astype(int)
        facts = {"arm": arm} | ({"judge": found.judge} if flag == "sound" else {})
        for k in range(1, n.min() + 1):
            estimate = intervals.bootstrap(
                metrics.coverage_per_problem(n, c, k), seed=run.study.seed
            )
            out.append(
                _row(
                    estimate,
                    **facts,
                    k=k,
                    n_problems=len(n),
                    flops_per_problem=k * found.flops_per_sample,
                )
            )
    return pd.DataFrame(out)


def _diversity(run: Run, arms) -> pd.DataFrame:
    """Different correct solutions among k at each budget, by what counts as the same; `identity`: k · pass@1 over
    coverage@k (over 1 for all problems), which it would be if no two correct samples were the same."""
    out = []
    for arm, found in arms.items():
        n, c = found.problems["n"].to_numpy(), found.problems["c"].to_numpy()
        kinds = dict.fromkeys(kind for kind, _ in found.unique)
        for (kind, b), k in (
            (x, k)
            for kind in kinds
            for x, k in (((kind, b), k) for b, k in run.arm(arm)["samples"].items())
        ):
            if (kind, k) not in found.unique:
                continue
            covered = metrics.coverage_per_problem(n, c, k)
            for average, weights in (("all", np.ones(len(n))), ("solved", covered)):
                if weights.sum() > 0:
                    estimate = intervals.ratio(
                        found.unique[kind, k], weights, seed=run.study.seed, bounds=(0, k)
                    )
                    facts = dict(
                        arm=arm,
                        budget=b,
                        k=k,
                        kind=kind,
                        average=average,
                        n_problems=int((weights > 0).sum()),
                    )
                    out.append(
                        _row(estimate, **facts, identity=float(k * (c / n).sum() / weights.sum()))
                    )
    return pd.DataFrame(out)


def _false_positives(run: Run, arms) -> pd.DataFrame:
    """Share of judged correct samples with unsound reasoning, for the study's judge and every further one, and of a model's
    what is left after correction for its errors, where that can be known."""
    out = []
    for arm, found in arms.items():
        for judge, judged in found.judged.groupby("judge", sort=False):
            make = (
                judges.corrected_table if "corrected by" in judge else judges.false_positive_table
            )
            tables = [
                make(judged[judged["budget"] == b], run.study.seed).assign(budget=b)
                for b in run.arm(arm)["samples"]
            ]
            out += [table.assign(arm=arm)[FALSE_POSITIVES].dropna() for table in tables]
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame(columns=FALSE_POSITIVES)


def _levels(run: Run, at) -> pd.DataFrame:
    out = []
    for (arm, b), p in at.items():
        for level, rows in p[p["level"].astype(bool)].groupby("level"):
            estimate = intervals.bootstrap((rows["c"] > 0).astype(float), seed=run.study.seed)
            out.append(_row(estimate, arm=arm, budget=b, level=level, n_problems=len(rows)))
    return pd.DataFrame(out)


def _lengths(run: Run, arms) -> pd.DataFrame:
    """Tokens per sample, of all samples and by verdict: the mean with its interval, quantiles, the share cut short."""
    out = []
    for arm, found in arms.items():
        bounds = (0, max([run.study.sampling.max_tokens, *found.tokens["n_tokens"]]))
        for verdict, sums in found.lengths.groupby("verdict"):
            tokens = found.tokens[found.tokens["verdict"] == verdict]
            estimate = intervals.ratio(
                sums["sum"], sums["size"], seed=run.study.seed, bounds=bounds
            )
            profile = metrics.length_profile(
                tokens["n_tokens"], tokens["finish_reason"], tokens["size"]
            )
            out.append(
                _row(estimate, arm=arm, verdict=verdict)
                | {k: x for k, x in profile.items() if k != "mean_tokens"}
            )
    return pd.DataFrame(out)


def _self_agreement(run: Run, arms) -> pd.DataFrame:
    """Chance that two samples of a problem give the same answer: high and wrong is what votes cannot mend."""
    out = []
    for arm, found in arms.items():
        if len(values := found.problems["agreement"].dropna()):
            out.append(
                _row(
                    intervals.bootstrap(values, seed=run.study.seed),
                    arm=arm,
                    n_problems=len(values),
                )
            )
    return pd.DataFrame(out)


def _arm_votes(run: Run, arms) -> pd.DataFrame:
    """maj@k of the arms' samples: expected accuracy under a uniform tie-break, tie rate, share without any vote."""
    out = []
    for arm, found in arms.items():
        for k in sorted({*run.study.evaluation.maj_k, *VOTES}):
            if f"accuracy@{k}" in found.problems:
                estimate = intervals.bootstrap(found.problems[f"accuracy@{k}"], seed=run.study.seed)
                rates = {
                    name: float(found.problems[f"{name}@{k}"].mean())
                    for name in ("tie_rate", "no_answer_rate")
                }
                out.append(
                    {"arm": arm} | _row(estimate, k=k, n_problems=len(found.problems)) | rates
                )
    return pd.DataFrame(
        out,
        columns=["arm", "k", "n_problems", "value", "low", "high", "tie_rate", "no_answer_rate"],
    )


def _lists(rows: pd.DataFrame, column: str) -> list[list]:
    """A list per problem, sorted by problem; missing values as None."""
    rows = rows.sort_values("problem_id", kind="stable")
    ids, values = (
        rows["problem_id"].to_numpy(object),
        rows[column].astype(object).where(rows[column].notna(), None),
    )
    return [
        part.tolist()
        for part in np.split(values.to_numpy(), np.flatnonzero(ids[1:] != ids[:-1]) + 1)
    ]


def _pairs(run: Run) -> list[tuple[str, str]]:
    """Arms compared with each other: every other arm minus the reference arm first, then the rest."""
    reference = run.study.budget.reference
    others = [a for a in run.plan["arms"] if a != reference]
    return [(a, reference) for a in others] + list(combinations(others, 2))


def _arm_differences(run: Run, at, likely) -> pd.DataFrame:
    """Paired differences between arms' samples over the problems, in every quantity that both have. Of pass@1, by which a
    study without students is answered, also p (signs flipped over problems with samples of both) and `p_holm` over
    arms × budgets."""
    out = []
    for (a, z), b in ((pair, b) for pair in _pairs(run) for b in run.study.budget.samples):
        both = at[a, b].index.intersection(at[z, b].index)
        sides = [at[arm, b].loc[both] for arm in (a, z)]
        for metric, (unit, get) in QUANTITIES.items():
            x, y = ([np.asarray(part, float) for part in get(p)] for p in sides)
            if len(both) and np.isfinite([x, y]).all() and x[1].any() and y[1].any():
                most = 1.0 if unit == "points" else max(1.0, x[0].max(), y[0].max())
                estimate = intervals.paired_ratio_difference(
                    x, y, seed=run.study.seed, bounds=(0.0, most)
                )
                row = _row(
                    estimate,
                    arm_a=a,
                    arm_b=z,
                    budget=b,
                    metric=metric,
                    unit=unit,
                    n_problems=int(((x[1] > 0) | (y[1] > 0)).sum()),
                )
                if metric == "pass@1":
                    there = (x[1] > 0) & (y[1] > 0)
                    row["p"] = intervals.paired_p(x[0] * there, y[0] * there)
                out.append(row)
        for base in {
            base: None
            for base, arm, budget_ in likely
            if (arm, budget_) == (a, b) and (base, z, b) in likely
        }:
            x, y = likely[base, a, b].align(likely[base, z, b], fill_value=0.0)
            if x.equals(
                y
            ):  # the very same examples, as where a mix is one arm alone: no interval to be had
                continue
            estimate = intervals.paired_ratio_difference(
                x.T.to_numpy(), y.T.to_numpy(), seed=run.study.seed, bounds=WIDE
            )
            facts = dict(
                arm_a=a,
                arm_b=z,
                budget=b,
                metric=f"log-likelihood under {base}",
                unit="nats per token",
            )
            out.append(_row(estimate, **facts, n_problems=len(x)))
    frame = pd.DataFrame(out)
    if len(frame):
        frame["p_holm"], tested = np.nan, frame["metric"] == "pass@1"
        if tested.sum() > 1:
            frame.loc[tested, "p_holm"] = intervals.holm(frame.loc[tested, "p"].to_numpy())
    return frame


def _likelihoods(run: Run) -> dict[tuple, pd.DataFrame]:
    """(base, arm, budget) -> per problem the log-likelihood and tokens of the main examples under the base student."""
    out = {}
    for student, entry in run.plan["students"].items():
        path = run.path("04", student, "likelihood.parquet")
        key = (entry["base"], entry["arm"], entry["budget"])
        if (entry["source"], entry["recipe"]) == ("arm", MAIN) and key not in out and path.exists():
            out[key] = (
                read_parquet(path)
                .groupby("problem_id")[["log_likelihood", "n_tokens"]]
                .sum()
                .astype(float)
            )
    return {key: table for key, table in out.items() if len(table) > 1}


def _explanation(run: Run, arms, likely) -> pd.DataFrame:
    """What could make one arm teach better, side by side: rates with intervals, and counts (their own low and high)."""
    out = []
    for arm, b, p in ((arm, b, p) for arm, found in arms.items() for b, p in found.at.items()):
        facts, total = dict(arm=arm, budget=b, base=""), arms[arm].totals.loc[b]
        for metric, (unit, get) in QUANTITIES.items():
            x, w = (np.asarray(part, float) for part in get(p))
            if np.isfinite(x).all() and w.any():
                estimate = intervals.ratio(
                    x,
                    w,
                    seed=run.study.seed,
                    bounds=(0.0, 1.0 if unit == "points" else max(1.0, x.max())),
                )
                out.append(_row(estimate, **facts, quantity=metric, unit=unit, n=int(w.sum())))
        names = {
            "examples": "examples",
            "problems with examples": "problems",
            "repeated texts among examples": "repeated_examples",
        }
        out += [
            _row([total[x]] * 3, **facts, quantity=name, unit="count", n=int(total["examples"]))
            for name, x in names.items()
        ]
    for student, entry in run.plan["students"].items():
        if (entry["source"], entry["recipe"], entry["seed"]) == (
            "arm",
            MAIN,
            run.study.training.seeds[0],
        ):
            report = read_json(run.path("04", student, "report.json"))
            facts = dict(arm=entry["arm"], budget=entry["budget"], base=entry["base"])
            out.append(
                _row(
                    [report["epochs"]] * 3,
                    **facts,
                    quantity="epochs",
                    unit="count",
                    n=report["n_examples"],
                )
            )
    for (base, arm, b), table in likely.items():
        estimate = intervals.ratio(
            table["log_likelihood"], table["n_tokens"], seed=run.study.seed, bounds=WIDE
        )
        facts = dict(
            arm=arm,
            budget=b,
            base=base,
            quantity="log-likelihood under the base",
            unit="nats per token",
        )
        out.append(_row(estimate, **facts, n=len(table)))
    return pd.DataFrame(out)


def _forecast(run: Run) -> pd.DataFrame:
    """The pilot's forecast beside what came; empty where the study had no pilot."""
    there = "pilot" in run.plan  # else what lies there is of an earlier plan
    return (
        forecast.compare(read_parquet(run.path("01", "forecast.parquet")), outcomes(run))
        if there
        else pd.DataFrame()
    )


def _scores(run: Run, student: str) -> pd.DataFrame:
    """A student's score on every held-out problem (rows) for every metric (columns), sorted by problem; and tie rates."""
    greedy = read_parquet(run.path("05", student, "verdicts-greedy.parquet"))
    rows = read_parquet(run.path("05", student, "verdicts-sampled.parquet"))
    rows = rows.assign(correct=rows["verdict"] == "correct")
    out = pd.DataFrame(
        {PRIMARY: (greedy.set_index("problem_id")["verdict"] == "correct").astype(float)}
    ).sort_index()
    n, c = metrics.counts(rows)
    out["sampled pass@1"] = c / n
    answers, correct, ks = (
        _lists(rows, "extracted"),
        _lists(rows, "correct"),
        run.study.evaluation.maj_k,
    )
    for k in ks:
        details = metrics.majority_details(answers, correct, k)
        out[f"maj@{k}"], out[f"ties@{k}"] = (
            details["accuracy"].to_numpy(),
            details["tie_rate"].to_numpy(),
        )
    return out.assign(**{f"pass@{k}": metrics.coverage_per_problem(n, c, k) for k in ks if k > 1})


def _groups(run: Run, scores: dict[str, pd.DataFrame]) -> dict[tuple, list[pd.DataFrame]]:
    """(base, arm or source, budget, recipe) -> the scores of its students, one per training seed. Pooled examples count
    as an arm; controls and bases stand without budget and recipe."""
    out: dict[tuple, list[pd.DataFrame]] = {}
    for student, entry in run.plan["students"].items():
        plain = (entry["base"], entry["source"], None, None)
        full = (entry["base"], entry["arm"] or entry["source"], entry["budget"], entry["recipe"])
        out.setdefault(full if entry["source"] in ("arm", "pooled") else plain, []).append(
            scores[student]
        )
    return out


def _students(run: Run, scores, sets: pd.Series) -> pd.DataFrame:
    out = []
    for student, frame in scores.items():
        entry = run.student(student)
        facts = {k: entry[k] for k in ("base", "source", "arm", "budget", "paradigm", "seed")}
        facts |= {"student": student, "recipe": entry["recipe"] or MAIN}
        for name, metric in (
            (name, m) for name in sets.unique() for m in frame if not m.startswith("ties@")
        ):
            part = frame[sets.loc[frame.index].to_numpy() == name]
            estimate = intervals.bootstrap(part[metric], seed=run.study.seed)
            ties = part.get(metric.replace("maj@", "ties@")) if metric.startswith("maj@") else None
            facts |= {"set": name, "metric": metric, "n_problems": len(part)}
            out.append(
                _row(estimate, **facts, tie_rate=np.nan if ties is None else float(ties.mean()))
            )
    return pd.DataFrame(out)


def _compared(
    run: Run, groups, within: np.ndarray, plus: list, minus: list, facts: dict, only=None
) -> Iterator[dict]:
    """Paired differences of sums of groups ("arm, budget, recipe" keys), for each base and for the mean of all.

    Seeds are paired by their place and counted as drawn (intervals.nested); p flips signs over problems.
    """
    bases = [
        base for base in run.study.students if all((base, *key) in groups for key in plus + minus)
    ]
    for base in [*bases, ALL] if len(bases) > 1 else bases:
        chosen = bases if base == ALL else [base]
        each = [[groups[name, *key] for name in chosen] for key in plus + minus]
        n_seeds = max(len(group) for side in each for group in side)
        for metric in only or [m for m in each[0][0][0] if not m.startswith("ties@")]:
            tables = [
                np.mean(
                    [
                        np.column_stack([f[metric][within] for f in (g * n_seeds)[:n_seeds]])
                        for g in side
                    ],
                    axis=0,
                )
                for side in each
            ]
            x, y = sum(tables[: len(plus)]), sum(tables[len(plus) :])
            bounds = (-float(len(minus)), float(len(plus)))
            estimate = intervals.nested(x - y, seed=run.study.seed, bounds=bounds)
            p = intervals.paired_p(x.mean(1), y.mean(1))
            out = _row(
                estimate, base=base, **facts, metric=metric, n_problems=len(x), n_seeds=n_seeds
            ) | {"p": p}
            if n_seeds == 1 and len(plus) == 1 and base != ALL and np.isin([x, y], (0, 1)).all():
                out |= dict(zip(("n_only_a", "n_only_b"), intervals.mcnemar(x[:, 0], y[:, 0])))
            yield out


def _holm(rows: list[dict], by: list[str]) -> pd.DataFrame:
    """Adds `p_holm`, p corrected for the number of comparisons in its family; NaN where that is one.

    Within each group of rows those that speak for all students (explanation.whole; the answer is made of these) are one
    family over arms × budgets, and the single bases beside them another: whoever reads only the answer made as many
    comparisons as it has, not as the table has.
    """
    frame = pd.DataFrame(rows)
    if len(frame):
        frame["p_holm"] = np.nan
        for _, part in frame.groupby([*(frame[c] for c in by), whole(frame)]):
            if len(part) > 1:
                frame.loc[part.index, "p_holm"] = intervals.holm(part["p"].to_numpy())
    return frame


def _differences(run: Run, groups, sets: pd.Series, names: list[str]) -> pd.DataFrame:
    """Paired differences between arms' students (main recipe) for every base and budget, on the named sets."""
    paradigm = {
        (e["base"], e["arm"]): e["paradigm"] or ""
        for e in run.plan["students"].values()
        if e["source"] == "arm"
    }
    index, out = next(iter(groups.values()))[0].index, []
    for name, (a, z), b in (
        (n, p, b) for n in names for p in _pairs(run) for b in run.study.budget.samples
    ):
        within, facts = sets.loc[index].to_numpy() == name, {"budget": b, "arm_a": a, "arm_b": z}
        facts = facts if name == "held_out" else {"set": name} | facts
        for row in _compared(run, groups, within, [(a, b, MAIN)], [(z, b, MAIN)], facts):
            out.append({"base": row["base"], "paradigm": paradigm.get((row["base"], a), "")} | row)
    return _holm(out, ["metric"] if names == ["held_out"] else ["metric", "set"])


def _ablations(run: Run, groups, sets: pd.Series) -> pd.DataFrame:
    """What other recipes and pooled examples do: `recipe` (recipe minus main, an arm's own students), `arms` (arm minus
    arm within a recipe), `gap` (that minus the same difference of the main recipe), `pooled` (pooled minus an arm)."""
    index, out = next(iter(groups.values()))[0].index, []
    recipes = list(dict.fromkeys(key[3] for key in groups if key[3] not in (None, MAIN)))
    wanted = [
        ("recipe", arm, arm, r, MAIN, [(arm, r)], [(arm, MAIN)])
        for r in recipes
        for arm in [*run.plan["arms"], "pooled"]
    ]
    for r, (a, z) in ((r, pair) for r in recipes for pair in _pairs(run)):
        wanted.append(("arms", a, z, r, r, [(a, r)], [(z, r)]))
        wanted.append(("gap", a, z, r, MAIN, [(a, r), (z, MAIN)], [(z, r), (a, MAIN)]))
    wanted += [
        ("pooled", "pooled", arm, MAIN, MAIN, [("pooled", MAIN)], [(arm, MAIN)])
        for arm in run.plan["arms"]
    ]
    for (kind, a, z, r, s, plus, minus), b in (
        (w, b) for w in wanted for b in run.study.budget.samples
    ):
        facts = dict(comparison=kind, recipe=r, against=s, arm_a=a, arm_b=z, budget=b)
        sides = [[(arm, b, recipe) for arm, recipe in side] for side in (plus, minus)]
        held_out = sets.loc[index].to_numpy() == "held_out"
        out += _compared(run, groups, held_out, *sides, facts, (PRIMARY, "sampled pass@1"))
    return _holm(out, ["comparison", "metric"])


def _controls(run: Run, groups, sets: pd.Series, at) -> pd.DataFrame:
    """Can the study tell good data from bad? Reference, wrong and base students compared, paired; and the sampler."""
    out, first = [], next(iter(groups.values()))[0]
    within = sets.loc[first.index].to_numpy() == "held_out"
    for a, z in (("reference", "base"), ("wrong", "reference"), ("wrong", "base")):
        sides = [[(a, None, None)], [(z, None, None)]]
        out += _compared(
            run, groups, within, *sides, {"comparison": f"{a} - {z}"}, (PRIMARY, "sampled pass@1")
        )
    out = [
        {k: v for k, v in row.items() if k not in ("p", "n_seeds", "n_only_a", "n_only_b")}
        for row in out
        if row["base"] != ALL
    ]
    e, s = run.study.evaluation, run.study.sampling
    most = max(run.study.budget.samples, key=run.study.budget.samples.get)
    for base, student in run.study.students.items():
        own = next(
            (arm for arm, spec in run.plan["arms"].items() if spec["model"] == student.model), None
        )
        arm = own and run.study.arms[own]
        if (
            arm
            and not arm.adaptive
            and (e.temperature, e.top_k, e.top_p) == (run.study.temperature(arm), s.top_k, s.top_p)
        ):
            x, y = (
                at[own, most].eval("c / n"),
                groups[base, "base", None, None][0]["sampled pass@1"][within],
            )
            estimate, n = intervals.unpaired_difference(x, y, seed=run.study.seed), len(x) + len(y)
            facts = dict(
                comparison="coverage@1 as arm - pass@1 as base",
                metric="sampled pass@1",
                n_problems=n,
            )
            out.append(_row(estimate, base=base, **facts))
    return pd.DataFrame(out)


def _student_false_positives(run: Run, sets: pd.Series) -> pd.DataFrame:
    """Share of the students' correct held-out samples with unsound reasoning: what they learnt beside the answers."""
    out = []
    for student, entry in run.plan["students"].items():
        if not (path := run.path("05", student, "judgements-sampled.parquet")).exists():
            continue
        right = read_parquet(run.path("05", student, "verdicts-sampled.parquet")).query(
            "verdict == 'correct'"
        )
        rows = read_parquet(path).merge(right[KEY], on=KEY)
        table = judges.false_positive_table(
            judges.by_problem(rows[rows["problem_id"].map(sets) == "held_out"]), run.study.seed
        )
        facts = {k: entry[k] for k in ("base", "source", "arm", "budget")} | {
            "recipe": entry["recipe"] or MAIN
        }
        for r in table[table["n"] > 0].itertuples():
            out.append(
                _row((r.value, r.low, r.high), student=student, **facts, judge=r.judge, n=r.n)
            )
    return pd.DataFrame(out)


def _training(run: Run) -> pd.DataFrame:
    """Tidy loss curves of the trained students."""
    trained = [s for s, entry in run.plan["students"].items() if entry["source"] != "base"]
    curves = [
        finetune.report_curves(read_json(run.path("04", s, "report.json"))).assign(student=s)
        for s in trained
    ]
    return (
        pd.concat(curves, ignore_index=True)[
            ["student", "step", "loss", "learning_rate", "accuracy"]
        ]
        if curves
        else pd.DataFrame()
    )


def checks(run: Run, tables: dict[str, pd.DataFrame]) -> dict:
    """Facts about the tables. Raises AssertionError when a value is missing or lies outside its interval."""
    for name, frame in tables.items():
        if {"value", "low", "high"} <= set(frame.columns) and len(frame):
            assert frame[["value", "low", "high"]].notna().all().all(), (
                f"{name}: a value is missing"
            )
            inside = frame["value"].between(frame["low"] - 1e-9, frame["high"] + 1e-9)
            assert inside.all(), f"{name}: a value lies outside its interval"
    assert len(tables["quality"]), "no arm has any sample"
    return {"n_tables": len(tables), "n_rows": int(sum(len(frame) for frame in tables.values()))}
