"""The mixed model against lme4 with psyphy's link, on stored answers: see ``tests/data/glmm/lme4.json``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.mixed_model import MixedModel, MixedModelFit

DATA = Path(__file__).parent / "data" / "glmm"
LME4 = json.loads((DATA / "lme4.json").read_text(encoding="utf-8"))
NATURAL, BOTH = "natural.csv.gz", "natural_and_synthetic.csv.gz"
REFERENCES = [(NATURAL, LME4[NATURAL]), *((BOTH, fit) for fit in LME4[BOTH]["fits"])]


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(DATA / name)


def fit_like(name: str, reference: dict[str, object]) -> MixedModelFit:
    """Our fit of what lme4 fitted: Laplace's approximation in its nAGQ = 0 or nAGQ = 1 form.

    lme4's determinant holds the expected information in both.
    """
    return MixedModel.from_formula(
        LME4[name]["formula"],
        guess=0.5 if reference["link"] == "guess 0.5" else 0.0,
        method="parity" if reference["nAGQ"] == 0 else "joint",
        curvature="expected",
    ).fit(read(name))


@pytest.mark.parametrize(
    ("name", "reference"),
    [pair for pair in REFERENCES if pair[1].get("converged", True)],
    ids=lambda value: value if isinstance(value, str) else f"{value['link']}, nAGQ {value['nAGQ']}",
)
def test_parity(name, reference):
    fit = fit_like(name, reference)
    assert fit.converged
    assert not fit.boundary
    assert fit.log_likelihood == pytest.approx(reference["logLik"], abs=0.1)
    assert dict(zip(fit.design.names, fit.coefficients)) == pytest.approx(reference["fixed"], abs=0.005)
    # The stored numbers have three decimals, so that small ones are off by a little more than the tolerance of 5 %.
    rounding = 0.0005
    if "se" in reference:
        assert fit.standard_errors == pytest.approx(reference["se"], rel=0.05, abs=rounding)
    if "sd" in reference:
        found = {factor.name: float(sd) for factor, sd in zip(fit.design.factors, fit.sds)}
        assert found == pytest.approx(reference["sd"], rel=0.05, abs=rounding)


def test_what_lme4_did_not_reach():
    """lme4 did not converge with nAGQ = 1 and the guess rate; its curvature is the expected one there."""
    name, reference = next((name, fit) for name, fit in REFERENCES if fit.get("converged") is False)
    model = MixedModel.from_formula(LME4[name]["formula"], method="joint", curvature="expected")
    fit = model.fit(read(name))
    assert fit.converged
    assert fit.log_likelihood > reference["logLik"]


def test_how_far_the_default_moves():
    """What the method changes on these data: reported, not hidden."""
    table = read(NATURAL)
    formula = LME4[NATURAL]["formula"]
    parity = MixedModel.from_formula(formula, method="parity").fit(table)
    expected = MixedModel.from_formula(formula, method="joint", curvature="expected").fit(table)
    observed = MixedModel.from_formula(formula, method="joint").fit(table)
    default = MixedModel.from_formula(formula).fit(table)
    # The joint maximum moves the intercept by .02, the observed curvature the log-likelihood by 18.
    assert abs(expected.coefficients[0] - parity.coefficients[0]) == pytest.approx(0.02, abs=0.005)
    assert parity.log_likelihood - observed.log_likelihood == pytest.approx(18, abs=1)
    # The truth of these data is known; the people's standard deviation in it is .48, of which lme4 finds .38.
    people = table.drop_duplicates("participant")["participant"]
    unit = table.groupby("unit")["eta"].transform("mean")
    spread = (table["eta"] - unit).groupby(table["participant"]).mean()
    assert len(people) == len(spread)
    truth = float(np.sqrt((spread**2).mean()))
    names = [factor.name for factor in default.design.factors]
    place = names.index("participant")
    assert abs(default.sds[place] - truth) < 0.7 * abs(parity.sds[place] - truth)
    assert default.standard_deviations["participant"].low < truth < default.standard_deviations["participant"].high
