"""Every file of a finished study cut, emptied or flipped in turn: whoever reads it says which file it is, or needs
it not."""

import random
import re
import shutil

import pandas as pd
import pytest

from wcse_lib import pipeline
from wcse_lib.analyze import stage as analysis
from wcse_lib.report import page as report
from wcse_lib.report import publish
from wcse_lib.store import StudyError
from wcse_lib.study import Run

KINDS = {
    "cut": lambda data, rng: data[: len(data) // 2],
    "emptied": lambda data, rng: b"",
    "flipped": lambda data, rng: (
        data[: (at := rng.randrange(len(data)))]
        + bytes([data[at] ^ 1 << rng.randrange(8)])
        + data[at + 1 :]
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("finished")
    assert (
        pipeline.main(
            ["params/smoke.yaml", "--machine", "params/machine/cpu.yaml", "--outputs", str(outputs)]
        )
        == 0
    )
    read(outputs / "smoke", outputs / "published")
    return outputs / "smoke"


def read(folder, out) -> dict:
    """Everything that reads a finished study, and the tables that come of it."""
    pipeline.status(folder)
    tables = analysis.analyze(Run(folder))
    report.write_report(folder)
    publish.publish_study(Run(folder), out)
    return {name: frame for name, frame in tables.items() if isinstance(frame, pd.DataFrame)}


def files(folder) -> list:
    """One file of every sort; notebooks, weights and pictures aside, and the tables that 06 writes anew."""
    found = {}
    for path in sorted(
        p for p in folder.rglob("*") if p.suffix in (".json", ".parquet") and "model" not in p.parts
    ):
        found.setdefault((path.relative_to(folder).parts[0], re.sub(r"\d", "", path.name)), path)
    return list(found.values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_file_is_named_or_not_needed(finished, tmp_path, kind):
    whole, outcomes, rng = read(finished, tmp_path / "out"), {}, random.Random(kind)
    for path in files(finished):
        name = path.relative_to(finished)
        folder = shutil.copytree(finished, tmp_path / "damaged")
        (folder / name).write_bytes(KINDS[kind](path.read_bytes(), rng))
        try:
            found = read(folder, tmp_path / "damaged-out")
            for table, frame in whole.items():
                pd.testing.assert_frame_equal(found[table], frame, obj=f"{name}: {table}")
            outcomes[str(name)] = "the same tables"
        except StudyError as error:
            assert str(name) in str(error), f"{name}: {error}"
            outcomes[str(name)] = "refused by name"
        shutil.rmtree(folder)
    print("", *(f"{kind} {name}: {what}" for name, what in outcomes.items()), sep="\n")
    assert "refused by name" in outcomes.values()
