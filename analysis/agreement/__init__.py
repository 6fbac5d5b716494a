"""People and machines: how they agree, how sure machines are, and scores that rest on the answers of both."""

from analysis.agreement.calibration import Calibration, calibrate
from analysis.agreement.coverage import Coverage, simulate_coverage
from analysis.agreement.errors import ErrorConsistency, error_consistency
from analysis.agreement.forecasts import ForecastScore, score_forecasts
from analysis.agreement.machines import MACHINE_COLUMNS, machine_answers
from analysis.agreement.models import ModelAgreement, model_agreement
from analysis.agreement.prediction_powered import PoweredScore, score_with_machine
from analysis.agreement.savings import saving_bound
from analysis.agreement.temperature import TemperatureFit, change_temperature, fit_temperature
from analysis.agreement.units import UnitAgreement, unit_agreement

__all__ = [
    "MACHINE_COLUMNS",
    "Calibration",
    "Coverage",
    "ErrorConsistency",
    "ForecastScore",
    "ModelAgreement",
    "PoweredScore",
    "TemperatureFit",
    "UnitAgreement",
    "calibrate",
    "change_temperature",
    "error_consistency",
    "fit_temperature",
    "machine_answers",
    "model_agreement",
    "saving_bound",
    "score_forecasts",
    "score_with_machine",
    "simulate_coverage",
    "unit_agreement",
]
