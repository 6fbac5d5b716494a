"""One self-contained page that says what a data set of answers means, and the files behind it."""

from analysis.report.document import Figure, Finding, Report, ReportTable, Section
from analysis.report.making import analyze, make_report, settings_for, study_at
from analysis.report.material import Material, ReportSettings
from analysis.report.page import render_page
from analysis.report.writing import Written, write_report

__all__ = [
    "Figure",
    "Finding",
    "Material",
    "Report",
    "ReportSettings",
    "ReportTable",
    "Section",
    "Written",
    "analyze",
    "make_report",
    "render_page",
    "settings_for",
    "study_at",
    "write_report",
]
