"""The pilot of a study: which small study is drawn before it, and where it lies."""

from __future__ import annotations

from pathlib import Path

from wcse_lib.study.params import Study
from wcse_lib.study.paths import resolve
from wcse_lib.study.reading import check_study


def pilot_study(study: Study) -> Study:
    """The small study whose samples a study's 01 forecasts from: `<study>-pilot`, run through 03 before it.

    It has the same data, prompt, sampling and arms with a model, `pilot.n_problems` of the training problems and one
    budget. Its samples are the study's own first ones (same seeds): a pilot is part of what it forecasts.
    """
    data, pilot = study.model_dump(mode="json"), study.pilot
    kept = ("title", "seed", "dataset", "prompt", "sampling", "verification")
    small = {key: data[key] for key in kept}
    n_train = study.dataset.n_train or pilot.n_problems
    small["dataset"]["n_train"] = min(n_train, pilot.n_problems)
    if study.verification.judge == "human":
        small["verification"]["judge"] = "none"
    small["arms"] = {name: data["arms"][name] for name in study.plain_arms}
    small["budget"] = {
        "reference": study.budget.reference,
        "samples": {"pilot": pilot.n_samples},
        "match": "count",
        "first": pilot.first,
    }
    small["study"] = f"{study.study[:34]}-pilot"
    return check_study(small, f"the pilot of {study.study}")


def pilot_folder(study: Study, outputs: str | Path) -> Path:
    if study.pilot.folder:
        return resolve(study.pilot.folder)
    return resolve(outputs) / pilot_study(study).study
