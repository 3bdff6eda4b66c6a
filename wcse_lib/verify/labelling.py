"""Labelling: a panel in the notebook where people judge the reasoning of correct samples, blind to the arm."""

from __future__ import annotations

import html
import json
import random
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wcse_lib.store import KEY, locked, write_text
from wcse_lib.verdicts import JUDGEMENTS

COLUMNS = [*KEY, "sound", "judge", "reason", "labeller", "time"]
SOUND = {"s": True, "f": False, "u": None}  # key -> the label
BACK = "b"
FEWEST = 2  # labels of flagged and of passed samples, where there are so many
SPREADS = (0.5, 0.2)  # assumed standard deviations of being flawed, of flagged and passed samples
MAX_SHOWN = 20_000  # characters
HELP = (
    "The final answer is right. Does the solution really get there? <b>Flawed</b>: a wrong calculation, a step that "
    "does not follow, a misread quantity, or luck. <b>Sound</b>: otherwise, however clumsy. Click a button, or click "
    "into the box and press <b>s</b>, <b>f</b>, <b>u</b> (unsure) or <b>b</b> (back). Every label is saved at once. "
    "Where a model judged before, more of what it flags is shown than there is; the rates are corrected for that."
)


def draw(samples: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Draw up to `n` random correct samples of every author, mixed so that their order says nothing about the author.

    Args: samples: KEY columns, `verdict`, and for the panel `question` and `text`. Draw and order depend on keys and
    seed alone, so that every labeller gets the same; a larger `n` keeps the samples of a smaller one.
    """
    correct = samples[samples["verdict"] == "correct"]
    drawn = _shuffled(correct, f"draw:{seed}").groupby("author").head(n)
    # once more, as the draw's own order would put the author with more samples first
    return _shuffled(drawn, f"order:{seed}").reset_index(drop=True)


def n_flagged(n: int, n_judged_flawed: int, n_judged_sound: int) -> int:
    """How many of `n` labels go to samples that a model judged flawed; the others go to those that it judged sound.

    In proportion to how many there are times the spread of the truth among them, which gives the narrowest interval
    (Neyman 1934), and at least FEWEST of either, without which there is no rate. The spreads are assumed: as if of the
    flagged half were flawed, and of the passed 4 %.
    """
    of_flagged, of_passed = SPREADS[0] * n_judged_flawed, SPREADS[1] * n_judged_sound
    wanted = round(n * of_flagged / (of_flagged + of_passed))
    wanted = max(FEWEST, min(wanted, n - FEWEST))
    n_passed = min(n - min(wanted, n_judged_flawed), n_judged_sound)
    return min(n - n_passed, n_judged_flawed)


def _shuffled(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows in a random order that depends on the name and their keys alone."""
    places = []
    for author, problem_id, sample_index in rows[KEY].values:
        places.append(random.Random(f"{name}:{author}:{problem_id}:{sample_index}").random())
    return rows.iloc[np.argsort(places, kind="stable")]


def panel(items: pd.DataFrame, path: str | Path, labeller: str) -> Any:
    """An ipywidgets panel that shows one item at a time and saves each label to `path` (JSONL) as soon as it is given.

    Args: items: from `draw`, with `question` and `text`; labeller: a name, needed for agreement. What the labeller has
    already labelled is skipped, so a panel opened again goes on. Raises ValueError for an empty name or a damaged file.
    """
    import ipywidgets as w

    if not labeller.strip():
        raise ValueError("labeller: write your name, so that two people's labels can be compared")
    done = {_key(row) for row in _read(path) if row["labeller"] == labeller}
    rows = [row for row in items.to_dict("records") if _key(row) not in done]
    at = 0  # a place in `rows`: "back" reaches no further than this panel's own labels

    status, view = w.HTML(), w.HTML(layout=w.Layout(border="1px solid #999", padding="8px"))
    note = w.Text(placeholder="why? (optional, saved with the label)", layout=w.Layout(width="60%"))
    key_box = w.Text(placeholder="keys: s f u b", continuous_update=True)
    key_box.layout = w.Layout(width="12em")
    buttons = {
        "s": w.Button(description="sound (s)", button_style="success"),
        "f": w.Button(description="flawed (f)", button_style="danger"),
        "u": w.Button(description="unsure (u)", button_style="warning"),
        BACK: w.Button(description="back (b)"),
    }

    def show() -> None:
        is_finished = at >= len(rows)
        n_done = len(items) - len(rows) + at
        status.value = f"{n_done} of {len(items)} done, labeller <b>{html.escape(labeller)}</b>"
        for key, button in buttons.items():
            button.disabled = at == 0 if key == BACK else is_finished
        view.value = "<b>All done. Thank you.</b>" if is_finished else _shown(rows[at])

    def press(key: str) -> None:
        nonlocal at
        if key == BACK:
            at = max(0, at - 1)
        elif key in SOUND and at < len(rows):
            save(path, rows[at] | {"sound": SOUND[key], "reason": note.value, "labeller": labeller})
            at += 1
            note.value = ""
        show()

    def on_typed(change: dict) -> None:
        if change["new"]:
            key_box.value = ""
            # two letters at once are none: better lost than on the wrong sample
            press(change["new"].lower())

    key_box.observe(on_typed, "value")
    for key, button in buttons.items():
        button.on_click(lambda _, key=key: press(key))
    show()
    return w.VBox([w.HTML(HELP), status, view, w.HBox([*buttons.values(), key_box]), note])


def _key(row: dict) -> tuple:
    return tuple(row[column] for column in KEY)


def _shown(row: dict) -> str:
    """Question and solution as escaped text; no author, engine or id."""
    blocks = []
    for title, column in (("Problem", "question"), ("Solution", "text")):
        text = str(row[column])
        n_cut = len(text) - MAX_SHOWN
        if n_cut > 0:
            text = f"{text[:MAX_SHOWN]}\n[… {n_cut} more characters]"
        style = "white-space:pre-wrap;max-height:24em;overflow:auto"
        blocks.append(f"<b>{title}</b><pre style='{style}'>{html.escape(text)}</pre>")
    return "".join(blocks)


def save(path: str | Path, label: dict) -> None:
    """Add one label to a JSONL file, or replace the same labeller's earlier one.

    The file is written whole or not at all, by one process at a time.
    """
    path, now = Path(path), datetime.now(UTC).isoformat(timespec="seconds")
    label = label | {"sample_index": int(label["sample_index"]), "judge": "human", "time": now}
    same = _key(label), label["labeller"]
    with locked(path.parent, f".{path.name}.lock", wait_seconds=30):
        rows = [row for row in _read(path) if (_key(row), row["labeller"]) != same]
        lines = [json.dumps({column: row[column] for column in COLUMNS}) for row in [*rows, label]]
        write_text(path, "\n".join(lines) + "\n")


def load(path: str | Path) -> pd.DataFrame:
    """All labels of a file, one row each (COLUMNS; `sound` is True, False or None); empty where there is no file."""
    return pd.DataFrame(_read(path), columns=COLUMNS).astype({"sound": "boolean"})


def _read(path: str | Path) -> list[dict]:
    path = Path(path)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            label = json.loads(line)
            rows.append({column: label[column] for column in COLUMNS})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: not a label ({error}); mend or remove that line"
            ) from None
    return rows


def agreement_table(labels: pd.DataFrame) -> pd.DataFrame:
    """Agreement of every two labellers who decided something; empty with fewer than two.

    Columns: first, second; n samples that both decided; raw: the share of equal labels; kappa: Cohen's (NaN where
    undefined).
    """
    decided = labels.dropna(subset="sound")
    by_sample = decided.pivot(index=KEY, columns="labeller", values="sound")
    rows = []
    for first, second in combinations(sorted(by_sample), 2):
        both = by_sample[[first, second]].dropna().astype(bool)
        raw = (both[first] == both[second]).mean()
        p_first, p_second = both.mean()
        by_chance = p_first * p_second + (1 - p_first) * (1 - p_second)
        kappa = (raw - by_chance) / (1 - by_chance) if by_chance < 1 else np.nan
        rows.append((first, second, len(both), raw, kappa))
    return pd.DataFrame(rows, columns=["first", "second", "n", "raw", "kappa"])


def judgements(labels: pd.DataFrame) -> pd.DataFrame:
    """One judgement per sample from all its labels: what the deciding labellers agree on, else None with the reason."""
    rows = []
    for key, group in labels.groupby(KEY):
        verdicts = group["sound"].dropna().unique()
        sound = None
        if len(verdicts) == 0:
            reason = "nobody was sure"
        elif len(verdicts) > 1:
            reason = "labellers disagree"
        else:
            sound = bool(verdicts[0])
            noted = group[group["reason"] != ""]
            reason = "; ".join(noted["labeller"] + ": " + noted["reason"])
        rows.append((*key, sound, "human", reason))
    return pd.DataFrame(rows, columns=list(JUDGEMENTS)).astype({"sound": "boolean"})
