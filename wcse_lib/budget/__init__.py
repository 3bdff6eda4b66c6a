"""What sampling costs, how budgets are matched and shared out, and what was spent."""

from wcse_lib.budget.allocate import decide, mix_counts
from wcse_lib.budget.buying import exchange, matched_samples
from wcse_lib.budget.checkpoints import check_tokenizer, read_model
from wcse_lib.budget.costs import SampleCost, cost, sampling_flops, training_flops
from wcse_lib.budget.facts import describe
from wcse_lib.budget.ledger import ledger_table
from wcse_lib.budget.matching import (
    MATCHED_WITHIN,
    Spend,
    adaptive_arm,
    charged_prompts,
    cost_of,
    flops_cost_model,
    held_arm,
    match_arms,
    matched_costs,
    mixed_arm,
    planned_amounts,
    unspent,
)
from wcse_lib.budget.on_policy import (
    OnPolicyCost,
    OnPolicyFlops,
    on_policy_budget,
    on_policy_cost,
    scorer_of,
)
from wcse_lib.budget.prices import read_price
from wcse_lib.budget.totals import Part, totals
from wcse_lib.budget.whole import proposals

__all__ = [
    "MATCHED_WITHIN",
    "OnPolicyCost",
    "OnPolicyFlops",
    "Part",
    "SampleCost",
    "Spend",
    "adaptive_arm",
    "charged_prompts",
    "check_tokenizer",
    "cost",
    "cost_of",
    "decide",
    "describe",
    "exchange",
    "flops_cost_model",
    "held_arm",
    "ledger_table",
    "match_arms",
    "matched_costs",
    "matched_samples",
    "mix_counts",
    "mixed_arm",
    "on_policy_budget",
    "on_policy_cost",
    "planned_amounts",
    "proposals",
    "read_model",
    "read_price",
    "sampling_flops",
    "scorer_of",
    "totals",
    "training_flops",
    "unspent",
]
