"""Where files, models and bundled checkpoints lie."""

from __future__ import annotations

from pathlib import Path

from wcse_lib.nano import MODELS
from wcse_lib.store import StudyError, sha256
from wcse_lib.study.arms import ImportedArm
from wcse_lib.study.params import Study
from wcse_lib.verifiers import SHIPPED

PACKAGE = Path(__file__).parents[1]


def kit() -> Path:
    """The folder of this kit's own `notebooks/` and `params/`: a part of what was installed, or the checkout."""
    installed = PACKAGE / "kit"  # written by setup.py
    return installed if installed.is_dir() else PACKAGE.parent


def project_root() -> Path:
    """The nearest folder upward from here that holds `notebooks/` and `params/`; else the current folder."""
    here = Path.cwd()
    return next(
        (
            d
            for d in [here, *here.parents]
            if (d / "notebooks").is_dir() and (d / "params").is_dir()
        ),
        here,
    )


def notebook_path(stage: str) -> Path:
    """The notebook of a stage: the project's own, else the kit's."""
    own = project_root() / "notebooks" / f"{stage}.ipynb"
    return own if own.is_file() else kit() / "notebooks" / f"{stage}.ipynb"


def resolve(path: str | Path) -> Path:
    """A path as given when it is absolute or exists from here, else seen from the project's root.

    Files of `params/` that are not there are the kit's own.
    """
    path = Path(path).expanduser()
    if path.is_absolute() or path.exists():
        return path
    in_project, in_kit = project_root() / path, kit() / path
    is_of_kit = path.parts[:1] == ("params",) and in_kit.exists()
    return in_kit if is_of_kit and not in_project.exists() else in_project


def resolve_model(model: str) -> str:
    """The folder of a bundled nano model or of a local checkpoint; any other text is taken as a hub id.

    Raises StudyError for what can be neither: a hub id is a name, or an owner and a name with one slash between.
    """
    if (MODELS / model / "config.json").is_file():
        return str(MODELS / model)
    local = resolve(model)
    if local.is_dir():
        return str(local)
    if model.startswith((".", "/", "~", "nano-")) or model.count("/") > 1:
        raise StudyError(
            f"model {model!r}: no such folder and no bundled model; bundled: {', '.join(bundled())};"
            " `make real` makes those under outputs/models"
        )
    return model


def bundled() -> list[str]:
    return sorted(p.parent.name for p in MODELS.glob("*/config.json"))


def verifier_path(name: str) -> Path:
    """The file of a verifier: one that comes with the kit by its name, or the user's own."""
    return SHIPPED.get(name) or resolve(name)


def named_files(study: Study) -> dict[str, str]:
    """SHA-256 of every local file that a study's parameters name and that is here: problems, imports, prompts,
    prices, a verifier."""
    d = study.dataset
    paths = (
        [d.train, d.held_out, *(held.path for held in d.transfer.values())]
        if d.name == "files"
        else []
    )
    paths += [arm.path for arm in study.arms.values() if isinstance(arm, ImportedArm)]
    paths += [study.prompt.shots, study.budget.prices]
    found = {name: resolve(name) for name in filter(None, paths)}
    if verifier := study.verification.path:
        found[verifier] = verifier_path(verifier)
    return {name: sha256(path) for name, path in found.items() if path.is_file()}
