"""Labelling: a panel in the notebook where people judge the reasoning of correct samples, blind to the arm."""

from __future__ import annotations

import html
import json
import random
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from wcse_lib.store import KEY, locked, write_text

COLUMNS = [*KEY, "sound", "judge", "reason", "labeller", "time"]
CHOICES = {
    "s": ("sound", True, "success"),
    "f": ("flawed", False, "danger"),
    "u": ("unsure", None, "warning"),
}
MAX_SHOWN = 20_000  # characters
HELP = (
    "The final answer is right. Does the solution really get there? <b>Flawed</b>: a wrong calculation, a step that "
    "does not follow, a misread quantity, or luck. <b>Sound</b>: otherwise, however clumsy. Click a button, or click "
    "into the box and press <b>s</b>, <b>f</b>, <b>u</b> (unsure) or <b>b</b> (back). Every label is saved at once."
)


def draw(samples: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Draw up to `n` random correct samples of every author, mixed so that their order says nothing about the author.

    Args: samples: KEY columns, `verdict`, and for the panel `question` and `text`. Draw and order depend on keys and
    seed alone, so that every labeller gets the same; a larger `n` keeps the samples of a smaller one.
    """
    correct = samples[samples["verdict"] == "correct"]
    for use in (
        "draw",
        "order",
    ):  # the draw's own places would put the author with more samples first
        places = [
            random.Random(f"{use}:{seed}:{author}:{p}:{i}").random()
            for author, p, i in correct[KEY].values
        ]
        correct = correct.iloc[sorted(range(len(correct)), key=places.__getitem__)]
        correct = correct.groupby("author").head(n)
    return correct.reset_index(drop=True)


def panel(items: pd.DataFrame, path: str | Path, labeller: str) -> Any:
    """An ipywidgets panel that shows one item at a time and saves each label to `path` (JSONL) as soon as it is given.

    Args: items: from `draw`, with `question` and `text`; labeller: a name, needed for agreement. What the labeller has
    already labelled is skipped, so a panel opened again goes on. Raises ValueError for an empty name or a damaged file.
    """
    import ipywidgets as w

    if not labeller.strip():
        raise ValueError("labeller: write your name, so that two people's labels can be compared")
    done = {tuple(row[k] for k in KEY) for row in _read(path) if row["labeller"] == labeller}
    rows = [row for row in items.to_dict("records") if tuple(row[k] for k in KEY) not in done]
    state = {"at": 0}  # a place in `rows`: "back" reaches no further than this panel's own labels

    status, view = w.HTML(), w.HTML(layout=w.Layout(border="1px solid #999", padding="8px"))
    note = w.Text(placeholder="why? (optional, saved with the label)", layout=w.Layout(width="60%"))
    key_box = w.Text(
        placeholder="keys: s f u b", continuous_update=True, layout=w.Layout(width="12em")
    )
    buttons = {
        k: w.Button(description=f"{name} ({k})", button_style=style)
        for k, (name, _, style) in CHOICES.items()
    }
    buttons["b"] = w.Button(description="back (b)")

    def show() -> None:
        finished = state["at"] >= len(rows)
        n_done = len(items) - len(rows) + state["at"]
        status.value = f"{n_done} of {len(items)} done, labeller <b>{html.escape(labeller)}</b>"
        for k, button in buttons.items():
            button.disabled = state["at"] == 0 if k == "b" else finished
        view.value = "<b>All done. Thank you.</b>" if finished else _shown(rows[state["at"]])

    def press(k: str) -> None:
        if k == "b":
            state["at"] = max(0, state["at"] - 1)
        elif k in CHOICES and state["at"] < len(rows):
            row = rows[state["at"]]
            save(
                path,
                {
                    **{c: row[c] for c in KEY},
                    "sound": CHOICES[k][1],
                    "reason": note.value,
                    "labeller": labeller,
                },
            )
            state["at"] += 1
            note.value = ""
        show()

    def typed(change: dict) -> None:
        if change["new"]:
            key_box.value = ""
            press(
                change["new"].lower()
            )  # two letters at once are none: better lost than on the wrong sample

    key_box.observe(typed, "value")
    for k, button in buttons.items():
        button.on_click(lambda _, k=k: press(k))
    show()
    return w.VBox([w.HTML(HELP), status, view, w.HBox([*buttons.values(), key_box]), note])


def _shown(row: dict) -> str:
    """Question and solution as escaped text; no author, engine or id."""
    shown = ""
    for title, text in (("Problem", str(row["question"])), ("Solution", str(row["text"]))):
        cut = f"\n[… {len(text) - MAX_SHOWN} more characters]" * (len(text) > MAX_SHOWN)
        body = html.escape(text[:MAX_SHOWN] + cut)
        shown += f"<b>{title}</b><pre style='white-space:pre-wrap;max-height:24em;overflow:auto'>{body}</pre>"
    return shown


def save(path: str | Path, label: dict) -> None:
    """Add one label to a JSONL file, or replace the same labeller's earlier one; whole or not at all, one process at a time."""
    path, now = Path(path), datetime.now(UTC).isoformat(timespec="seconds")
    label = {**label, "sample_index": int(label["sample_index"]), "judge": "human", "time": now}
    with locked(path.parent, f".{path.name}.lock", wait_seconds=30):
        rows = [row for row in _read(path) if any(row[c] != label[c] for c in (*KEY, "labeller"))]
        write_text(
            path, "".join(json.dumps({c: row[c] for c in COLUMNS}) + "\n" for row in [*rows, label])
        )


def load(path: str | Path) -> pd.DataFrame:
    """All labels of a file, one row each (COLUMNS; `sound` is True, False or None); empty when it is not there yet."""
    return pd.DataFrame(_read(path), columns=COLUMNS).astype({"sound": "boolean"})


def _read(path: str | Path) -> list[dict]:
    rows, text = [], Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""
    for n, line in enumerate(text.splitlines(), 1):
        try:
            rows.append({c: json.loads(line)[c] for c in COLUMNS})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {n}: not a label ({error}); mend or remove that line"
            ) from None
    return rows


def agreement(labels: pd.DataFrame, first: str, second: str) -> dict[str, float]:
    """Agreement of two labellers on samples that both decided: n, raw share, Cohen's kappa (NaN where undefined)."""
    by_key, nan = (
        labels.dropna(subset="sound").pivot(index=KEY, columns="labeller", values="sound"),
        float("nan"),
    )
    for name in (first, second):
        if name not in by_key:
            raise ValueError(
                f"no decided label by {name!r}; labellers: {', '.join(map(str, by_key.columns))}"
            )
    a, b = by_key[[first, second]].dropna().astype(bool).to_numpy().T
    raw = sum(a == b) / len(a) if len(a) else nan
    chance = (sum(a) * sum(b) + sum(~a) * sum(~b)) / len(a) ** 2 if len(a) else nan
    return {
        "n": len(a),
        "raw": float(raw),
        "kappa": float((raw - chance) / (1 - chance)) if chance < 1 else nan,
    }


def agreement_table(labels: pd.DataFrame) -> pd.DataFrame:
    """`agreement` of every two labellers who decided something; empty with fewer than two."""
    names = sorted(labels.dropna(subset="sound")["labeller"].unique())
    rows = [{"first": a, "second": b, **agreement(labels, a, b)} for a, b in combinations(names, 2)]
    return pd.DataFrame(rows, columns=["first", "second", "n", "raw", "kappa"])


def judgements(labels: pd.DataFrame) -> pd.DataFrame:
    """One judgement per sample from all its labels: what the deciding labellers agree on, else None with the reason."""
    rows = []
    for key, group in labels.groupby(KEY):
        said = group["sound"].dropna().unique()
        why = "; ".join(f"{r.labeller}: {r.reason}" for r in group.itertuples() if r.reason)
        why = why if len(said) == 1 else "labellers disagree" if len(said) else "nobody was sure"
        rows.append((*key, bool(said[0]) if len(said) == 1 else None, "human", why))
    return pd.DataFrame(rows, columns=[*KEY, "sound", "judge", "reason"]).astype(
        {"sound": "boolean"}
    )
