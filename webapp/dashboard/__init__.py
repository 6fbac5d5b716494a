"""What an experimenter may know while a study runs: every number of the admin page, as a plain function.

People and simulated people never stand in one number, nor do a study and its pilot, and only usable sessions count
where answers are judged. Means stay in here: an early look at them is a temptation to stop when they please (peeking),
so that they come out when every planned slot is filled, or as confidence sequences, which may be looked at any time.
Functions read the database alone, mostly in aggregates, so that a page with 60,000 answers behind it is drawn at once.
"""

from webapp.dashboard.behaviour import (
    Problems,
    Quality,
    SessionTimes,
    early_looks,
    found_problems,
    is_paused,
    note_look,
    quality,
    reaction_times,
)
from webapp.dashboard.counting import (
    CELL,
    LATEST,
    NEW_UNITS,
    QUANTILES,
    THESE_UNITS,
    Kind,
    is_complete,
    kinds_present,
    main_references,
    wilson,
)
from webapp.dashboard.intervals import Precision, coverage, precision, slots, summarize_coverage
from webapp.dashboard.people import Cost, Recruitment, cost, last_seen, recruitment

__all__ = [
    "CELL",
    "LATEST",
    "NEW_UNITS",
    "QUANTILES",
    "THESE_UNITS",
    "Cost",
    "Kind",
    "Precision",
    "Problems",
    "Quality",
    "Recruitment",
    "SessionTimes",
    "cost",
    "coverage",
    "early_looks",
    "found_problems",
    "is_complete",
    "is_paused",
    "kinds_present",
    "last_seen",
    "main_references",
    "note_look",
    "precision",
    "quality",
    "reaction_times",
    "recruitment",
    "slots",
    "summarize_coverage",
    "wilson",
]
