"""A difference between arms is the sum of what more examples do and of what another author does."""

import pytest

from wcse_lib.analyze.words import Portion
from wcse_lib.verdicts import PRIMARY_METRIC


def test_the_parts_add_up_to_the_difference(synthetic_tables):
    table = PRIMARY_METRIC.rows(synthetic_tables["split"])
    at = ["base", "budget", "arm_a", "arm_b"]
    parts = table.pivot(index=at, columns="part", values="value")
    expected = parts[Portion.EXAMPLES] + parts[Portion.AUTHOR]
    assert parts[Portion.WHOLE].tolist() == pytest.approx(expected.tolist())
    # the recipe is of one budget, and ada teaches small alone
    assert {budget for _, budget, _, _ in parts.index} == {"high"}
    whole = PRIMARY_METRIC.rows(synthetic_tables["differences"]).set_index(at)["value"]
    assert parts[Portion.WHOLE].tolist() == pytest.approx(whole.loc[parts.index].tolist())


def test_the_reason_is_found(synthetic_tables):
    """In this study wc's students are better only where they learn from more examples."""
    table = PRIMARY_METRIC.rows(synthetic_tables["split"])
    table = table[(table["base"] == "small") & (table["arm_a"] == "wc") & (table["arm_b"] == "se")]
    rows = table.set_index("part")
    more, author = rows.loc[Portion.EXAMPLES], rows.loc[Portion.AUTHOR]
    assert more["low"] > 0 and more["value"] > 0.15
    assert author["low"] < 0 < author["high"]
    assert (rows["high"] > rows["low"]).all()


def test_a_study_without_such_a_recipe_has_no_such_table(synthetic_study, monkeypatch):
    from wcse_lib.analyze.split import split

    without = synthetic_study.study.model_copy(update={"recipes": {}})
    monkeypatch.setattr(synthetic_study, "study", without)
    assert list(split(synthetic_study, None)) == []
