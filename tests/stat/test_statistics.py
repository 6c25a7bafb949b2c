"""Means and their intervals, against published tables."""

import math

import pytest

from kepler_ebpf.stat.statistics import quantile, spread


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.706), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (19, 2.0930), (60, 2.0003)],
)
def test_quantiles_are_those_of_the_tables(freedom, value):
    """Student's two-sided 95 % quantile is right to 0.2 %."""
    assert quantile(freedom) == pytest.approx(value, rel=2e-3)


def test_spread_of_known_figures():
    """The deviation is that of a sample, and the interval is Student's."""
    mean, deviation, half_width = spread([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert deviation == pytest.approx(1.2910, abs=1e-4)
    assert half_width == pytest.approx(3.1824 * 1.2910 / 2, rel=2e-3)


def test_one_figure_has_no_spread():
    """Nothing is said about the spread of a single run."""
    assert spread([3.0]).mean == 3.0
    assert math.isnan(spread([3.0]).deviation)
