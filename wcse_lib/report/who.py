"""Who is who in a study, and what it cost: the lines of its page beside the answer."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from wcse_lib.report.format import total_words


def who_is_who(plan: dict) -> dict[str, str]:
    """Every arm, and the students, with models, sizes and numbers, from a plan as JSON has it."""
    words = {name: _arm(arm) for name, arm in plan["arms"].items()}
    students = plan["study"].get("students") or {}
    if students:
        models = [_named(base, student.get("model", "")) for base, student in students.items()]
        n_seeds = len(plan["study"]["training"]["seeds"])
        seeds = "one seed" if n_seeds == 1 else f"{n_seeds} seeds"
        n_problems = plan["n_problems"].get("held_out", 0)
        words["students"] = (
            f"{', '.join(models)}; {seeds}, tested on {n_problems:,} held-out problems"
        )
    return words


def _arm(arm: dict) -> str:
    """An arm's model with its size, and how many samples of a problem its budgets buy."""
    parts = [_model(arm)]
    if arm.get("n_parameters"):
        parts.append(size_words(arm["n_parameters"]))
    if arm.get("kind") == "adaptive":
        parts.append("spent unevenly")
    bought = " or ".join(f"{n:,}" for n in arm["samples"].values())
    samples = "sample" if bought == "1" else "samples"
    return f"{', '.join(parts)}; {bought} {samples} a problem"


def _model(arm: dict) -> str:
    if arm.get("shares"):
        parts = [f"{100 * share:.0f} % {name}" for name, share in arm["shares"].items()]
        return f"a mix of {' and '.join(parts)}"
    return Path(str(arm.get("model", "unknown"))).name


def _named(base: str, model: str) -> str:
    name = Path(str(model)).name
    return f"{base} ({name})" if name and name != base else base


def size_words(n_parameters: float) -> str:
    """How large a model is, as people say it.

    >>> size_words(1_200_000), size_words(134_515_008), size_words(27e9)
    ('1.2 M parameters', '135 M parameters', '27 B parameters')
    """
    unit, name = (1e9, "B") if n_parameters >= 1e9 else (1e6, "M")
    return f"{n_parameters / unit:.3g} {name} parameters"


def cost_words(totals: pd.DataFrame | None) -> list[str]:
    """What the whole study cost, by unit, from the table `totals`; nothing where that is not known."""
    if totals is None:
        return []
    unit = str(totals["unit"].iloc[0])
    known = {
        unit: totals["spent"].sum(),
        "hours": totals["hours"].sum(),
        "usd": totals["usd"].sum(),
    }
    words = {name: total_words(amount, name) for name, amount in known.items() if amount > 0}
    if "hours" in words:
        words["hours"] += " of its machine"
    return list(words.values())
