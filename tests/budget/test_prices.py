"""Prices: the table's rows are sourced and dated, and the bill of a sample is what a hand counts."""

import pytest
from conftest import ROOT

from wcse_lib.budget.buying import matched_samples
from wcse_lib.budget.prices import read_price, usd
from wcse_lib.study import Price

PRICES = ROOT / "params" / "prices.yaml"
ROW = Price(model="m", input=2.0, output=8.0, cached=0.5, batch_discount=0.5)


def test_usd_by_hand():
    assert usd(ROW, 1e6, 3e6, 1e6) == pytest.approx(8 + 2 * 2 + 0.5)
    assert usd(ROW, 1e6, batch=True) == pytest.approx(4)


def test_usd_names_what_it_lacks():
    with pytest.raises(ValueError, match="uncached_prompt_tokens"):
        usd(ROW, 1, 1, 2)
    with pytest.raises(ValueError, match="no 'input'"):
        usd(read_price(PRICES, "gemini-1.5-pro"), 100, 50)


def test_five_flash_samples_cost_0_15_of_a_pro_sample():
    pro, flash = (read_price(PRICES, f"gemini-1.5-{model}") for model in ("pro", "flash"))
    assert matched_samples(1, pro.output, flash.output) == 35
    assert 5 * usd(flash, 512) / usd(pro, 512) == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("model", ["gemini-1.5-pro", "gpt-4.1", "gemini-3.5-flash"])
def test_every_price_has_a_source(model):
    assert read_price(PRICES, model).source


def test_a_model_without_price_is_named_with_those_that_have_one():
    with pytest.raises(ValueError, match="no price for 'nobody-1'.*Priced: .*gemini-1.5-pro"):
        read_price(PRICES, "nobody-1")
    with pytest.raises(ValueError, match="by 2020-01"):
        read_price(PRICES, "gemini-1.5-pro", "2020-01")


def test_the_newest_row_by_a_date_counts(tmp_path):
    path = tmp_path / "prices.yaml"
    row = '- {model: m, date: "%s", output: %s, source: s}\n'
    path.write_text("prices:\n" + row % ("2025-01", 2) + row % ("2025-03", 1))
    assert read_price(path, "m").output == 1
    assert read_price(path, "m", "2025-02").output == 2
    path.write_text("prices:\n" + row % ("2025-01-01", 2))
    assert read_price(path, "m", "2025-01").output == 2  # a month holds its days


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ('date: "2025-01", output: -1, source: s', "output"),
        ('date: "2025-01", output: 1.0e, source: s', "output"),
        ('date: "2025-01", output: 1, source: s, ouput: 3', "ouput"),
        ('date: "2025-01", output: 1, source: s, batch_discount: 1.5', "batch"),
        ('date: "2025-01", output: 1, source: s, input: true', "input"),
        ("date: soon, output: 1, source: s", "date"),
        ('date: 2025-01, output: 1, source: ""', "source"),
    ],
)
def test_bad_rows_are_refused(tmp_path, row, key):
    path = tmp_path / "prices.yaml"
    good = '{model: m, date: "2025-01", output: 1, source: s}'
    path.write_text(f"prices:\n- {good}\n- {{model: m, {row}}}\n")
    with pytest.raises(ValueError, match=rf"prices.yaml: prices, row 2.*{key}"):
        read_price(path, "m")
