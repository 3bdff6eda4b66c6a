"""From tables to words: the answer, why it may be so, what limits it, and what was not run."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd

from wcse_lib.budget import unspent
from wcse_lib.store import read_json, write_json
from wcse_lib.study import Run, Study

PRIMARY, ALL = "greedy pass@1", "all students"  # the metric and the rows that the answer is about
GOOD = {  # what could make an arm's examples teach better: quantity -> (words, +1 where more is better)
    "coverage": ("higher coverage", 1),
    "sound coverage": ("higher coverage by sound reasoning", 1),
    "solutions per solved problem": ("more different solutions per solved problem", 1),
    "false-positive rate": ("fewer false positives", -1),
    "duplicates among correct": ("fewer duplicates", -1),
}
COUNTS = {"examples": ("more examples", 1), "epochs": ("fewer epochs over them", -1)}
UNCORRECTED = "95 % intervals, not corrected for their number"
REMOVES = [  # which recipes make which explanations equal between arms, and what they do in words
    (
        lambda r: r.per_problem == 1,
        ["more different solutions per solved problem", "fewer duplicates"],
        "one correct sample a problem",
    ),
    (lambda r: (r.per_problem or 0) > 1, [], "at most {r.per_problem} a problem"),
    (
        lambda r: r.n_examples == "equal",
        ["more examples", "fewer epochs over them"],
        "as many examples for every arm",
    ),
    (
        lambda r: r.n_samples == "reference",
        [
            "higher coverage",
            "higher coverage by sound reasoning",
            "more examples",
            "fewer epochs over them",
        ],
        "as many samples a problem as the reference arm",
    ),
    (lambda r: r.filter == "judge", ["fewer false positives"], "only samples judged sound"),
    (lambda r: r.filter == "none", [], "no filter"),
    (lambda r: r.noise, [], "{r.noise:.0%} wrong examples"),
]


def whole(table: pd.DataFrame) -> pd.Series:
    """Which rows speak for all students of a comparison: those over all bases, and a base's own where it is the only one."""
    keys = table.columns.intersection(
        ["set", "comparison", "recipe", "arm_a", "arm_b", "budget", "metric"]
    )
    pooled = table["base"] == ALL
    return pooled | ~pooled.groupby([table[key] for key in keys]).transform("any")


def settled(table: pd.DataFrame) -> pd.Series:
    """Which differences count as shown: their interval excludes zero, and where several were compared so that there is a
    p corrected for their number, that is below 0.05 too."""
    return ((table["low"] > 0) | (table["high"] < 0)) & ~(table["p_holm"] >= 0.05)


def primary(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows that the answer is about, and whether they are `settled`: students' greedy pass@1 over all bases, or
    without students the samples' pass@1. Corrected together (`p_holm`), so that of equal arms one is called better in 5 %
    of draws of problems, however many arms and budgets there are; of training seeds p knows nothing."""
    if len(table := tables.get("differences", pd.DataFrame())):
        table = table[(table["metric"] == PRIMARY) & whole(table)]
    else:
        table = tables.get(
            "arm_differences", pd.DataFrame(columns=["metric", "low", "high", "p_holm"])
        )
        table = table[table["metric"] == "pass@1"]
    return table.assign(settled=settled(table))


def answer(run: Run, tables: dict[str, pd.DataFrame], paper: bool = False) -> dict:
    """The study's answer in words, every number from the tables; also written to `06_analyze/answer.json`.

    `paper`: lay the paper's coverage over the figure even where the problems are neither MATH's nor GSM8K's.
    """
    rows, students = primary(tables), len(tables.get("differences", ())) > 0
    told = (
        rows[(rows["arm_b"] == run.study.budget.reference) | rows["settled"]] if len(rows) else rows
    )
    what = "students' greedy pass@1 on held-out problems" if students else "pass@1 of the samples"
    names = [
        part
        for place in (run.study.dataset.path, run.study.dataset.train)
        for part in Path(place or "").parts[-2:]
    ]
    data = "training set" if students else "samples"
    sentences = [_sentence(run, row, len(rows)) for row in told.itertuples()]
    if len(told) < len(rows):
        sentences.append(
            f"The other {len(rows) - len(told)} comparisons, of arms other than {run.study.budget.reference}, are not settled and stand in the table."
        )
    if len(rows) > 1:
        sentences.append(
            f"These are {len(rows)} comparisons: a difference counts as shown only where its p, corrected for all of them (Holm), is below 0.05 too."
        )
    result = {
        "headline": headline(rows, data),
        "paragraph": f"Measured by {what}: " + " ".join([*sentences, *_controlled(tables)]),
        "why": why(run.study, tables, told) if students else [],
        "notes": _notes(run, tables, told, len(rows)),
        "not_run": _not_run(run, tables),
        "paper": next(
            (name for name in ("GSM8K", "MATH") if _named(name, names)), "MATH" if paper else None
        ),
    }
    write_json(run.path("06", "answer.json"), result)
    return result


def headline(rows: pd.DataFrame, data: str) -> str:
    """One sentence on which arm gave the better `data`, from `primary` rows."""
    won = [
        (r.arm_a, r.arm_b, r.budget) if r.value > 0 else (r.arm_b, r.arm_a, r.budget)
        for r in rows.itertuples()
        if r.settled
    ]
    if not len(rows):
        return "This study has one arm: there is nothing to compare."
    if not won:
        return f"No difference between the arms' {data} could be shown at any budget."
    if len(won) == len(rows) and len({pair[:2] for pair in won}) == 1:
        return f"At every budget, {won[0][0]} gave the better {data}."
    wins = _and(
        list(
            dict.fromkeys(
                f"{better} rather than {worse} at the budget “{b}”" for better, worse, b in won
            )
        )
    )
    rest = "" if len(won) == len(rows) else "; elsewhere no difference could be shown"
    return f"It depends: the better {data} came from {wins}{rest}."


def _named(word: str, names: list[str]) -> bool:
    """Whether a word stands by itself in one of the names of files, folders or hub ids."""
    return any(re.search(rf"(?<![a-z]){word}(?![a-z])", name, re.IGNORECASE) for name in names)


def _controlled(tables) -> list[str]:
    """Whether the controls separate good data from bad: students of reference solutions above those of wrong samples, or
    where there are none of these, above their bases. Every base must pass, so that their number needs no correction."""
    table = tables.get("controls")
    if table is None or not len(table):
        return []
    rows = table[table["metric"] == PRIMARY]
    told = rows[rows["comparison"] == "wrong - reference"]
    told = told if len(told) else rows[rows["comparison"] == "reference - base"]
    if told.empty:
        return []
    sign = -1 if told["comparison"].iloc[0].startswith("wrong") else 1
    fails = [r.base for r in told.itertuples() if not (r.low > 0 if sign > 0 else r.high < 0)]
    without = sorted(set(rows["base"]) - set(told["base"])) if sign < 0 else []
    note = (
        f" No wrong samples to learn from were drawn for {_and(without)}, whose model is no arm."
        if without
        else ""
    )
    if not fails:
        return [
            f"The controls separate good data from bad for every student that has them ({_and(list(told['base']))}).{note}"
        ]
    return [
        f"The controls do not separate good data from bad for {_and(fails)}: there this study cannot tell.{note}"
    ]


def _sentence(run: Run, row, n_rows: int) -> str:
    a, z = (run.arm(arm)["samples"][row.budget] for arm in (row.arm_a, row.arm_b))
    base = f", student {row.base}" if getattr(row, "base", ALL) != ALL else ""
    sure = (
        "; the interval holds zero, so the sign is not settled" if row.low <= 0 <= row.high else ""
    )
    if not (row.settled or sure):
        sure = f"; the interval excludes zero, but corrected for {n_rows} comparisons p = {row.p_holm:.2f}, so the sign is not settled"
    return (
        f"At the budget “{row.budget}”{base} ({a:g} against {z:g} samples a problem) {row.arm_a} minus {row.arm_b} is {_told(row)[:-1]}, "
        f"95 % interval, n = {row.n_problems} problems{sure})."
    )


def why(study: Study, tables: dict[str, pd.DataFrame], rows: pd.DataFrame) -> list[str]:
    """A paragraph for each of `rows` (primary differences): which explanations the data support, which not, and which
    they cannot tell apart. A quantity speaks for an arm when its paired difference excludes zero in that direction; that
    it is the reason can only be said by a recipe that takes it away, from the `gap` that this leaves or closes."""
    return [_because(study, tables, row) for row in rows.itertuples()]


def _because(study: Study, tables, row) -> str:
    a, z, b = row.arm_a, row.arm_b, row.budget
    for_a, for_z, undecided = _evidence(study, tables, a, z, b)
    if not row.settled:
        named = [
            f"{arm} has {_and([*words.values()])}"
            for arm, words in ((a, for_a), (z, for_z))
            if words
        ]
        lead = f"At {b}, whether {a}'s or {z}'s students are better is not settled, so there is no effect to explain"
        return (
            f"{lead}, although the data differ ({UNCORRECTED}): {'; '.join(named)}."
            if named
            else f"{lead}, nor do the data differ clearly."
        )
    winner, supports, against = (a, for_a, for_z) if row.value > 0 else (z, for_z, for_a)
    told = [
        f"What could explain that {winner}'s students are better at {b} (differences are {a} minus {z}; {UNCORRECTED}): {_and([*supports.values()]) or 'nothing that was measured'}."
    ]
    told += (
        [f"Against it: {z if winner == a else a} has {_and([*against.values()])}."]
        if against
        else []
    )
    told += [f"Not settled either way: {_and([*undecided.values()])}."] if undecided else []
    tested, found = _tested(study, tables, a, z, b, np.sign(row.value))
    left = [words for words in supports if words not in tested]
    if len(left) > 1:
        found.append(
            f"This study cannot tell apart {_and(left)}: they go together in its arms, and no recipe took one away and left the others."
        )
    elif left:
        found.append(f"That {left[0]} is the reason is a guess: no recipe took it away.")
    return " ".join([*told, *found])


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _evidence(study: Study, tables, a: str, z: str, b: str) -> tuple[dict, dict, dict]:
    """What speaks for `a`, for `z` and for neither: the explanation in words -> the same with its numbers."""
    out: tuple[dict, dict, dict] = ({}, {}, {})
    table = tables.get("arm_differences", pd.DataFrame(columns=["arm_a", "arm_b", "budget"]))
    for r in table[
        (table["arm_a"] == a) & (table["arm_b"] == z) & (table["budget"] == b)
    ].itertuples():
        words, sign = GOOD.get(
            r.metric, (f"higher {r.metric}" if r.metric.startswith("log-l") else "", 1)
        )
        if words and (
            study.curation.unique == "none" or words != "fewer duplicates"
        ):  # else there are none among examples
            out[2 if r.low <= 0 <= r.high else int(sign * r.value < 0)][words] = (
                f"{words} ({_told(r)[:-1].replace(' (', ', ')})"
            )
    counts = (
        tables["explanation"][tables["explanation"]["budget"] == b]
        .groupby(["quantity", "arm"])["value"]
        .mean()
    )
    for quantity, (words, sign) in COUNTS.items():
        if (
            (quantity, a) in counts
            and (quantity, z) in counts
            and counts[quantity, a] != counts[quantity, z]
        ):
            x, y = counts[quantity, a], counts[quantity, z]
            both = sorted((x, y), reverse=sign > 0)
            out[int(sign * (x - y) < 0)][words] = f"{words} ({both[0]:,.4g} against {both[1]:,.4g})"
    return out


def _tested(
    study: Study, tables, a: str, z: str, b: str, sign: float
) -> tuple[list[str], list[str]]:
    """Which explanations the study's recipes took away, and what became of the difference then."""
    if "ablations" not in tables:
        return [], []
    table, tested, out = tables["ablations"], [], []
    table = table[
        (table["arm_a"] == a)
        & (table["arm_b"] == z)
        & (table["budget"] == b)
        & (table["metric"] == PRIMARY)
    ]
    table = table[whole(table)].assign(settled=settled(table))
    for recipe, rows in table.groupby("recipe", sort=False):
        removed, words = _removes(study, recipe)
        for base, both in rows.groupby("base", sort=False):
            kinds = both.drop_duplicates("comparison").set_index("comparison")
            if not {"arms", "gap"} <= set(kinds.index):
                continue
            gap, change = kinds.loc["arms"], kinds.loc["gap"]
            said = f"With “{recipe}” ({words}; {base}) the difference is {_told(gap)}, changed by {_told(change)}: "
            if sign * change.value < 0 and change.settled:
                out.append(
                    said
                    + f"at least part of the reason is {_and(removed) or 'what this takes away'}."
                )
                tested += removed
            elif sign * gap.value > 0 and gap.settled:
                out.append(
                    said
                    + f"the difference stands, so that not all of the reason is {_and(removed) or 'what this takes away'}."
                )
                tested += removed
            else:
                out.append(said + "whether that matters is not settled.")
    return tested, out


def _told(row) -> str:
    """A difference with its interval, in its unit."""
    unit = getattr(row, "unit", "points")
    factor, shape = (100, "+.1f") if unit == "points" else (1, "+.2f")
    value, low, high = (
        f"{factor * x:{shape}}".replace("-", "−") for x in (row.value, row.low, row.high)
    )
    return f"{value} {unit} ({low} to {high})"


def _removes(study: Study, recipe: str) -> tuple[list[str], str]:
    """The explanations that a recipe makes equal between arms, and what it does in words."""
    recipe = study.recipes[recipe]
    fits = [(removed, words.format(r=recipe)) for fit, removed, words in REMOVES if fit(recipe)]
    removed = [
        words
        for part, _ in fits
        for words in part
        if study.curation.unique == "none" or words != "fewer duplicates"
    ]
    return removed, ", ".join(words for _, words in fits) or "other settings"


def _notes(run: Run, tables, told: pd.DataFrame, n_rows: int) -> list[str]:
    """What limits the numbers: matching, power, judges, controls, lengths, seeds, what was left out."""
    notes = [_matched(run.study), *unspent(run.plan["arms"])]
    reach = (
        NormalDist().inv_cdf(1 - 0.025 / max(n_rows, 1)) + 0.84
    )  # of as many comparisons as the answer makes
    for row in told.itertuples():
        least = reach * (row.high - row.low) / 3.92
        notes.append(
            f"Power, {row.arm_a} against {row.arm_b} at {row.budget}: a true difference below about {100 * least:.1f} points would be missed more often than one time in five."
        )
    for row in tables.get("false_positives", pd.DataFrame()).itertuples():
        bound = "at least " if row.judge == "arithmetic" else ""
        judge = {"model": "model judge, uncorrected for its own errors"}.get(
            row.judge, row.judge if "," in row.judge else f"{row.judge} judge"
        )
        share = f"{100 * row.value:.1f} % of {row.n} correct samples ({judge}; {100 * row.low:.1f} to {100 * row.high:.1f} %)"
        notes.append(f"False positives of {row.arm} at {row.budget}: {bound}{share}.")
    for row in tables.get("controls", pd.DataFrame()).itertuples():
        if row.metric == PRIMARY:
            notes.append(
                f"Control, {row.base}: {row.comparison.replace('-', '−')} is {_told(row)}."
            )
    for row in tables["ledger"].itertuples() if "ledger" in tables else ():
        if (
            row.stage == "02_generate"
            and row.unit == "flops"
            and pd.notna(row.matched)
            and not row.matched
            and row.planned > 0
        ):
            notes.append(
                f"{row.who} spent {row.ratio:.2f} times its planned FLOPs on {row.kind}: its texts are not as long as the plan assumed."
            )
    for row in tables["quality"].itertuples():
        if row.n_truncated > 0.01 * row.n_samples:
            notes.append(
                f"{row.n_truncated} of {row.arm}'s {row.n_samples} samples at {row.budget} were cut at max_tokens."
            )
        if row.n_unverifiable:
            notes.append(
                f"{row.n_unverifiable} of {row.arm}'s samples at {row.budget} are unverifiable and left out."
            )
    trained = [s for s, e in run.plan["students"].items() if e["source"] != "base"]
    dropped = {
        s: n
        for s in trained
        if (n := read_json(run.path("04", s, "report.json"))["n_dropped_long"])
    }
    notes += [
        f"{n} examples of {s} were longer than training.max_tokens and left out."
        for s, n in dropped.items()
    ]
    if len(run.study.training.seeds) > 1 and trained:
        notes.append(
            "Intervals of students' differences count problems and training seeds as drawn; p values, corrected or not, problems alone."
        )
    return notes


def _matched(study: Study) -> str:
    """By what the arms' budgets are equal, and what that leaves out."""
    b, verified = study.budget, "verification"
    if b.match not in ("flops", "price"):
        what = {
            "count": "number of samples",
            "seconds": "measured seconds",
            "examples": "expected number of examples",
            "coverage": "expected coverage",
        }
        return f"Arms are matched by {what[b.match]}; {verified} is left out of the match."
    unit = "FLOPs (2·P per token)" if b.match == "flops" else "price"
    prompts = {
        "none": "",
        "once": "once a problem",
        "each": "with every sample",
        "cached": "from a cache after the first",
    }
    told = ["at each arm's measured lengths" if b.lengths == "measured" else "at equal lengths"]
    told += [f"prompts counted {prompts[b.prompt_tokens]}"] * (b.prompt_tokens != "none")
    told += ["attention counted"] * (b.attention and b.match == "flops")
    left = (
        ["prompt tokens"] * (b.prompt_tokens == "none")
        + ["attention"] * (b.match == "flops" and not b.attention)
        + [verified]
    )
    return f"Arms are matched by {unit}, {', '.join(told)}; {_and(left)} {'are' if len(left) > 1 else 'is'} left out of the match."


def _not_run(run: Run, tables) -> list[str]:
    """What a reader may expect to find here and will not."""
    out, study = [], run.study
    if "sound_coverage" not in tables or tables["sound_coverage"]["arm"].nunique() < len(
        run.plan["arms"]
    ):
        out.append(
            "Coverage without false positives is shown only for arms all of whose correct samples were judged."
        )
    if not study.students:
        return [*out, "The study has no students: it compares the data alone."]
    if len(study.training.seeds) == 1:
        out.append(
            "Each student was trained with one seed: intervals cover the choice of problems, not the luck of training."
        )
    if not study.recipes:
        out.append(
            "No ablations: the study has no further recipes, so that reasons for a difference cannot be separated."
        )
    if not any(row.startswith("log-likelihood") for row in tables["explanation"]["quantity"]):
        out.append("The examples' likelihood under the base students was not measured.")
    if "transfer" not in tables:
        out.append("No transfer: students were tested on one set of held-out problems.")
    return out
