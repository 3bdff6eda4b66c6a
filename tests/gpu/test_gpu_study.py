"""A whole nano study, from 01 to the report, with `device: cuda`."""

import time

import pandas as pd
import pytest
from sizes import BOTH, card, need_gpu

from wcse_lib import pipeline
from wcse_lib.study import Run, write_yaml


@pytest.fixture(params=BOTH)
def size(request):
    need_gpu(request.param)
    return request.param


def test_a_nano_study_from_01_to_the_report(size, root, tmp_path):
    params = "params/nano.yaml" if size.is_gpu else "params/smoke.yaml"
    machine = tmp_path / "machine.yaml"
    write_yaml(machine, {"device": size.device, "threads": None if size.is_gpu else 1})
    start = time.monotonic()
    assert pipeline.main([params, "--machine", str(machine), "--outputs", str(tmp_path)]) == 0
    (report,) = tmp_path.glob("*/report.html")
    print(f"\n{card(size)}: {params} in {time.monotonic() - start:.0f} s")
    run = Run(report.parent)
    assert all(run.complete("05", student) for student in run.plan.students)
    students = pd.read_csv(run.path("06", "tables", "students.csv"))
    assert set(students["student"]) == set(run.plan.students)
    # every engine that 05 opened is on the ledger
    ledger = pd.read_csv(run.path("06", "tables", "ledger.csv")).query("unit == 'openings'")
    assert (ledger["spent"] == ledger["planned"]).all() and len(ledger)
