"""A study's parameters: what a params file may say, checked strictly before any compute, and where its files lie."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from wcse_lib.nano import MODELS
from wcse_lib.records import StudyError, read_json

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
STAGES = ("01_plan", "02_generate", "03_verify", "04_finetune", "05_evaluate", "06_analyze")


class Strict(BaseModel):
    """No unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Columns(Strict):
    """Which fields of a file hold what; `a.b` reaches into nested objects."""

    question: str = "question"
    answer: str = "answer"
    solution: str | None = None
    level: str | None = None
    problem_id: str | None = None


class Dataset(Strict):
    """The problems: the nano lab's (drawn by the study's seed) or rows of JSONL files."""

    name: Literal["nano", "jsonl"] = "nano"
    train: str | None = None  # path of the problems that arms sample on
    held_out: str | None = None  # path of the problems that students are tested on
    columns: Columns = Columns()
    answer_style: str = "auto"  # how the gold answer is read out of the answer field
    n_train: Count | None = None  # all when left out
    n_validation: Annotated[int, Field(ge=0)] = 0  # taken from the end of the training file
    n_held_out: Annotated[int, Field(ge=0)] | None = None
    levels: list[Annotated[int, Field(ge=1, le=4)]] = [1, 2, 3, 4]  # nano only

    @model_validator(mode="after")
    def _check(self):
        if self.name == "jsonl" and not self.train:
            raise ValueError("train: a path is needed for name: jsonl")
        if self.name == "nano" and (self.train or self.held_out):
            raise ValueError("train, held_out: only for name: jsonl; the nano lab draws its own problems")
        if self.name == "nano" and self.n_train is None:
            raise ValueError("n_train: a number is needed for name: nano")
        if not self.levels:
            raise ValueError("levels: at least one level is needed")
        return self


class SampleColumns(Strict):
    """Which fields of an imported file hold what."""

    text: str = "text"
    question: str | None = None  # joins a row to its problem by the question's text …
    problem_id: str | None = None  # … or by its id
    n_tokens: str | None = None


class Arm(Strict):
    """One generator at its share of the budget."""

    model: Annotated[str, Field(min_length=1)]  # nano name, checkpoint folder, hub id or endpoint model name
    engine: Literal["local", "openai", "import"] = "local"  # local: the machine file says which engine
    path: str | None = None  # import: a JSONL file
    columns: SampleColumns | None = None  # import
    tokenizer: str | None = None  # import: counts the tokens where the file does not
    n_parameters: Positive | None = None  # where no checkpoint can be read
    usd_per_million_tokens: Positive | None = None  # output price, for match: price

    @model_validator(mode="after")
    def _check(self):
        if (self.engine == "import") != bool(self.path):
            raise ValueError("path: needed with engine: import, and only there")
        if self.engine == "import" and not (self.columns and (self.columns.question or self.columns.problem_id)):
            raise ValueError("columns: an imported arm needs columns.text and columns.question or columns.problem_id")
        return self


class Budget(Strict):
    """What arms may spend: the reference arm's samples per problem at each named budget, and how others are matched."""

    reference: Name
    samples: Annotated[dict[Name, Count], Field(min_length=1)] = {"low": 1, "high": 10}
    match: Literal["flops", "count", "price"] = "flops"
    parameters: Literal["all", "non_embedding"] = "all"


class SamplingParams(Strict):
    """How arms sample."""

    temperature: Annotated[float, Field(ge=0, le=5)] = 0.7
    top_k: Annotated[int, Field(ge=0)] = 3
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Count = 512
    stop: list[Annotated[str, Field(min_length=1)]] = []


class Prompt(Strict):
    """The text that a model is shown: its chat template, or a plain text with optional worked examples before it."""

    style: Literal["chat", "plain"] = "chat"
    template: str = "{question}"
    answer_style: str = "auto"  # how final answers are read out of samples

    @field_validator("template")
    @classmethod
    def _has_question(cls, value: str) -> str:
        if value.count("{question}") != 1:
            raise ValueError("must contain {question} exactly once")
        return value


class Curation(Strict):
    """Which samples become examples."""

    filter: Literal["gold", "judge", "none"] = "gold"
    unique: Literal["none", "text", "normalised", "equations"] = "text"
    per_problem: Count | None = None


class Student(Strict):
    """A base model that is finetuned on arms' examples."""

    model: Annotated[str, Field(min_length=1)]
    arms: list[Name] | None = None  # all when left out
    learning_rate: Positive | None = None  # instead of training.learning_rate


class Training(Strict):
    """How students are finetuned; every arm of a budget gets the same steps (or the same epochs)."""

    backend: Literal["trl", "unsloth"] = "trl"
    method: Literal["full", "lora", "qlora"] = "full"
    mode: Literal["steps", "epochs"] = "steps"
    amount: dict[Name, Positive] = {"low": 600, "high": 6000}  # by budget
    batch_size: Count = 32
    learning_rate: Positive = 1.0e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    n_checkpoints: Count = 10
    max_tokens: Count = 2048
    lora_rank: Count = 16
    seeds: Annotated[list[int], Field(min_length=1)] = [0]


class Evaluation(Strict):
    """How students are tested on held-out problems: one greedy sample, and `n_samples` drawn ones."""

    n_samples: Count = 8
    temperature: Annotated[float, Field(gt=0, le=5)] = 0.7
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Count = 512
    maj_k: list[Count] = [1, 4, 8]

    @model_validator(mode="after")
    def _check(self):
        if any(k > self.n_samples for k in self.maj_k):
            raise ValueError(f"maj_k: k may not exceed n_samples = {self.n_samples}")
        return self


class Controls(Strict):
    """Students that show whether the study can tell good data from bad."""

    reference: bool = True  # trained on the problems' reference solutions
    wrong: bool = True  # trained on their own wrong samples (students that are arms too)


class Study(Strict):
    """Everything that a params file may say."""

    study: Name
    title: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    dataset: Dataset
    prompt: Prompt = Prompt()
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    budget: Budget
    sampling: SamplingParams = SamplingParams()
    curation: Curation = Curation()
    students: dict[Name, Student] = {}
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    controls: Controls = Controls()

    @model_validator(mode="after")
    def _check(self):
        if self.budget.reference not in self.arms:
            raise ValueError(f"budget.reference: {self.budget.reference!r} is no arm; arms are {', '.join(self.arms)}")
        for name, student in self.students.items():
            for arm in student.arms or []:
                if arm not in self.arms:
                    raise ValueError(f"students.{name}.arms: {arm!r} is no arm; arms are {', '.join(self.arms)}")
        named = {arm for s in self.students.values() for arm in (s.arms if s.arms is not None else self.arms)}
        if self.students and set(self.arms) - named:
            raise ValueError(f"arms.{min(set(self.arms) - named)}: no student names this arm; name it or remove it")
        if self.students and (missing := set(self.budget.samples) - set(self.training.amount)):
            raise ValueError(f"training.amount: no entry for budget {min(missing)!r}")
        if self.students and not self.dataset.n_held_out and not self.dataset.held_out:
            raise ValueError("dataset.n_held_out: students need held-out problems")
        if self.sampling.temperature == 0 and any(n > 1 for n in self.budget.samples.values()):
            raise ValueError("sampling.temperature: 0 draws the same sample every time, but budgets ask for several")
        for name, arm in self.arms.items():
            if self.budget.match == "price" and arm.usd_per_million_tokens is None:
                raise ValueError(f"arms.{name}.usd_per_million_tokens: needed for budget.match: price")
        return self


class Machine(Strict):
    """Where a stage runs; never part of a study's identity."""

    engine: Literal["hf", "vllm"] = "hf"
    device: Literal["cpu", "cuda"] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    batch_size: Count | None = None
    threads: Count | None = None
    workers: Count = 1
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    tensor_parallel_size: Count | None = None
    max_model_len: Count | None = None
    enforce_eager: bool | None = None
    kv_cache_gib: Positive | None = None
    base_url: str | None = None
    api_key_variable: str = "OPENAI_API_KEY"
    concurrency: Count = 8
    limit_usd: Positive | None = None


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=deep)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping. Raises StudyError naming file and place for anything else."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); check the path") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise StudyError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a mapping of keys to values is needed, found {type(data).__name__}")
    return data


def check_study(data: dict, where: str) -> Study:
    """Validate a study. Raises StudyError with every fault: file, key, value and what is allowed."""
    return _validate(Study, data, where)


def check_machine(data: dict, where: str = "machine") -> Machine:
    return _validate(Machine, data, where)


def load_study(path: str | Path) -> Study:
    path = resolve(path)
    return check_study(read_yaml(path), str(path))


def load_machine(path: str | Path = "") -> Machine:
    """Read a machine file; the empty path is the default machine (transformers on CPU or the GPU that is there)."""
    return Machine() if not str(path) else check_machine(read_yaml(resolve(path)), str(path))


def _validate(kind: type[Strict], data: dict, where: str):
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise StudyError("\n".join(_fault(kind, where, e) for e in error.errors())) from None


def _fault(kind: type[Strict], where: str, error: dict) -> str:
    key = ".".join(str(part) for part in error["loc"])
    value = error.get("input")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _keys_at(kind, error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"{where}: {key}: unknown key; {hint}"
    if error["type"] == "value_error":
        return f"{where}: {key + ': ' if key else ''}{message}"
    if error["type"] == "missing":
        return f"{where}: {key}: this key is missing"
    hint = ""
    if isinstance(value, str) and error["type"] in ("float_type", "int_type"):
        try:
            float(value)
            hint = " (YAML reads this as text: write a number as 2.0e+15, without quotes)"
        except ValueError:
            pass
    return f"{where}: {key} = {value!r}: {message[0].lower() + message[1:]}{hint}"


def _keys_at(kind: Any, loc: tuple) -> list[str]:
    """The keys that a model knows at a place; a name inside a mapping of models stands for any of them."""
    for part in loc:
        known = getattr(kind, "model_fields", {})
        kind = _model_in(known[part].annotation) if part in known else kind
    return list(getattr(kind, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The model class somewhere inside an annotation such as `dict[Name, Arm]` or `Columns | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found), None)


def project_root() -> Path:
    """The nearest folder upward from here that holds `notebooks/` and `params/`; else the current folder."""
    here = Path.cwd()
    return next((d for d in [here, *here.parents] if (d / "notebooks").is_dir() and (d / "params").is_dir()), here)


def resolve(path: str | Path) -> Path:
    """A path as given when it is absolute or exists from here, else seen from the project's root."""
    path = Path(path).expanduser()
    return path if path.is_absolute() or path.exists() else project_root() / path


def resolve_model(model: str) -> str:
    """The folder of a bundled nano model or of a local checkpoint; any other text is taken as a hub id."""
    if (MODELS / model / "config.json").is_file():
        return str(MODELS / model)
    local = resolve(model)
    if local.is_dir():
        return str(local)
    if model.startswith((".", "/", "~")) or model.startswith("nano-"):
        raise StudyError(f"model {model!r}: no such folder and no bundled model; bundled: {', '.join(bundled())}")
    return model


def bundled() -> list[str]:
    return sorted(p.parent.name for p in MODELS.glob("*/config.json"))


def fingerprint(data: Any) -> str:
    """A short stable hash of JSON-able data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def sample_seed(study_seed: int, model: str, problem_id: str, sample_index: int) -> int:
    """One 63-bit seed per sample, the same under resuming, sharding, more samples and more problems."""
    text = json.dumps([study_seed, model, problem_id, sample_index])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Run:
    """An opened study folder: its plan, and where each stage's files lie."""

    def __init__(self, folder: str | Path):
        self.folder = resolve(folder)
        self.plan = read_json(self.folder / "01_plan" / "plan.json")
        self.study = check_study(self.plan["study"], str(self.folder / "01_plan" / "plan.json"))

    @property
    def plan_id(self) -> str:
        return self.plan["plan_id"]

    def path(self, stage: str, *names: str) -> Path:
        """A stage's folder (by number or full name), or a file or folder in it."""
        full = next(s for s in STAGES if s.startswith(stage))
        return self.folder.joinpath(full, *names)

    def arm(self, name: str) -> dict:
        return self._named("arms", name)

    def student(self, name: str) -> dict:
        return self._named("students", name)

    def _named(self, kind: str, name: str) -> dict:
        if name not in self.plan[kind]:
            raise StudyError(f"{self.folder}: {name!r} is not among the plan's {kind}: {', '.join(self.plan[kind])}")
        return self.plan[kind][name]
