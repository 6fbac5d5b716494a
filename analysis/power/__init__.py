"""Design: simulating whole experiments, their power, and what more sessions, units or models would buy.

The questions, and who answers them:

- Which effect does this design find? ``describe_power``, ``smallest_detectable``, ``simulate_power``.
- Which split over units, participants and models is best for the money? ``optimize``.
- Should sessions mix models? ``compare_sessions``.
- How many more sessions until the interval is +-1 point? ``sessions_until``, from the answers so far.
- Which test of a slope may be believed? ``error_rates``.
"""

from analysis.power.assessment import Assessment, describe_power
from analysis.power.design import (
    Costs,
    Design,
    default_protocol_design,
    design_of_study,
    expected_bill,
    find_design,
    read_design,
)
from analysis.power.error_rates import error_rate_table, error_rates
from analysis.power.forecast import Forecast, Outlook, sessions_until
from analysis.power.goals import GOALS, Goal
from analysis.power.optimization import Optimum, optimize
from analysis.power.simulated_power import Power, simulate_analysis, simulate_power
from analysis.power.simulation import Layout, Population, Screening, simulate_judgements
from analysis.power.smallest_effect import smallest_detectable
from analysis.power.variances import Variances, allocation_table, answers_for_difference, compare_sessions

__all__ = [
    "GOALS",
    "Assessment",
    "Costs",
    "Design",
    "Forecast",
    "Goal",
    "Layout",
    "Optimum",
    "Outlook",
    "Population",
    "Power",
    "Screening",
    "Variances",
    "allocation_table",
    "answers_for_difference",
    "compare_sessions",
    "default_protocol_design",
    "describe_power",
    "design_of_study",
    "error_rate_table",
    "error_rates",
    "expected_bill",
    "find_design",
    "optimize",
    "read_design",
    "sessions_until",
    "simulate_analysis",
    "simulate_judgements",
    "simulate_power",
    "smallest_detectable",
]
