"""What came of every arm and budget, in the metrics that 01 forecasts."""

from __future__ import annotations

import pandas as pd

from wcse_lib.metrics import UNIQUE
from wcse_lib.plan import MAIN
from wcse_lib.store import KEY, iter_samples, problem_range_filter, read_parquet, read_pieces
from wcse_lib.study import Run


def outcomes(run: Run) -> pd.DataFrame:
    """What came of every arm and budget, in the metrics that 01 forecasts: arm, budget, metric, outcome."""
    n, rows, key = (
        run.plan["n_problems"]["train"],
        [],
        UNIQUE[run.study.curation.unique] or UNIQUE["text"],
    )
    for arm, plan in run.plan["arms"].items():
        verdicts, judgements, chosen = (
            run.path("03", arm, f"{name}.parquet")
            for name in ("verdicts", "judgements", "examples")
        )
        judged = any(len(piece) for piece in read_pieces(judgements, KEY))
        for samples in iter_samples(run.path("02", arm), [*KEY, "text"]):
            near = problem_range_filter(samples)
            right = read_parquet(verdicts, KEY, [*near, ("verdict", "==", "correct")])
            sound = read_parquet(judgements, [*KEY, "sound"], near).drop_duplicates(KEY)
            correct = samples.merge(right, on=KEY).merge(sound, on=KEY, how="left")
            correct["same"] = [key(text) for text in correct["text"]]
            examples = read_parquet(chosen, ["budget"], [*near, ("recipe", "==", MAIN)])
            for b in plan["samples"]:
                mine = run.rows_of_budget(correct, arm, b)
                sound = mine[~mine["sound"].isin([False])]
                rows += [
                    (arm, b, "coverage", mine["problem_id"].nunique() / n),
                    (
                        arm,
                        b,
                        "unique correct per problem",
                        mine.groupby("problem_id")["same"].nunique().sum() / n,
                    ),
                    (arm, b, "examples", float((examples["budget"] == b).sum())),
                ]
                if judged:
                    rows.append((arm, b, "sound coverage", sound["problem_id"].nunique() / n))
    columns = ["arm", "budget", "metric", "outcome"]
    return (
        pd.DataFrame(rows, columns=columns).groupby(columns[:3], as_index=False, sort=False).sum()
    )
