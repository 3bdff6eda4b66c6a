"""The whole river under papermill: numbers recomputed from rows, resuming after kills, failures that say so."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from math import comb

import pandas as pd
import pytest
import yaml

from wcse_lib import pipeline
from wcse_lib.nano.world import check
from wcse_lib.pipeline import Step
from wcse_lib.report import page as report
from wcse_lib.store import StudyError, locked, read_samples, write_json
from wcse_lib.study import Run

pytestmark = pytest.mark.dag
TABLES = (
    "quality coverage diversity false_positives levels arm_differences flow students differences "
    "controls training ledger"
).split()


PLANTED = "sk-planted-51c9d7"


def call(root, *args, **kwargs):
    command = [sys.executable, "-m", "wcse_lib.pipeline", *map(str, args)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=800, **kwargs)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The smoke study, killed once in the middle of generation and once in finetuning, then run to its end."""
    from conftest import ROOT

    outputs = tmp_path_factory.mktemp("outputs")
    args = ("params/smoke.yaml", "--machine", "params/machine/cpu.yaml", "--outputs", outputs)
    command = [sys.executable, "-m", "wcse_lib.pipeline", *map(str, args)]
    for sign in ("02_generate/se/identity.json", "04_finetune/small.se.high/training.json"):
        victim = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 400
        while not (outputs / "smoke" / sign).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert victim.poll() is None, "the run ended before it could be killed"
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
    flushed = {arm: read_samples(outputs / "smoke/02_generate" / arm) for arm in ("se", "wc")}
    done = call(ROOT, *args, env={**os.environ, "OPENAI_API_KEY": PLANTED, "HF_TOKEN": PLANTED})
    assert done.returncode == 0, done.stderr
    return outputs / "smoke", flushed, done.stdout


def table(folder, name):
    return pd.read_csv(folder / f"06_analyze/tables/{name}.csv")


def test_nothing_is_lost_or_doubled(smoke):
    folder, flushed, _ = smoke
    for arm, n in (("se", 4), ("wc", 12)):
        rows = read_samples(folder / "02_generate" / arm)
        assert (
            len(rows) == 24 * n
            and not rows.duplicated(["author", "problem_id", "sample_index"]).any()
        )
        kept = flushed[arm].merge(rows, on=["author", "problem_id", "sample_index"])
        assert len(kept) == len(flushed[arm]) and (kept["text_x"] == kept["text_y"]).all()
        verdicts = pd.read_parquet(folder / f"03_verify/{arm}/verdicts.parquet")
        assert (
            list(verdicts.columns[:6])
            == "author problem_id sample_index extracted verdict reason".split()
        )
        assert len(verdicts) == len(rows)


def test_no_secret_reaches_an_output(smoke):
    folder, _, printed = smoke
    assert PLANTED not in printed
    assert not [p for p in folder.rglob("*") if p.is_file() and PLANTED.encode() in p.read_bytes()]


def test_samples_have_the_contracts_columns(smoke):
    rows = pd.concat(map(pd.read_parquet, (smoke[0] / "02_generate/wc").glob("*.parquet")))
    columns = "author problem_id sample_index seed text n_prompt_tokens n_tokens finish_reason engine model"
    for column in columns.split():
        assert column in rows and rows[column].notna().all()
    assert set(rows["engine"]) == {"hf"} and set(rows["model"]) == {"nano-wc"}


def test_verdicts_and_judgements_are_right(smoke):
    folder, _, _ = smoke
    problems = pd.read_parquet(folder / "01_plan/train.parquet").set_index("problem_id")
    for arm in ("se", "wc"):
        samples = read_samples(folder / "02_generate" / arm)
        verdicts = pd.read_parquet(folder / f"03_verify/{arm}/verdicts.parquet")
        judged = pd.read_parquet(folder / f"03_verify/{arm}/judgements.parquet")
        both = samples.merge(verdicts, on=["author", "problem_id", "sample_index"])
        for row in both.itertuples():
            final = re.findall(r"#### (\d+)", row.text)
            right = (
                bool(final)
                and final[-1] == problems.answer[row.problem_id]
                and row.finish_reason == "stop"
            )
            assert (row.verdict == "correct") == right, (row.text, row.verdict, row.reason)
        for row in judged.merge(samples, on=["author", "problem_id", "sample_index"]).itertuples():
            assert row.sound == check(problems.question[row.problem_id], row.text).sound
        assert len(judged) == (verdicts["verdict"] == "correct").sum()


def test_numbers_come_from_the_rows(smoke):
    folder, _, _ = smoke
    coverage = table(folder, "coverage")
    quality = table(folder, "quality").set_index(["arm", "budget"])
    for arm, n in (("se", 4), ("wc", 12)):
        verdicts = pd.read_parquet(folder / f"03_verify/{arm}/verdicts.parquet")
        correct = (verdicts["verdict"] == "correct").groupby(verdicts["problem_id"]).sum()
        for k in range(1, n + 1):
            by_hand = sum(1 - comb(n - c, k) / comb(n, k) for c in correct) / len(correct)
            got = coverage.query("arm == @arm and k == @k")["value"].item()
            assert abs(got - by_hand) < 1e-12
        low = verdicts[verdicts["sample_index"] < {"se": 1, "wc": 3}[arm]]
        assert quality.loc[(arm, "low"), "n_correct"] == (low["verdict"] == "correct").sum()
        assert quality.loc[(arm, "low"), "samples_per_problem"] == {"se": 1, "wc": 3}[arm]
    rows = table(folder, "students").query("metric == 'pass@k' and k == 1")
    students = rows.set_index(["student", "decoding"])["value"]
    for student in ("small.base", "wc.wc.high"):
        for decoding in ("greedy", "sampled"):
            verdicts = pd.read_parquet(
                folder / f"05_evaluate/{student}/verdicts-{decoding}.parquet"
            )
            assert (
                abs(students[student, decoding] - (verdicts["verdict"] == "correct").mean()) < 1e-12
            )
    rows = table(folder, "differences").query("metric == 'pass@k' and decoding == 'greedy'")
    differences = rows.set_index(["base", "budget"])["value"]
    want = students["wc.wc.high", "greedy"] - students["wc.se.high", "greedy"]
    assert abs(differences["wc", "high"] - want) < 1e-12


def test_tables_paradigms_and_ledger(smoke):
    folder, _, _ = smoke
    for name in TABLES:
        frame = table(folder, name)
        assert len(frame), f"{name} is empty"
        if "value" in frame:
            assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    students = table(folder, "students").drop_duplicates("student").set_index("student")
    assert students.paradigm[
        ["small.se.low", "small.wc.low", "wc.se.low", "wc.wc.low"]
    ].tolist() == ["kd", "kd", "kd", "self"]
    assert {"small.base", "small.planted", "wc.planted", "wc.reference"} <= set(students.index)
    ledger = (
        table(folder, "ledger")
        .query("stage == '02_generate' and unit == 'tokens'")
        .set_index(["who", "kind", "budget"])
    )
    spent = read_samples(folder / "02_generate/wc")
    assert ledger.loc[("wc", "sampling", "high"), "spent"] == spent["n_tokens"].sum()


def test_report_stands_alone(smoke):
    folder, _, log = smoke
    text = (folder / "report.html").read_text()
    answer = json.loads((folder / "06_analyze/answer.json").read_text())
    assert answer["headline"] in text and "report.html" in log
    assert len(text) < 10e6 and not re.search(r"""(?:src|href)=["']https?:""", text)
    assert str(folder.parent) not in text


def test_a_second_call_does_nothing(smoke):
    from conftest import ROOT

    folder, _, _ = smoke
    before = {
        p: p.stat().st_mtime_ns
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("report.html", ".lock")
    }
    again = call(ROOT, "params/smoke.yaml", "--outputs", folder.parent)
    assert again.returncode == 0 and again.stdout.count("complete") == 8
    assert before == {p: p.stat().st_mtime_ns for p in before}
    shown = call(ROOT, "params/smoke.yaml", "--outputs", folder.parent, "--status").stdout
    assert shown.count("complete") == 8


def test_what_was_made_before_its_inputs_is_out_of_date(smoke, tmp_path):
    """03 run again by hand: 04 is next, and a call goes on from there instead of telling of old students."""
    folder = shutil.copytree(smoke[0], tmp_path / "smoke")
    assert "out of date" not in pipeline.status(folder)
    path = folder / "03_verify/se/manifest.json"
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    later = json.loads(path.read_text()) | {"finished": soon}
    write_json(path, later)
    text = pipeline.status(folder)
    assert re.search(r"04_finetune +out of date", text) and "next: 04_finetune" in text
    opened = Run(folder)
    assert not pipeline.is_done(folder, opened.study, Step("04_finetune")) and pipeline.is_done(
        folder, opened.study, Step("03_verify", "se")
    )


def test_samples_that_are_gone_are_drawn_again(smoke, tmp_path):
    """As after the advice to delete a damaged part: its stage is no longer complete."""
    folder = shutil.copytree(smoke[0], tmp_path / "smoke")
    next((folder / "02_generate/wc").glob("part-*.parquet")).unlink()
    assert (
        re.search(r"02_generate wc +out of date: .* gone", text := pipeline.status(folder))
        and "next: 02_generate wc" in text
    )
    assert not pipeline.is_done(folder, Run(folder).study, Step("02_generate", "wc"))


def test_a_kernel_that_finds_its_port_taken_is_started_again(root, tmp_path, monkeypatch, capsys):
    from jupyter_client.provisioning.local_provisioner import LocalPortCache

    find, asked = LocalPortCache.find_available_port, []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(
            LocalPortCache,
            "find_available_port",
            lambda *a: asked.append(1) or (port if len(asked) == 1 else find(*a)),
        )
        assert (
            pipeline.main(["params/smoke.yaml", "--outputs", str(tmp_path), "--until", "01"]) == 0
        )
    assert re.search(
        r"Students: your 16 held-out problems.* cannot see 2 points", capsys.readouterr().out
    ), "said before anything is drawn"
    assert pipeline.is_done(tmp_path / "smoke", Run(tmp_path / "smoke").study, Step("01_plan"))


@pytest.mark.parametrize(
    "message", ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory", "MemoryError"]
)
def test_running_out_of_memory_is_told_with_what_helps(tmp_path, message):
    with pytest.raises(StudyError, match="lower batch_size"):
        pipeline._fail(tmp_path, Step("02_generate", "wc"), RuntimeError(message))
    assert "batch_size" in json.loads((tmp_path / "failed.json").read_text())["hint"]


def test_a_folder_that_cannot_be_written_is_named(root, tmp_path, capsys):
    (tmp_path / "outputs").write_text("a file")
    assert pipeline.main(["params/smoke.yaml", "--outputs", str(tmp_path / "outputs")]) == 1
    assert re.search(
        r"outputs/smoke: cannot be written \(.*choose another folder", capsys.readouterr().err
    )


def test_a_study_drawn_otherwise_is_refused(smoke, tmp_path):
    from conftest import ROOT

    folder, _, _ = smoke
    data = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    data["sampling"]["temperature"] = 0.9
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(data))
    refused = call(ROOT, tmp_path / "other.yaml", "--outputs", folder.parent)
    assert refused.returncode == 1 and "drawn otherwise" in refused.stderr
    assert json.loads((folder / "01_plan/failed.json").read_text())["error"] == "StudyError"
    (folder / "01_plan/failed.json").unlink()


def test_a_folder_in_use_is_refused(smoke):
    folder, _, _ = smoke
    with (
        locked(folder),
        pytest.raises(StudyError, match="in use by another run .process"),
        locked(folder),
    ):
        pass


def test_bad_parameters_stop_before_any_compute(root, tmp_path):
    (tmp_path / "bad.yaml").write_text(
        (root / "params/smoke.yaml").read_text().replace("temperature", "temprature", 1)
    )
    refused = call(root, tmp_path / "bad.yaml", "--outputs", tmp_path / "out")
    assert refused.returncode == 1 and "did you mean 'temperature'" in refused.stderr
    assert not (tmp_path / "out").exists()


def imported_study(tmp_path, data, **columns):
    return {
        "study": "imported",
        "dataset": {
            "name": "files",
            "train": str(data),
            "columns": {"question": "question", "answer": "ground_truth"},
            "answer_style": "openai",
        },
        "prompt": {"answer_style": "openai"},
        "arms": {
            name: {
                "model": f"made-{name}",
                "engine": "import",
                "path": str(data),
                "columns": {"question": "question", "text": f"{name}.solution"},
            }
            for name in ("se", "wc")
        },
        "budget": {"reference": "se", "samples": {"one": 1}, "match": "count"},
    }


def test_imported_samples_flow_through(root, tmp_path):
    """Ten made rows: se right on 8, wc on 5, one gold unreadable; no students, no token counts."""
    rows = []
    for i in range(10):
        se, wc = (i + 1 if i < 8 else 0), (i + 1 if i < 5 else 0)
        wrong_step = "1+1=3 " if i == 0 else ""
        rows.append(
            {
                "question": f"q{i}?",
                "ground_truth": f"so\nA: {i + 1}",
                "se": {"solution": f"1 + {i} = {i + 1}\nA: {se}"},
                "wc": {"solution": f"{wrong_step}\nA: {wc}"},
            }
        )
    rows.append(
        {
            "question": "no gold?",
            "ground_truth": "so\nnothing",
            "se": {"solution": "A: 1"},
            "wc": {"solution": "A: 1"},
        }
    )
    data = tmp_path / "made.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    path = tmp_path / "imported.yaml"
    path.write_text(yaml.safe_dump(imported_study(tmp_path, data)))
    done = call(root, path, "--outputs", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out/imported"
    quality = table(folder, "quality").set_index("arm")
    assert quality["n_correct"].to_dict() == {"se": 8, "wc": 5}
    difference = table(folder, "arm_differences").query("quantity == 'pass_at_1'").iloc[0]
    assert abs(difference["value"] + 0.3) < 1e-12 and difference["n_problems"] == 10
    positives = table(folder, "false_positives").set_index("arm")
    assert positives.loc["wc", "n_false"] == 1 and positives.loc["wc", "judge"] == "arithmetic"
    assert pd.read_parquet(folder / "01_plan/dropped.parquet")["reason"].tolist() == [
        "no answer can be read from the answer field"
    ]
    assert (folder / "report.html").exists() and not (folder / "04_finetune").exists()


def test_openais_published_solutions(root, tmp_path, real_data):
    """The 6B and 175B models' accuracies and their difference agree with the official labels, row by row."""
    done = call(root, "params/gsm8k_openai.yaml", "--outputs", tmp_path)
    assert done.returncode == 0, done.stderr
    official = [json.loads(line) for line in open(real_data / "gsm8k_openai_model_solutions.jsonl")]
    quality = table(tmp_path / "gsm8k_openai", "quality").set_index("arm")
    for arm, model in (("se", "175b_finetuning"), ("wc", "6b_finetuning")):
        labels = sum(row[model]["is_correct"] for row in official)
        assert quality.loc[arm, "n_samples"] == len(official) == 660
        assert abs(quality.loc[arm, "n_correct"] - labels) <= 1


def test_a_torn_import_names_file_and_line(root, tmp_path):
    data = tmp_path / "torn.jsonl"
    data.write_text(
        '{"question": "q", "ground_truth": "A: 1", "se": {"solution": "A: 1"}}\n{"question": "q2", "gr'
    )
    path = tmp_path / "imported.yaml"
    path.write_text(yaml.safe_dump(imported_study(tmp_path, data)))
    failed = call(root, path, "--outputs", tmp_path / "out")
    assert (
        failed.returncode == 1
        and "torn.jsonl, line 2" in failed.stderr
        and "01_plan failed" in failed.stderr
    )
    stamp = json.loads((tmp_path / "out/imported/01_plan/failed.json").read_text())
    assert (
        stamp["step"] == "01_plan"
        and not (tmp_path / "out/imported/01_plan/manifest.json").exists()
    )


def test_a_strangers_text_is_no_markup_in_01_and_the_picture_reaches_the_report(root, tmp_path):
    """Questions, levels and a title with script and img tags; and dollars, control characters and a lone surrogate."""
    import nbformat
    import papermill

    evil = "<script>alert(1)</script><img src=x onerror=alert(1)> \x07 $$\\href{javascript:alert(1)}{x}$$ \ud800"
    for name, n in (("train", 6), ("held", 2)):
        rows = [
            {"question": f"{evil} Ann has {i} pens. How many?", "answer": str(i), "level": evil}
            for i in range(10 * n, 11 * n)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = {
        "study": "evil",
        "title": evil[:53],
        "arms": {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
        "dataset": {
            "name": "files",
            "train": f"{tmp_path}/train.jsonl",
            "held_out": f"{tmp_path}/held.jsonl",
            "columns": {"level": "level"},
            "ngram": 60,
        },
        "budget": {"reference": "se", "samples": {"low": 1}},
    }
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(study))
    (tmp_path / "evil/01_plan").mkdir(parents=True)
    done = tmp_path / "evil/01_plan/01_plan.ipynb"
    given = {"params": str(tmp_path / "evil.yaml"), "outputs": str(tmp_path)}
    papermill.execute_notebook(
        root / "notebooks/01_plan.ipynb", done, given, cwd=root, progress_bar=False
    )
    shown = [
        out["data"]
        for cell in nbformat.read(done, 4).cells
        for out in cell.get("outputs", [])
        if "data" in out
    ]
    markup = [
        data[kind] for data in shown for kind in ("text/html", "text/markdown") if kind in data
    ]
    assert sum("&lt;script&gt;" in text for text in markup) >= 3 and not any(
        "<script" in text or "<img src=x" in text for text in markup
    )
    words = report.write_report(tmp_path / "evil").read_text()
    assert (
        re.search('<img alt="Expected coverage against cost" src="data:image/svg', words)
        and "<img src=x" not in words
    )


def test_a_dead_kernel_is_a_failure(root, tmp_path, monkeypatch):
    """papermill marks cells of a dead kernel completed; the pipeline stamps the step failed and hints at memory."""
    import nbformat

    threads = set(threading.enumerate())
    book = nbformat.read(root / "notebooks/01_plan.ipynb", 4)
    book.cells[3].source = "import os\nos._exit(9)"
    nbformat.write(book, tmp_path / "01_plan.ipynb")
    monkeypatch.setattr(pipeline, "notebook_path", lambda stage: tmp_path / f"{stage}.ipynb")
    with pytest.raises(StudyError, match="01_plan failed: .*\nhint: the kernel died"):
        pipeline.run("params/smoke.yaml", outputs=str(tmp_path / "out"))
    assert (
        json.loads((tmp_path / "out/smoke/01_plan/failed.json").read_text())["error"]
        == "DeadKernelError"
    )
    assert set(threading.enumerate()) == threads, "a kernel's heartbeat goes on"
