"""What sampling costs, how budgets are matched and shared out, and what was spent."""

from wcse_lib.budget.allocate import decide, mix_counts
from wcse_lib.budget.costs import (
    ModelSize,
    SampleCost,
    cost,
    exchange,
    matched_samples,
    read_model,
    read_price,
    sampling_flops,
    training_flops,
)
from wcse_lib.budget.ledger import ledger_table
from wcse_lib.budget.matching import (
    cost_of,
    describe,
    flops_way,
    match_arms,
    matched_costs,
    uneven,
    unspent,
)
from wcse_lib.budget.measured import PilotCounts, cost_each, joined

__all__ = [
    "SampleCost",
    "PilotCounts",
    "ModelSize",
    "cost",
    "cost_each",
    "cost_of",
    "decide",
    "describe",
    "exchange",
    "flops_way",
    "joined",
    "ledger_table",
    "match_arms",
    "matched_costs",
    "matched_samples",
    "mix_counts",
    "read_model",
    "read_price",
    "sampling_flops",
    "training_flops",
    "uneven",
    "unspent",
]
