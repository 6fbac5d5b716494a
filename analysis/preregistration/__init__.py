"""Preregistration: a plan that is frozen with hash and date, deviations from it, and a reporting checklist."""

from analysis.preregistration.checklist import ITEMS, UNKNOWN, Checklist, ChecklistItem, fill_checklist
from analysis.preregistration.deviations import Conduct, Deviation, describe_conduct, list_deviations
from analysis.preregistration.freezing import (
    Preregistration,
    preregister,
    preregistrations,
    read_preregistration,
)
from analysis.preregistration.plan import Plan, read_plan, write_plan_template
from benchmark.documents import BLANK

__all__ = [
    "BLANK",
    "ITEMS",
    "UNKNOWN",
    "Checklist",
    "ChecklistItem",
    "Conduct",
    "Deviation",
    "Plan",
    "Preregistration",
    "describe_conduct",
    "fill_checklist",
    "list_deviations",
    "preregister",
    "preregistrations",
    "read_plan",
    "read_preregistration",
    "write_plan_template",
]
