"""What came of every arm, beside the pilot's forecast."""

from wcse_lib.analyze import outcome
from wcse_lib.analyze.samples import read_arms
from wcse_lib.store import read_parquet


def test_outcome_counts_problems_without_a_sample(mixed):
    out = outcome.outcomes(mixed, read_arms(mixed)).set_index(["arm", "budget", "metric"])[
        "outcome"
    ]
    verdicts = read_parquet(mixed.path("03", "mix", "verdicts.parquet"))
    solved = (
        mixed.rows_of_budget(verdicts, "mix", "low")
        .query("verdict == 'correct'")["problem_id"]
        .nunique()
    )
    assert out["mix", "low", "coverage"] == solved / 40
    assert out["wc", "high", "sound_coverage"] <= out["wc", "high", "coverage"]
