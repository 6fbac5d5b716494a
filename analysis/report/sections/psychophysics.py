"""How people answered: controls, learning, confidence, sensitivity and bias, difficulty, depth."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.controls import check_guessing, compare_references, learning_curve, reaction_times, repeat_consistency
from analysis.difficulty import fit_difficulty_curves, query_quantiles
from analysis.figures import plot_confidence, plot_difficulty, plot_guessing, plot_layers
from analysis.metacognition import measure_confidence
from analysis.proportions import estimate_proportions
from analysis.report.document import Section
from analysis.report.material import Draft, Material
from analysis.signal_detection import detect
from benchmark.protocol import load_protocol
