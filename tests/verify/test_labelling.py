"""The labelling panel: blind, saves after every label, resumes, escapes; agreement of two labellers."""

import json
import math
from multiprocessing import Process

import pandas as pd
import pytest

from wcse_lib.store import KEY
from wcse_lib.verify import labelling
from wcse_lib.verify.rates import by_problem, false_positive_table


def samples(n=40):
    rows = [
        (
            a,
            f"p{i}",
            j,
            f"Question {i}?",
            f"{j} <script>alert(1)</script>",
            ["incorrect", "correct", "correct"][i % 3],
        )
        for a, many in (("se-arm", 1), ("wc-arm", 3))
        for i in range(n)
        for j in range(many)
    ]
    return pd.DataFrame(rows, columns=[*KEY, "question", "text", "verdict"])


def parts(panel):
    """(status, view, buttons by letter, key box, note) of a panel."""
    _, status, view, row, note = panel.children
    return status, view, dict(zip("sfub", row.children)), row.children[4], note


def test_draw_is_fair_and_reproducible():
    frame = samples()
    items = labelling.draw(frame, 10, seed=1)
    assert items["author"].value_counts().to_dict() == {"se-arm": 10, "wc-arm": 10}
    assert (items["verdict"] == "correct").all()
    assert not items.duplicated(KEY).any()
    again = labelling.draw(frame.sample(frac=1, random_state=3), 10, seed=1)
    pd.testing.assert_frame_equal(items, again)
    more = labelling.draw(frame, 15, seed=1)
    assert set(map(tuple, items[KEY].values)) < set(map(tuple, more[KEY].values))
    assert not items[KEY].equals(labelling.draw(frame, 10, seed=2)[KEY])
    firsts = [
        (labelling.draw(frame, 10, seed=s)["author"].head(10) == "wc-arm").mean() for s in range(60)
    ]
    assert 0.43 < sum(firsts) / 60 < 0.57  # the order does not tell the arm with more samples
    assert len(labelling.draw(frame, 1_000, seed=1)) == (frame["verdict"] == "correct").sum()


def test_more_labels_go_to_what_a_model_flags():
    assert labelling.n_flagged(50, 200, 1800) == 11  # of 50 random ones 5
    assert labelling.n_flagged(50, 1000, 1000) == 36
    assert labelling.n_flagged(50, 3, 1000) == 2  # without any there is no rate
    assert labelling.n_flagged(50, 30, 4) == 30  # all that there are
    assert labelling.n_flagged(50, 100, 4) == 48
    assert labelling.n_flagged(50, 0, 100) == 0
    assert labelling.n_flagged(50, 100, 0) == 50


def test_panel_saves_every_label_and_resumes(tmp_path):
    path, items = tmp_path / "deep" / "labels.jsonl", labelling.draw(samples(), 3, seed=0)
    status, view, buttons, keys, note = parts(labelling.panel(items, path, "Ann"))
    assert "0 of 6 done" in status.value
    assert buttons["b"].disabled
    note.value = "step 2 <b>is odd</b>"
    buttons["f"].click()
    assert len(labelling.load(path)) == 1
    assert note.value == ""
    keys.value = "s"
    assert keys.value == ""
    assert len(labelling.load(path)) == 2
    assert "2 of 6 done" in status.value
    for typed in ("x", "sf"):  # no key, and two at once: better lost than on the wrong sample
        keys.value = typed
        assert keys.value == ""
        assert len(labelling.load(path)) == 2
    labels = labelling.load(path)
    assert labels["sound"].tolist() == [False, True]
    assert labels["reason"].tolist() == [
        "step 2 <b>is odd</b>",
        "",
    ]
    assert labels[KEY].values.tolist() == items[KEY].head(2).values.tolist()

    status, view, buttons, keys, note = parts(labelling.panel(items, path, "Ann"))  # opened again
    assert "2 of 6 done" in status.value
    assert str(items["question"][2]) in view.value
    for letter in "usbfsus":  # the third is a step back and a change of mind
        keys.value = letter
    assert "All done" in view.value
    assert "6 of 6 done" in status.value
    assert buttons["s"].disabled
    sound = (
        labelling.load(path).set_index(KEY)["sound"].reindex(pd.MultiIndex.from_frame(items[KEY]))
    )
    assert sound.astype(object).where(sound.notna(), None).tolist() == [
        False,
        True,
        None,
        False,
        True,
        None,
    ]
    status, *_ = parts(labelling.panel(items, path, "Ben"))
    assert "0 of 6 done" in status.value


def test_panel_is_blind_and_escapes(tmp_path):
    items = labelling.draw(samples(), 5, seed=0)
    panel = labelling.panel(items, tmp_path / "labels.jsonl", "<i>Ann</i>")
    status, view, buttons, keys, _ = parts(panel)
    for _ in range(10):
        shown = "".join(str(getattr(child, "value", "")) for child in panel.children)
        assert "arm" not in shown
        assert "<script>" not in shown
        assert "<i>Ann" not in shown
        assert "&lt;script&gt;" in shown
        assert "&lt;i&gt;Ann" in shown
        buttons["s"].click()
    assert "All done" in view.value


def test_long_texts_are_cut_in_view(tmp_path):
    items = labelling.draw(samples(), 1, seed=0).assign(text="<" * 1_000_000)
    _, view, *_ = parts(labelling.panel(items, tmp_path / "labels.jsonl", "Ann"))
    assert "more characters" in view.value
    assert len(view.value) < 150_000


def test_faults_are_named(tmp_path):
    path = tmp_path / "labels.jsonl"
    with pytest.raises(ValueError, match="labeller"):
        labelling.panel(labelling.draw(samples(), 1, seed=0), path, " ")
    path.write_text('{"author": "a"}\n')
    with pytest.raises(ValueError, match="line 1"):
        labelling.load(path)
    with pytest.raises(ValueError, match="line 1"):
        labelling.save(
            path, dict(zip([*KEY, "sound", "reason", "labeller"], ["a", "p", 0, True, "", "Ann"]))
        )
    assert path.read_text() == '{"author": "a"}\n'


def labels(**by_labeller):
    rows = [
        ("arm", f"p{i}", 0, {"s": True, "f": False, "u": None}[c], "human", "", name, "")
        for name, said in by_labeller.items()
        for i, c in enumerate(said)
    ]
    return pd.DataFrame(rows, columns=labelling.COLUMNS).astype({"sound": "boolean"})


def agreement(**by_labeller):
    """The one row of two labellers' agreement."""
    (row,) = labelling.agreement_table(labels(**by_labeller)).to_dict("records")
    return row


def test_agreement():
    row = agreement(
        Ann="s" * 20 + "s" * 5 + "f" * 10 + "f" * 15, Ben="s" * 20 + "f" * 5 + "s" * 10 + "f" * 15
    )
    assert row["n"] == 50
    assert row["raw"] == pytest.approx(0.7)
    assert row["kappa"] == pytest.approx(0.4)
    two = {"first": "Ann", "second": "Ben"}
    assert agreement(Ann="ssfu", Ben="ssfs") == two | {"n": 3, "raw": 1.0, "kappa": 1.0}
    assert math.isnan(agreement(Ann="ss", Ben="ss")["kappa"])
    assert agreement(Ann="su", Ben="us")["n"] == 0


def test_every_two_labellers_are_compared():
    table = labelling.agreement_table(labels(Ann="ssfu", Ben="ssfs", Cid="sfff", Dee="uuuu"))
    assert table[["first", "second", "n"]].values.tolist() == [
        ["Ann", "Ben", 3],
        ["Ann", "Cid", 3],
        ["Ben", "Cid", 4],
    ]
    assert table["raw"].tolist() == pytest.approx([1, 2 / 3, 0.5])
    assert labelling.agreement_table(labels(Ann="sf")).empty


def test_labels_become_judgements():
    frame = labelling.judgements(labels(Ann="ssfuu", Ben="sffsu"))
    assert frame["sound"].astype(object).where(frame["sound"].notna(), None).tolist() == [
        True,
        None,
        False,
        True,
        None,
    ]
    assert frame["reason"].tolist() == ["", "labellers disagree", "", "", "nobody was sure"]
    table = false_positive_table(by_problem(frame))
    assert table.loc[0, ["n", "n_false", "n_undecided"]].tolist() == [3, 1, 2]
    assert table.loc[0, "judge"] == "human"


def test_labels_are_plain_json_lines(tmp_path):
    path = tmp_path / "labels.jsonl"
    label = dict(
        zip([*KEY, "sound", "reason", "labeller"], ["a", "p", 0, None, "\u2028 é\n", "Zoë"])
    )
    labelling.save(path, label)
    labelling.save(path, {**label, "sound": True})
    (line,) = path.read_text().split("\n")[:-1]
    assert json.loads(line)["sound"] is True
    assert labelling.load(path)["labeller"].tolist() == ["Zoë"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".labels.jsonl.lock", "labels.jsonl"]


def _label(path, labeller):
    for i in range(40):
        labelling.save(
            path,
            dict(zip([*KEY, "sound", "reason", "labeller"], ["a", "p", i, True, "", labeller])),
        )


def test_labels_of_two_processes_at_once_are_all_there(tmp_path):
    both = [
        Process(target=_label, args=(tmp_path / "labels.jsonl", name)) for name in ("Ann", "Ben")
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert labelling.load(tmp_path / "labels.jsonl")["labeller"].value_counts().to_dict() == {
        "Ann": 40,
        "Ben": 40,
    }
