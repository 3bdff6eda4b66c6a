"""Which students a study trains and tests: bases, arms × budgets × recipes, and controls."""

from __future__ import annotations

from wcse_lib import budget
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, Settings, Study, resolve_model

MAIN = "main"  # the recipe that is study.curation


def list_students(
    study: Study, arms: dict[str, dict], sizes: dict | None = None
) -> dict[str, dict]:
    """Every student to train or test, by name: `base.arm.budget[.recipe][.sSEED]`, and per base its controls.

    Args: arms: the plan's, with `model` and `n_parameters` (None where unknown, and for a mix); sizes: of models that
    are known already. An entry holds base, model, n_parameters, source (base, arm, pooled, reference, wrong), arm,
    budget, recipe, paradigm, seed, amount and learning_rate (a list where several are tried). Raises StudyError when
    two students would have one name.
    """
    out: dict[str, dict] = {}
    most = max(study.budget.samples, key=study.budget.samples.get)
    plain = [a for a in arms if study.arms[a].model is not None]
    for base, student in study.students.items():
        size = (sizes or {}).get(student.model) or budget.read_model(resolve_model(student.model))
        n_parameters = (
            size.n_non_embedding
            if study.budget.parameters == "non_embedding"
            else size.n_parameters
        )
        common = {
            "base": base,
            "model": student.model,
            "n_parameters": size.n_parameters,
            "learning_rate": student.learning_rate or study.training.rate,
        }
        nothing = dict.fromkeys(("arm", "budget", "recipe", "paradigm", "seed", "amount"))
        _add(out, f"{base}.base", common | nothing | {"source": "base"})
        taught = [a for a in arms if student.arms is None or a in student.arms]
        own = next((a for a in plain if student.model == _teacher(study, a)), None)
        wanted = [("arm", arm, b, MAIN) for b in study.budget.samples for arm in taught]
        wanted += [
            ("arm", arm, b, name)
            for name, recipe in study.recipes.items()
            if recipe.students is None or base in recipe.students
            for b in study.budget.samples
            if recipe.budgets is None or b in recipe.budgets
            for arm in taught
        ]
        wanted += [("pooled", None, b, MAIN) for b in study.budget.samples if study.controls.pooled]
        wanted += [("reference", None, most, None)] * study.controls.reference
        wanted += [("wrong", own, most, None)] * (study.controls.wrong and own is not None)
        for source, arm, b, recipe in wanted:
            teachers = _teachers(study, arm, plain) if source in ("arm", "pooled") else []
            teachers = [(_teacher(study, a), arms[a]["n_parameters"]) for a in teachers]
            paradigm = _paradigm(student.model, n_parameters, teachers)
            name = {"arm": f"{base}.{arm}.{b}", "pooled": f"{base}.pooled.{b}"}.get(
                source, f"{base}.{source}"
            )
            name += f".{recipe}" if recipe not in (None, MAIN) else ""
            for seed in study.training.seeds:
                facts = {
                    "source": source,
                    "arm": arm,
                    "budget": b,
                    "recipe": recipe,
                    "paradigm": paradigm,
                }
                tail = "" if len(study.training.seeds) == 1 else f".s{seed}"
                _add(
                    out,
                    name + tail,
                    common | facts | {"seed": seed, "amount": study.training.amount[b]},
                )
    for entry in out.values():
        if entry["source"] != "base":
            settings(
                study, entry, Machine()
            )  # refused here rather than when all samples are paid for
    return out


def _add(out: dict, name: str, entry: dict) -> None:
    if name in out:
        raise StudyError(
            f"two students would be called {name!r}: rename the arm, recipe or budget that reads like it"
        )
    out[name] = entry


def _teachers(study: Study, arm: str | None, plain: list[str]) -> list[str]:
    """The plain arms whose samples an arm's examples are; all for pooled examples (arm None) and a mix by forecast."""
    spec = study.arms[arm] if arm else None
    if spec is None or spec.mix == "best":
        return plain
    return [spec.adaptive.of] if spec.adaptive else list(spec.mix) if spec.mix else [arm]


def _teacher(study: Study, arm: str) -> str:
    """A plain arm's model; the student's own where it is what that student became in an earlier round."""
    spec = study.arms[arm]
    return study.students[spec.once].model if spec.once in study.students else spec.model


def settings(study: Study, entry: dict, machine: Machine) -> Settings:
    """The finetuning settings of one student's entry. Raises StudyError naming the key of what cannot be."""
    t = study.training
    rates = (
        entry["learning_rate"]
        if isinstance(entry["learning_rate"], list)
        else [entry["learning_rate"]]
    )
    same = (
        "method",
        "backend",
        "batch_size",
        "micro_batch_size",
        "max_tokens",
        "warmup",
        "schedule",
        "weight_decay",
        "optimizer",
        "n_checkpoints",
        "lora_rank",
        "lora_dropout",
        "gradient_checkpointing",
        "packing",
    )
    own = {
        "training": t.mode,
        "amount": entry["amount"],
        "seed": (1_000_003 * study.seed + entry["seed"]) % 2**32,
        "merge": t.merged,
    }
    own |= {
        "learning_rate": tuple(rates) if len(rates) > 1 else rates[0],
        "dtype": machine.dtype or "auto",
        "compile": machine.compile,
    }
    own |= {
        "lora_alpha": t.lora_alpha or t.lora_rank,
        "lora_targets": tuple(t.lora_targets or ()),
        "report_to": tuple(t.report_to),
    }
    try:
        return Settings(**own, **{name: getattr(t, name) for name in same})
    except ValueError as error:
        raise StudyError(f"training.{error}") from None


def packages(study: Study, machine: Machine) -> list[str]:
    """Packages that the study's training needs and that are not installed here. Raises StudyError as `settings`."""
    entries = (
        {"amount": amount, "learning_rate": study.training.rate, "seed": 0}
        for amount in study.training.amount.values()
    )
    return sorted({name for entry in entries for name in settings(study, entry, machine).missing()})


def _paradigm(
    model: str, n_parameters: int, teachers: list[tuple[str, float | None]]
) -> str | None:
    """The largest teacher counts: knowledge distillation (kd) when it is another model no smaller than the student, or
    of unknown size; self-improvement when it is the student itself; else weak-to-strong (w2s)."""
    others = [n for name, n in teachers if name != model]
    if any(n is None or n >= n_parameters for n in others):
        return "kd"
    return "self" if len(others) < len(teachers) else "w2s" if teachers else None
