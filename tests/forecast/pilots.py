"""Pilots that tests of forecasts draw, and the benchmark that measures their calibration."""

import importlib.util
from functools import cache

import numpy as np
from conftest import ROOT


def pilot(rng, a, b, problems=50, samples=8, zero=0.0):
    rates = rng.beta(a, b, problems) * (rng.random(problems) >= zero)
    return np.full(problems, samples), rng.binomial(samples, rates), rates


def two_arms(problems=200):
    rng = np.random.default_rng(7)
    strong = rng.beta(0.5, 0.8, problems)
    weak = strong * 0.75
    n = np.full(problems, 8)
    return (
        {"se": (n, rng.binomial(8, strong)), "wc": (n, rng.binomial(8, weak))},
        {"se": 3.0, "wc": 1.0},
        (strong, weak),
    )


@cache
def benchmark():
    spec = importlib.util.spec_from_file_location(
        "calibration", ROOT / "benchmarks" / "forecast_calibration.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calibration(population, *args, **options):
    module = benchmark()
    return module.calibration(module.POPULATIONS[population], *args, **options)
