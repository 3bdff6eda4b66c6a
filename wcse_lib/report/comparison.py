"""Several studies joined: one table of their differences, one forest plot, one page.

python -m wcse_lib.report.comparison outputs/a outputs/b … --out outputs/joined
"""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from wcse_lib.analyze import ALL, PRIMARY
from wcse_lib.report import figures
from wcse_lib.report import page as report
from wcse_lib.store import StudyError, check_tables, read_json, write_text
from wcse_lib.study import resolve

METRICS = {
    "differences": [PRIMARY, "sampled pass@1"],
    "arm_differences": ["pass@1", "coverage", "sound coverage"],
}
KEYS = ["who", "metric", "arm_a", "arm_b", "budget", "base"]


def compare(folders: list[str | Path], out: str | Path) -> pd.DataFrame:
    """Join the tables of finished studies; returns every difference and, where studies share one, what they say together.

    Args: folders: studies with `06_analyze/tables`; out: where `comparison.csv`, `accuracies.csv`, `pooled.csv`,
    `figures/studies.*` and `comparison.html` are written. Every parameter in which the studies differ is a column of the
    first two. Raises StudyError naming the folder for less than two studies, one twice, or one not analysed.
    """
    folders, out = [resolve(folder).resolve() for folder in folders], Path(out)
    if len(set(folders)) < max(2, len(folders)):
        raise StudyError(
            f"{len(folders)} folders: two or more different studies are needed to compare"
        )
    plans = {folder: read_json(folder / "01_plan" / "plan.json") for folder in folders}
    if len({plan["plan_id"] for plan in plans.values()}) < len(plans):
        raise StudyError(
            f"{', '.join(map(str, folders))}: two of them hold one and the same plan, which would count twice"
        )
    for folder, plan in plans.items():
        check_tables(folder, plan["plan_id"])
    tables = {folder: report.read_tables(folder / "06_analyze" / "tables") for folder in folders}
    names = {folder: plan["study"]["study"] for folder, plan in plans.items()}
    names = (
        names
        if len(set(names.values())) == len(names)
        else {f: f"{f.parent.name}/{n}" for f, n in names.items()}
    )
    settings = _settings({names[folder]: plan["study"] for folder, plan in plans.items()})
    joined = {
        kind: pd.concat([_rows(kind, tables[f], names[f]) for f in folders]).merge(
            settings, on="study"
        )
        for kind in ("differences", "accuracies")
    }
    if joined["differences"].empty:
        raise StudyError(
            f"{folders[0]} and others: none of these studies compares two arms, so that there is no difference to join"
        )
    pooled = pool(joined["differences"])
    out.mkdir(parents=True, exist_ok=True)
    for name, frame in (
        ("comparison", joined["differences"]),
        ("accuracies", joined["accuracies"]),
        ("pooled", pooled),
    ):
        frame.to_csv(out / f"{name}.csv", index=False)
    shown = _forest(joined["differences"], pooled)
    drawn = [
        figures.draw_all({"studies": shown.dropna(subset="value")}, narrow)["studies"]
        for narrow in (False, True)
    ]
    figures.save(drawn[0], out / "figures", "studies")
    wide, narrow = (base64.b64encode(figures.svg(figure).encode()).decode() for figure in drawn)
    shared = {
        folder: plan.get("problems_sha256", {}).get("held_out") for folder, plan in plans.items()
    }
    text = report.render(
        "comparison.html.j2",
        {
            "title": f"{len(folders)} studies compared",
            "sentences": [_sentence(row) for row in shown.dropna(subset="n_studies").itertuples()],
            "figures": {
                "studies": {
                    "wide": wide,
                    "narrow": narrow,
                    "alt": "The table below holds its numbers",
                }
            },
            "independent": len(set(shared.values())) == len(shared),
            "tables": {
                name: report.as_table(name, frame)
                for name, frame in (
                    ("differences", joined["differences"]),
                    ("pooled", pooled),
                    ("students", joined["accuracies"]),
                )
                if len(frame)
            },
            "studies": {
                names[f]: f"{p['study'].get('title', '')} (plan {p['plan_id']})"
                for f, p in plans.items()
            },
        },
    )
    write_text(out / "comparison.html", text)
    return pd.concat([joined["differences"], pooled.assign(study="pooled")], ignore_index=True)


def _settings(studies: dict[str, dict]) -> pd.DataFrame:
    """A row per study with every parameter in which they differ; and always the dataset and the seed."""
    flat = pd.json_normalize(
        [{k: v for k, v in s.items() if k not in ("study", "title")} for s in studies.values()]
    )
    told = flat.map(lambda value: str(value) if isinstance(value, list | dict) else value)
    differing = [c for c in told if told[c].nunique(dropna=False) > 1]
    return told[list(dict.fromkeys(["dataset.name", "seed", *differing]))].assign(
        study=list(studies)
    )


def _rows(kind: str, tables: dict[str, pd.DataFrame], study: str) -> pd.DataFrame:
    """A study's differences or accuracies, the study's name first."""
    empty = pd.DataFrame(columns=[*KEYS, "value", "low", "high", "n_problems"])
    if kind == "accuracies":
        frame = tables.get(
            "students", pd.DataFrame(columns=["student", *KEYS, "value", "low", "high"])
        )
        frame = (
            frame[(frame["set"] == "held_out") & (frame["recipe"] == "main")]
            if {"set", "recipe"} <= set(frame)
            else frame
        )
        frame = frame[frame["metric"].isin(METRICS["differences"])].rename(
            columns={"seed": "training_seed"}
        )
        return pd.concat({study: frame}, names=["study"]).reset_index("study")
    parts = [empty]
    for name, metrics in METRICS.items():
        if name in tables:
            frame = tables[name][tables[name]["metric"].isin(metrics)]
            base = frame["base"] if name == "differences" else "samples"
            who = "students" if name == "differences" else "samples"
            parts.append(
                frame.assign(who=who, base=base)[
                    list(dict.fromkeys([*empty, *frame.columns.intersection(["p"])]))
                ]
            )
    return pd.concat({study: pd.concat(parts[1:] or parts)}, names=["study"]).reset_index("study")


def pool(frame: pd.DataFrame) -> pd.DataFrame:
    """What several studies say together of one comparison: a random-effects mean and a sign count.

    Groups rows by who, metric, arms, budget and base. `value, low, high`: DerSimonian and Laird's between-study variance
    with Hartung and Knapp's t interval, from each study's own interval (as if normal); `tau`: spread of true effects, as
    a share; `n_positive` of `n_studies`, `p_sign`: exact two-sided sign test. Of two studies only the count is given. Studies of the same problems or the same
    models are not independent: then the interval is too narrow and says nothing of other problems.
    """
    out = []
    for key, rows in frame.groupby(KEYS, sort=False):
        y, error = (
            rows["value"].to_numpy(float).round(12),
            np.maximum((rows["high"] - rows["low"]).to_numpy(float) / 3.92, 1e-6),
        )
        n = len(y)
        if n < 2:
            continue
        ups, downs = int((y > 0).sum()), int((y < 0).sum())
        if n == 2:  # a t interval with one degree of freedom tells nothing
            out.append([*key, np.nan, np.nan, np.nan, np.nan, n, ups, np.nan])
            continue
        w = error**-2
        q = (w * (y - w @ y / w.sum()) ** 2).sum()
        tau2 = max(0.0, (q - (n - 1)) / (w.sum() - (w**2).sum() / w.sum()))
        w = 1 / (error**2 + tau2)
        mean = w @ y / w.sum()
        spread = (
            max(1.0, (w * (y - mean) ** 2).sum() / (n - 1)) / w.sum()
        )  # never narrower than the studies themselves
        half = stats.t.isf(0.025, n - 1) * np.sqrt(spread)
        p = min(1.0, 2 * stats.binom.cdf(min(ups, downs), ups + downs, 0.5)) if ups + downs else 1.0
        out.append([*key, mean, mean - half, mean + half, np.sqrt(tau2), n, ups, p])
    return pd.DataFrame(
        out, columns=[*KEYS, "value", "low", "high", "tau", "n_studies", "n_positive", "p_sign"]
    )


def _forest(rows: pd.DataFrame, pooled: pd.DataFrame) -> pd.DataFrame:
    """The students' primary metric over all bases where there is one, else the samples' pass@1; pooled rows last."""
    both = pd.concat([rows, pooled.assign(study="pooled (random effects)")], ignore_index=True)
    students = both[(both["metric"] == PRIMARY)]
    one = students[students["base"] == ALL] if (students["base"] == ALL).any() else students
    shown = one if len(one) else both[both["metric"].isin(["pass@1", "coverage"])]
    titles = shown[["metric", "arm_a", "arm_b", "budget", "base"]].itertuples(index=False)
    return shown.assign(
        group=[
            f"{m}, {b}: {a} − {z}" + f" ({base})" * (base not in ("samples", ALL))
            for m, a, z, b, base in titles
        ]
    )


def _sentence(row) -> str:
    what = f"{row.metric.capitalize()} at {row.budget}, {row.arm_a} minus {row.arm_b} ({row.base})"
    span = f"{100 * row.value:+.1f} points, 95 % interval {100 * row.low:+.1f} to {100 * row.high:+.1f}".replace(
        "-", "−"
    )
    if row.n_studies < 3:
        return f"{what}: two studies are too few to tell how much studies differ; see each ({row.n_positive:.0f} of 2 positive)."
    return f"{what}: {span} over {row.n_studies:.0f} studies; positive in {row.n_positive:.0f} of them (sign test p = {row.p_sign:.2g})."


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m wcse_lib.report.comparison", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--out", required=True)
    args = parser.parse_args(argv)
    try:
        compare(args.folders, args.out)
    except StudyError as error:
        print(error, file=sys.stderr)
        return 1
    print(Path(args.out) / "comparison.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
