"""Several studies joined: one table of their differences, one forest plot, one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from wcse_lib.analyze import (
    ALL_BASES,
    PRIMARY_METRIC,
    QUANTITY_WORDS,
    Quantity,
    Table,
    columns,
    metric_words,
    read_tables,
    with_metric_words,
)
from wcse_lib.intervals import Estimate
from wcse_lib.report.layout import figure
from wcse_lib.report.page import render
from wcse_lib.report.paths import without_paths
from wcse_lib.report.sections import Block, PageFigure, page_figure
from wcse_lib.report.style import save, svg
from wcse_lib.report.tables_html import page_table
from wcse_lib.store import StudyError, check_tables, read_json, write_csv, write_text
from wcse_lib.study import MAIN, resolve

PRIMARY = metric_words(*PRIMARY_METRIC)
STUDENT_METRICS = [PRIMARY, "sampled pass@1"]
# of what a study without students is answered by: the shares
SAMPLE_QUANTITIES = [Quantity.COVERAGE, Quantity.SOUND_COVERAGE, Quantity.FALSE_POSITIVE_RATE]
KEYS = ["who", "metric", "arm_a", "arm_b", "budget", "base"]
DIFFERENCE_COLUMNS = [*KEYS, "value", "low", "high", "n_problems", "p_holm", "p"]
POOLED_COLUMNS = [
    *KEYS,
    "setting",
    "value",
    "low",
    "high",
    "tau",
    "n_studies",
    "n_positive",
    "p_sign",
]
# Studies that differ in these alone repeat each other, and may be pooled.
REPEATED = ("seed", "training.seeds", "dataset.*", "arms.*.model", "students.*")
NORMAL_95 = 3.92  # widths of a 95 % interval in standard errors
NO_ERROR = 1e-6  # so that a study without any spread has a finite weight
WHAT = columns.words("comparison") + (columns.Column("base", "student", columns.Kind.WORD),)
DIFFERENCES = Table(
    "comparison",
    None,
    "Every difference",
    columns.words("study", "setting")
    + WHAT
    + columns.words("metric")
    + columns.DIFFERENCE
    + columns.numbers("n_problems")
    + columns.P_VALUES[:1],
)
POOLED = Table(
    "pooled",
    None,
    "Pooled over studies of one setting: tau is the spread of true effects",
    WHAT
    + columns.words("metric", "setting")
    + columns.DIFFERENCE
    + (columns.Column("tau", unit="points"),)
    + columns.numbers("n_studies", "n_positive"),
)
ACCURACIES = Table(
    "accuracies",
    None,
    "Accuracy of every student",
    columns.words("study", "setting", "student", "paradigm", "metric")
    + columns.estimate("accuracy", "%")
    + columns.numbers("n_problems"),
)


@dataclass
class Finished:
    """A study with its plan and tables, and the name by which it stands in the comparison."""

    folder: Path
    plan: dict
    tables: dict[str, pd.DataFrame]
    name: str


def compare(folders: list[str | Path], out: str | Path, varied: Sequence[str] = ()) -> pd.DataFrame:
    """Join the tables of finished studies; returns every difference and, where studies repeat one, what they say
    together.

    Args: folders: studies with `06_analyze/tables`; out: where `comparison.csv`, `accuracies.csv`, `pooled.csv`,
    `figures/studies.*` and `comparison.html` are written; varied: keys that a grid varies. Every parameter in which the
    studies differ is a column of the first two; studies are pooled where these are of REPEATED, and not varied but for
    the seed. Raises StudyError naming the folder for less than two studies, one twice, or one not analysed.
    """
    studies = _read_studies([resolve(folder).resolve() for folder in folders])
    settings = _settings(studies, varied)
    differences = _joined({study.name: _differences(study) for study in studies}, settings)
    accuracies = _joined({study.name: _accuracies(study) for study in studies}, settings)
    if differences.empty:
        raise StudyError(
            f"{studies[0].folder} and others: none of these studies compares two arms, so that there is no "
            "difference to join"
        )
    pooled = pool(differences)
    joined = [(DIFFERENCES, differences), (POOLED, pooled), (ACCURACIES, accuracies)]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for table, rows in joined:
        write_csv(out / f"{table.name}.csv", rows)
    forest = _forest_rows(differences, pooled)
    facts = {
        "title": _title(studies),
        "n_studies": len(studies),
        "answers": _answers(forest),
        "figure": _drawn(forest.dropna(subset="value"), out / "figures"),
        "independent": _are_independent(studies),
        "blocks": [_block(table, rows) for table, rows in joined if len(rows)],
        "studies": {study.name: _own_words(study) for study in studies},
        "settings": settings.set_index("study")["setting"].to_dict(),
    }
    write_text(out / "comparison.html", render("comparison.html.j2", facts))
    return pd.concat([differences, pooled.assign(study="pooled")], ignore_index=True)


def _title(studies: list[Finished]) -> str:
    """The title that all studies share, as a grid's do; else how many there are."""
    titles = {study.plan["study"].get("title") for study in studies}
    shared = titles.pop() if len(titles) == 1 else ""
    return shared or f"{len(studies)} studies compared"


def _block(table: Table, rows: pd.DataFrame) -> Block:
    """A table for the page, of its declared columns alone: the file has the others."""
    rows = _with_comparison(rows)
    names = [column.name for column in table.columns if column.name in rows]
    return Block(table.heading, table=page_table(table, rows[names]), file=f"{table.name}.csv")


def _with_comparison(rows: pd.DataFrame) -> pd.DataFrame:
    """Adds the arms and the budget of a difference in words."""
    if "arm_a" not in rows:
        return rows
    return rows.assign(comparison=rows["arm_a"] + " − " + rows["arm_b"] + " at " + rows["budget"])


def _are_independent(studies: list[Finished]) -> bool:
    """Whether no two studies share their held-out problems."""
    tested_on = {study.plan.get("problems_sha256", {}).get("held_out") for study in studies}
    return len(tested_on) == len(studies)


def _own_words(study: Finished) -> str:
    """What the study says by itself; "" where 06 of an earlier version wrote no answer."""
    file = study.folder / "06_analyze" / "answer.json"
    return read_json(file)["headline"] if file.exists() else ""


def _read_studies(folders: list[Path]) -> list[Finished]:
    """The studies of these folders. Raises StudyError for fewer than two, one twice, or one not analysed."""
    if len(set(folders)) < max(2, len(folders)):
        raise StudyError(
            f"{len(folders)} folders: two or more different studies are needed to compare"
        )
    plans = []
    for folder in folders:
        plans.append(without_paths(read_json(folder / "01_plan" / "plan.json"), folder))
    if len({plan["plan_id"] for plan in plans}) < len(plans):
        raise StudyError(
            f"{', '.join(map(str, folders))}: two of them hold one and the same plan, which would count twice"
        )
    studies = []
    for folder, plan in zip(folders, plans):
        check_tables(folder, plan["plan_id"])
        found = read_tables(folder / "06_analyze" / "tables")
        studies.append(Finished(folder, plan, found, plan["study"]["study"]))
    if len({study.name for study in studies}) < len(studies):
        for study in studies:
            study.name = f"{study.folder.parent.name}/{study.name}"
    return studies


def _settings(studies: list[Finished], varied: Sequence[str]) -> pd.DataFrame:
    """A row per study with every parameter in which they differ, and always the dataset and the seed.

    `setting`: those in words over which nothing is pooled.
    """
    parameters = []
    for study in studies:
        named = study.plan["study"].items()
        parameters.append({key: value for key, value in named if key not in ("study", "title")})
    flat = pd.json_normalize(parameters).map(_hashable)
    differing = [name for name in flat if flat[name].nunique(dropna=False) > 1]
    kept = list(dict.fromkeys(["dataset.name", "seed", *differing]))
    own = [name for name in differing if _is_setting(name, varied)]
    settings = [_setting(row, own) for row in flat[own].to_dict("records")]
    return flat[kept].assign(study=[study.name for study in studies], setting=settings)


def _is_setting(name: str, varied: Sequence[str]) -> bool:
    """Whether studies that differ in a parameter are no repetitions of each other."""
    if name == "seed":
        return False
    is_varied = any(name == key or name.startswith(f"{key}.") for key in varied)
    return is_varied or not any(fnmatch(name, pattern) for pattern in REPEATED)


def _setting(row: dict, names: list[str]) -> str:
    """The parameters of a study in words, each by the end of its key that no other one has."""
    words = []
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        own = [end for end in ends if sum(f".{other}".endswith(f".{end}") for other in names) == 1]
        words.append(f"{(own or ends)[0]} {row[name]}")
    return ", ".join(words)


def _hashable(value):
    return str(value) if isinstance(value, list | dict) else value


def _joined(rows_of: dict[str, pd.DataFrame], settings: pd.DataFrame) -> pd.DataFrame:
    """The studies' rows under each other, the study's name first and its settings last."""
    rows = pd.concat(rows_of, names=["study"]).reset_index("study")
    return rows.merge(settings, on="study")


def _differences(study: Finished) -> pd.DataFrame:
    """A study's paired differences between arms: of its students, and of the samples."""
    parts = []
    if "differences" in study.tables:
        rows = with_metric_words(study.tables["differences"]).assign(who="students")
        parts.append(rows[rows["metric"].isin(STUDENT_METRICS)])
    if "arm_differences" in study.tables:
        rows = study.tables["arm_differences"].assign(who="samples", base="samples")
        rows = rows[rows["quantity"].isin([Quantity.PASS_AT_1, *SAMPLE_QUANTITIES])]
        parts.append(rows.assign(metric=rows["quantity"].map(QUANTITY_WORDS)))
    if not parts:
        return pd.DataFrame(columns=DIFFERENCE_COLUMNS)
    return pd.concat(parts).reindex(columns=DIFFERENCE_COLUMNS)


def _accuracies(study: Finished) -> pd.DataFrame:
    """A study's students of the main recipe on the main held-out problems."""
    if "students" not in study.tables:
        return pd.DataFrame(columns=["student", *KEYS, "value", "low", "high"])
    rows = with_metric_words(study.tables["students"])
    of_main = (rows["set"] == "held_out") & (rows["recipe"] == MAIN)
    rows = rows[of_main & rows["metric"].isin(STUDENT_METRICS)]
    return rows.rename(columns={"seed": "training_seed"})


def pool(rows: pd.DataFrame) -> pd.DataFrame:
    """What several studies say together of one comparison: a random-effects mean and a sign count.

    Groups rows by who, metric, arms, budget, base and setting. `value, low, high`: DerSimonian and Laird's
    between-study variance with Hartung and Knapp's t interval, from each study's own interval (as if normal); `tau`:
    spread of true effects, as a share; `n_positive` of `n_studies`, `p_sign`: exact two-sided sign test. Of two studies
    only the count is given. Studies of the same problems or the same models are not independent: then the interval is
    too narrow and says nothing of other problems.
    """
    pooled = []
    by = [*KEYS, "setting"]
    for key, group in rows.groupby(by, sort=False):
        effects = group["value"].to_numpy(float).round(12)
        widths = (group["high"] - group["low"]).to_numpy(float)
        errors = np.maximum(widths / NORMAL_95, NO_ERROR)
        n_positive, n_negative = int((effects > 0).sum()), int((effects < 0).sum())
        facts = dict(zip(by, key)) | {"n_studies": len(effects), "n_positive": n_positive}
        # A t interval with one degree of freedom tells nothing: two studies are only counted.
        if len(effects) > 2:
            facts |= _random_effects(effects, errors)
            facts["p_sign"] = _sign_test(n_positive, n_negative)
        if len(effects) > 1:
            pooled.append(facts)
    return pd.DataFrame(pooled, columns=POOLED_COLUMNS)


def _random_effects(effects: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """Mean of `effects` [n] with standard errors `errors` [n], its 95 % interval, and the spread of true effects.

    DerSimonian and Laird 1986 for the variance between studies; Hartung and Knapp 2001 for the interval, which is never
    narrower than the studies' own errors make it.
    """
    degrees = len(effects) - 1
    weights = errors**-2
    fixed_mean = weights @ effects / weights.sum()
    heterogeneity = weights @ (effects - fixed_mean) ** 2
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    between = max(0.0, (heterogeneity - degrees) / scale)
    weights = 1 / (errors**2 + between)
    mean = weights @ effects / weights.sum()
    observed = weights @ (effects - mean) ** 2 / degrees
    standard_error = np.sqrt(max(1.0, observed) / weights.sum())
    half = stats.t.isf(0.025, degrees) * standard_error
    return {"value": mean, "low": mean - half, "high": mean + half, "tau": np.sqrt(between)}


def _sign_test(n_positive: int, n_negative: int) -> float:
    n_signed = n_positive + n_negative
    return stats.binomtest(n_positive, n_signed).pvalue if n_signed else 1.0


def _forest_rows(differences: pd.DataFrame, pooled: pd.DataFrame) -> pd.DataFrame:
    """The students' primary metric over all bases where there is one, else what answers studies of samples alone.

    Pooled rows come last.
    """
    names = ("pooled: " + pooled["setting"]).str.removesuffix(": ")
    both = pd.concat([differences, pooled.assign(study=names)], ignore_index=True)
    shown = both[both["metric"] == PRIMARY]
    if (shown["base"] == ALL_BASES).any():
        shown = shown[shown["base"] == ALL_BASES]
    elif shown.empty:
        shown = both[both["metric"].isin([QUANTITY_WORDS[name] for name in SAMPLE_QUANTITIES])]
    return shown.assign(group=[_group(row) for row in shown.itertuples()])


def _group(row) -> str:
    """The heading of a comparison in the forest plot."""
    of_all = row.base in ("samples", ALL_BASES)
    base = "" if of_all else f" ({row.base})"
    return f"{row.metric}, {row.budget}: {row.arm_a} − {row.arm_b}{base}"


def _drawn(forest: pd.DataFrame, folder: Path) -> PageFigure:
    """The forest plot for the page; also saved in `folder`."""
    wide, narrow = (
        figure("studies", "studies", {"studies": forest}, narrow) for narrow in (False, True)
    )
    save(wide, folder, "studies")
    return page_figure(svg(wide), svg(narrow), "The table below holds its numbers")


def _answers(forest: pd.DataFrame) -> list[str]:
    """What the studies say of every comparison: of several settings the one with the largest and the one with the least
    difference, and whether it is sure that settings differ; of one setting what its studies say together."""
    sentences = []
    for group, own in forest.groupby("group", sort=False):
        each, pooled = own[own["n_studies"].isna()], own.dropna(subset="n_studies")
        name = f"{group[0].upper()}{group[1:]}"
        n_settings = each["setting"].nunique()
        # settings that were repeated are compared, and not their single studies
        is_repeated = n_settings > 1 and pooled["value"].notna().sum() == n_settings
        compared = pooled if is_repeated else each
        if len(compared) > 1:
            sentences.append(
                f"{name}: {_largest(compared)} {_shown_in(each)} {_how_sure(compared)}"
            )
        if n_settings == 1:
            sentences += [_sentence(row) for row in pooled.itertuples()]
    return sentences


def _largest(rows: pd.DataFrame) -> str:
    in_order = rows.sort_values("value", ascending=False)
    most, least = (_named(row) for row in in_order.iloc[[0, -1]].itertuples())
    return f"largest in {most}, least in {least}."


def _shown_in(rows: pd.DataFrame) -> str:
    n_shown = int((~_is_open(rows)).sum())
    return f"Shown by itself in {n_shown} of {len(rows)} studies."


def _is_open(rows: pd.DataFrame) -> pd.Series:
    """Which differences are not shown: the interval holds zero, or p corrected in the study is not below 0.05."""
    return (rows["low"] <= 0) & (rows["high"] >= 0) | (rows["p_holm"] >= 0.05)


def _named(row) -> str:
    estimate = Estimate(row.value, row.low, row.high, unit="points")
    if row.n_studies == row.n_studies:
        return f"{row.setting} ({row.n_studies:.0f} studies), {estimate.text()}"
    setting = f" ({row.setting})" if row.setting else ""
    return f"{row.study}{setting}, {estimate.text()}"


def _how_sure(rows: pd.DataFrame) -> str:
    """Whether studies, or settings, differ by more than their own errors (Cochran's Q)."""
    effects = rows["value"].to_numpy(float)
    errors = np.maximum((rows["high"] - rows["low"]).to_numpy(float) / NORMAL_95, NO_ERROR)
    weights = errors**-2
    mean = weights @ effects / weights.sum()
    p = stats.chi2.sf(weights @ (effects - mean) ** 2, len(effects) - 1)
    if p < 0.05:
        return f"They differ from each other (Cochran's Q, p = {p:.2g})."
    return f"That they differ from each other is not shown (Cochran's Q, p = {p:.2g})."


def _sentence(row) -> str:
    """What studies that repeat each other say together of a comparison."""
    if row.n_studies < 3:
        return (
            "Together: two studies are too few to tell how much studies differ; see each"
            f" ({row.n_positive:.0f} of 2 positive)."
        )
    mean = Estimate(row.value, row.low, row.high, unit="points")
    return (
        f"Together: {mean.text(interval=', 95 % interval {low} to {high}')} over {row.n_studies:.0f} studies; positive"
        f" in {row.n_positive:.0f} of them (sign test p = {row.p_sign:.2g})."
    )
