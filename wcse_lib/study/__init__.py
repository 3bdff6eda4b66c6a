"""A study: what a params file may say, the plan, and where the study's files lie."""

from wcse_lib.study.arms import Adaptive, ArmParams
from wcse_lib.study.dataset import Dataset
from wcse_lib.study.fields import Count, Name, Strict
from wcse_lib.study.folder import STAGES, Run
from wcse_lib.study.machine import Endpoint, Machine
from wcse_lib.study.params import Study
from wcse_lib.study.paths import named_files, project_root, resolve, resolve_model, weights_mark
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
    "ArmParams",
    "Count",
    "Curation",
    "Dataset",
    "Endpoint",
    "Machine",
    "Name",
    "Prompt",
    "Run",
    "STAGES",
    "Settings",
    "Strict",
    "Study",
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
    "read_yaml",
    "resolve",
    "resolve_model",
    "sample_seed",
    "validate",
    "weights_mark",
    "write_yaml",
]
