"""06 as a whole: every table as it is declared, the same from small pieces, from files alone and fast."""

import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT
from studies import finished_study

from wcse_lib.analyze import TABLES, analyze, checks, samples
from wcse_lib.analyze.tables import as_declared
from wcse_lib.store import StudyError
from wcse_lib.store import tables as store_tables
from wcse_lib.study import Run
from wcse_lib.verdicts import scores


def test_every_table_is_there_as_declared_and_within_its_interval(
    synthetic_study, synthetic_tables
):
    # the synthetic study had no pilot
    assert set(synthetic_tables) == set(TABLES) - {"forecast"}
    assert checks(synthetic_study, synthetic_tables)["n_tables"] == len(synthetic_tables)
    for name, table in synthetic_tables.items():
        file = pd.read_csv(synthetic_study.path("06", "tables", f"{name}.csv"))
        assert len(file) == len(table)
        assert list(file.columns) == list(table.columns)
        declared = [column.name for column in TABLES[name].columns]
        assert list(file.columns) == [column for column in declared if column in file]


def test_a_column_that_is_not_declared_is_refused(synthetic_tables):
    with pytest.raises(KeyError, match=r"quality: not declared: \['surprise'\]; missing: \[\]"):
        as_declared("quality", synthetic_tables["quality"].assign(surprise=1))
    with pytest.raises(KeyError, match="missing: .'coverage'."):
        as_declared("quality", synthetic_tables["quality"].drop(columns="coverage"))


def test_pieces_give_the_tables_of_the_whole(synthetic_study, synthetic_tables, monkeypatch):
    monkeypatch.setattr(scores, "PIECE", 50)
    monkeypatch.setattr(samples, "PIECE", 200)
    monkeypatch.setattr(store_tables, "PIECE", 70)
    folder = synthetic_study.path("06", "tables")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, table in analyze(synthetic_study).items():
        pd.testing.assert_frame_equal(table, synthetic_tables[name])
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_unfinished_stages_are_named(tmp_path):
    folder = finished_study(tmp_path / "torn", seeds=(0,), recipes=False)
    (folder / "03_verify/wc/judged.parquet").unlink()
    with pytest.raises(StudyError, match=r"03_verify/wc/judged.parquet: not there"):
        analyze(Run(folder))


def test_an_arm_without_samples_is_named(tmp_path):
    folder = finished_study(tmp_path / "empty", seeds=(0,), recipes=False)
    path = folder / "03_verify/wc/judged.parquet"
    pd.read_parquet(path).head(0).to_parquet(path)
    with pytest.raises(StudyError, match="02_generate/wc: no sample of this plan's problems"):
        analyze(Run(folder))


def test_it_loads_no_heavy_package(tmp_path):
    folder = finished_study(tmp_path / "quick", seeds=(0,), recipes=False)
    heavy = "{'torch', 'transformers', 'matplotlib'}"
    code = (
        "import sys\n"
        "from wcse_lib.analyze import analyze\n"
        "from wcse_lib.study import Run\n"
        f"analyze(Run({str(folder)!r}))\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", "after the bar that shows how far it is"
