"""How many samples of a problem are compared: as many of each file, or as many as cost the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wcse_lib.budget import matched_samples
from wcse_lib.store import StudyError


@dataclass(frozen=True)
class Prices:
    """What the samples of each file cost: USD of a sample or of a million tokens, in the order of the files."""

    per_sample: tuple[float, ...] = ()
    per_million_tokens: tuple[float, ...] = ()

    def check(self, n_files: int) -> None:
        """Raises StudyError unless there is no price, or one positive price of one kind for each file."""
        if self.per_sample and self.per_million_tokens:
            raise StudyError(
                "--usd-per-sample and --usd-per-million-tokens: prices are of one kind; leave one out"
            )
        given = self.per_sample or self.per_million_tokens
        if given and len(given) != n_files:
            raise StudyError(
                f"prices {', '.join(map(str, given))}: one for each file is needed; give the option {n_files} times, "
                "in the order of the files"
            )
        if any(price <= 0 for price in given):
            raise StudyError(f"prices {', '.join(map(str, given))}: each must be above 0")

    def of_arm(self, place: int, tokens_per_sample: float | None) -> dict:
        """The keys of an arm that say its price."""
        if self.per_sample:
            return {"usd_per_sample": self.per_sample[place]}
        if self.per_million_tokens:
            price = self.per_million_tokens[place]
            return {"usd_per_million_tokens": price, "tokens_per_sample": tokens_per_sample}
        return {}

    def usd_per_sample(self, place: int, tokens_per_sample: float | None) -> float:
        """What a sample of a file costs."""
        if self.per_sample:
            return self.per_sample[place]
        return self.per_million_tokens[place] * tokens_per_sample / 1e6

    @property
    def are_known(self) -> bool:
        return bool(self.per_sample or self.per_million_tokens)

    @property
    def are_of_tokens(self) -> bool:
        return bool(self.per_million_tokens)


def budget_of(
    least: Mapping[str, int], usd_per_sample: Mapping[str, float], paths: Mapping[str, Path]
) -> dict:
    """`budget` of the study: as many samples as all problems have, matched by count or, with prices, by price.

    Args: least: by file, the samples that every problem has; usd_per_sample: by file, empty without prices. Raises
    StudyError where a file holds fewer samples than one of the other costs.
    """
    if not usd_per_sample:
        reference = next(iter(least))
        samples = {"equal_count": min(least.values())}
        return {"reference": reference, "samples": samples, "match": "count"}
    dearer, cheaper = sorted(usd_per_sample, key=usd_per_sample.get, reverse=True)
    dear, cheap = usd_per_sample[dearer], usd_per_sample[cheaper]
    for n in range(least[dearer], 0, -1):
        if matched_samples(n, dear, cheap) <= least[cheaper]:
            break
    else:
        raise StudyError(
            f"{paths[cheaper]}: one sample of {dearer} costs as much as {matched_samples(1, dear, cheap)} of "
            f"{cheaper}, and the file has {least[cheaper]} of some problems; bring more samples, or leave the prices "
            "out to compare equal numbers"
        )
    return {"reference": dearer, "samples": {"equal_cost": n}, "match": "price"}


def few_samples(counts: Mapping[str, pd.Series], used: Mapping[str, int]) -> list[str]:
    """A sentence for each file in which few problems keep all others from being compared at more samples.

    Args: counts: by file, samples of each problem; used: by file, samples of a problem that are compared.
    """
    sentences = []
    for name, n_each in counts.items():
        usual = int(n_each.median())
        if used[name] == n_each.min() < usual:
            sentences.append(
                f"{int((n_each < usual).sum())} of {len(n_each)} problems have fewer than {usual} samples of {name}, "
                f"some only {used[name]}: --samples {usual} leaves them out, so that more samples of the others count."
            )
    return sentences
