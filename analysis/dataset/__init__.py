"""A data set: answers, with the facts that analyses need.

Answers come from a study, from an import (see :mod:`analysis.importing`) or from a file that is in the schema of
responses already. Whatever they come from, analyses get the same tables: responses, sessions, units and models.
"""

from analysis.dataset.data import Dataset
from analysis.dataset.description import Description, describe
from analysis.dataset.facts import UNIT_FACTS, derive_sessions, unit_facts
from analysis.dataset.models import MODEL_FACTS, model_facts, with_models
from analysis.dataset.reading import read_dataset
from analysis.judgement_table import judgements, split_conditions

__all__ = [
    "MODEL_FACTS",
    "UNIT_FACTS",
    "Dataset",
    "Description",
    "derive_sessions",
    "describe",
    "judgements",
    "model_facts",
    "read_dataset",
    "split_conditions",
    "unit_facts",
    "with_models",
]
