"""What `wcse status` says: what is done, of which plan, what was lost and what it cost."""

import pytest
from studies import sample_row

from wcse_lib import pipeline
from wcse_lib.plan import make_plan
from wcse_lib.progress import steps
from wcse_lib.store import SampleWriter, read_parquet, write_manifest
from wcse_lib.study import check_study

PARAMS = {
    "study": "told",
    "dataset": {"name": "nano", "n_train": 3},
    "arms": {"wc": {"model": "nano-wc"}},
    "budget": {"reference": "wc", "samples": {"one": 1}, "match": "count"},
}
STUDY = check_study(PARAMS, "test")
LOST = [
    {"text": "#### 7"},
    {"text": " "},
    {"text": "", "finish_reason": "error", "error": "refused"},
]


@pytest.fixture
def begun(tmp_path):
    """A planned study of one arm, one of whose three samples is right, one empty and one failed; 02 has not ended."""
    run = make_plan(STUDY, tmp_path)
    write_manifest(run.path("01"), run.plan_id, {})
    ids = read_parquet(run.path("01", "train.parquet"))["problem_id"]
    with SampleWriter(run.path("02", "wc")) as writer:
        for problem_id, changes in zip(ids, LOST):
            writer.add(sample_row(0, author="wc", problem_id=problem_id, **changes))
    return run


@pytest.fixture
def finished(begun):
    """The same study, every stage of it finished."""
    facts = {"n_samples": 3, "n_failed": 1, "n_empty": 1, "n_truncated": 0, "usd": 0.00084}
    for step in steps(STUDY):
        more = facts if step.stage == "02_generate" else {}
        write_manifest(step.folder(begun.folder), begun.plan_id, more)
    return begun


def line_of(text: str, step: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(step))


def test_lost_samples_are_counted_while_a_stage_runs(begun):
    line = line_of(pipeline.status(begun.folder), "02_generate wc")
    assert line.endswith("under way: 3 samples, 1 failed, 1 empty on disk")


def test_a_damaged_part_stops_no_status(begun):
    (part,) = begun.path("02", "wc").glob("part-*[0-9]*.parquet")
    part.write_bytes(b"no Parquet")
    assert line_of(pipeline.status(begun.folder), "02_generate wc")


def test_what_was_lost_and_small_amounts_of_usd_are_told(finished):
    text = pipeline.status(finished.folder)
    assert line_of(text, "02_generate wc").endswith(
        "complete 3 samples, 1 failed, 1 empty, 0.00084 USD"
    )
    assert "spent so far: 3 samples, 0.00084 USD" in text
    assert "all done" in text


def test_nothing_is_all_done_under_an_older_plan(finished):
    """The params have changed: 01 comes next, whatever was finished before."""
    changed = check_study(PARAMS | {"seed": 7}, "test")
    text = pipeline.status_of(finished.folder, changed)
    assert "planned with other parameters" in text
    assert "all done" not in text
    assert text.endswith("next: 01_plan")
    assert "of an older plan; complete 3 samples" in line_of(text, "02_generate wc")


def test_a_stage_of_an_older_plan_is_told_apart(finished):
    """01 was run again, with more problems: what follows was finished under another plan."""
    study = check_study(PARAMS | {"dataset": {"name": "nano", "n_train": 5}}, "test")
    run = make_plan(study, finished.folder.parent)
    write_manifest(run.path("01"), run.plan_id, {})
    text = pipeline.status_of(run.folder, study)
    assert line_of(text, "01_plan").split() == ["01_plan", "complete"]
    assert "of an older plan, 3 samples, 1 failed" in line_of(text, "02_generate wc")
    assert line_of(text, "03_verify wc").endswith("of an older plan")
    assert text.endswith("next: 02_generate wc")
