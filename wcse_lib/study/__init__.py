"""A study: what a params file may say, the plan, and where the study's files lie."""

from wcse_lib.study.amounts import UNITS, Amounts, sum_of
from wcse_lib.study.arms import (
    Adaptive,
    AdaptiveArm,
    ArmOfModel,
    ArmParams,
    DrawnArm,
    ImportedArm,
    MixedArm,
)
from wcse_lib.study.dataset import Dataset
from wcse_lib.study.fields import Count, Name, Strict
from wcse_lib.study.folder import STAGES, Run
from wcse_lib.study.machine import Endpoint, Machine
from wcse_lib.study.params import Study
from wcse_lib.study.paths import named_files, project_root, resolve, resolve_model, weights_mark
from wcse_lib.study.plan import (
    MAIN,
    Crossing,
    ModelFacts,
    ModelSize,
    Paradigm,
    PilotFacts,
    Plan,
    PlannedAdaptive,
    PlannedArm,
    PlannedDrawn,
    PlannedImported,
    PlannedMixed,
    PlannedStudent,
    Price,
    Source,
    read_plan,
    shares_of,
)
from wcse_lib.study.reading import (
    check_machine,
    check_study,
    load_machine,
    load_study,
    read_yaml,
    validate,
    write_yaml,
)
from wcse_lib.study.seeds import fingerprint, number_of, rank, sample_seed
from wcse_lib.study.settings import Settings
from wcse_lib.study.stages import Curation, Prompt, Verification

__all__ = [
    "Adaptive",
    "AdaptiveArm",
    "Amounts",
    "ArmOfModel",
    "ArmParams",
    "Count",
    "Crossing",
    "Curation",
    "Dataset",
    "DrawnArm",
    "Endpoint",
    "ImportedArm",
    "MAIN",
    "Machine",
    "MixedArm",
    "ModelFacts",
    "ModelSize",
    "Name",
    "Paradigm",
    "PilotFacts",
    "Plan",
    "PlannedAdaptive",
    "PlannedArm",
    "PlannedDrawn",
    "PlannedImported",
    "PlannedMixed",
    "PlannedStudent",
    "Price",
    "Prompt",
    "Run",
    "STAGES",
    "Settings",
    "Source",
    "Strict",
    "Study",
    "UNITS",
    "Verification",
    "check_machine",
    "check_study",
    "fingerprint",
    "load_machine",
    "load_study",
    "named_files",
    "number_of",
    "project_root",
    "rank",
    "read_plan",
    "read_yaml",
    "resolve",
    "resolve_model",
    "sample_seed",
    "shares_of",
    "sum_of",
    "validate",
    "weights_mark",
    "write_yaml",
]
