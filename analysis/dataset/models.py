"""Facts of models, from their cards and from further tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.dataset.data import Dataset
from analysis.importing.cells import to_booleans, to_numbers
from analysis.importing.faults import Faults
from analysis.importing.layout import read_csv_text
from analysis.same_units import SAME_UNITS
from benchmark.errors import ImportFailure, suggest
from benchmark.model_card import TWIN_SUFFIX, ModelCard, card_names
from benchmark.model_sources import load_card
from benchmark.units import PLANTED

MODEL_FACTS = ["model", "family", "parameters", "training_images", "samples_seen", "top1", "year", "twin", SAME_UNITS]
MODEL_NUMBERS = ["parameters", "training_images", "samples_seen", "top1", "year"]


def model_facts(
    names: Any, *, cards: Mapping[str, ModelCard] | None = None, parameters: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Return the facts of models.

    Parameters
    ----------
    names
        Names of models; units whose truth is known by construction have none.
    cards
        Cards beside those that ship with vimi.
    parameters
        Numbers of parameters that were counted, where a card does not say.

    Returns
    -------
    One row a model, ordered by name, with the columns of ``MODEL_FACTS``; what is not known is NaN or empty.
    """
    rows = []
    for name in sorted({str(name) for name in names} - {PLANTED}):
        card = (cards or {}).get(name) or _shipped_card(name)
        row: dict[str, Any] = {"model": name, "family": "", "twin": name.endswith(TWIN_SUFFIX), SAME_UNITS: ""}
        if card is not None:
            row |= {
                "family": card.family,
                "parameters": card.parameters,
                "training_images": card.training.images if card.training else None,
                "top1": card.accuracy.top1 / 100 if card.accuracy else None,
                "twin": card.twin,
            }
        row["parameters"] = row.get("parameters") or (parameters or {}).get(name)
        rows.append(row)
    return order_models(pd.DataFrame(rows, columns=MODEL_FACTS))


def _shipped_card(name: str) -> ModelCard | None:
    """Return the card that ships with vimi, or None: asking timm would load torch."""
    return load_card(name) if name.removesuffix(TWIN_SUFFIX) in card_names() else None


def order_models(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of models ordered by name, with the columns of ``MODEL_FACTS`` and their types."""
    table = table.sort_values("model", ignore_index=True)
    for column in MODEL_NUMBERS:
        table[column] = pd.to_numeric(table[column]).astype(np.float64)
    for column in ("family", SAME_UNITS):
        table[column] = table[column].fillna("").astype("str")
    table["twin"] = table["twin"].fillna(False).astype(bool)
    return table.astype({"model": "str"})[MODEL_FACTS]


def with_models(dataset: Dataset, path: Path | str) -> Dataset:
    """Return the data set with facts of models from a CSV file; facts that the file lacks stay.

    Raises
    ------
    ImportFailure
        If the file can't be read, names a model that nobody was asked about, or breaks its columns.
    """
    given = read_models(Path(path))
    known = dataset.models.set_index("model")
    strange = sorted(set(given["model"]) - set(known.index))
    if strange and not set(given["model"]) & set(known.index):
        raise ImportFailure(f"{path} has no row for any model in {dataset.name}: {', '.join(sorted(known.index))}.")
    table = given[given["model"].isin(known.index)].set_index("model")
    said = _columns_of(Path(path))
    for column in [name for name in MODEL_FACTS if name in said and name != "model"]:
        values = table[column]
        values = values[values.notna() & (values.astype(object) != "")]
        known.loc[values.index, column] = values
    return replace(dataset, models=order_models(known.reset_index()))


def _columns_of(path: Path) -> list[str]:
    return [str(name) for name in pd.read_csv(path, nrows=0).columns]


def read_models(path: Path) -> pd.DataFrame:
    """Read a table of models.

    Raises
    ------
    ImportFailure
        Naming the column or row that is wrong.
    """
    frame = read_csv_text(path, delimiter=",")
    names = [name for name in frame.columns if not name.startswith("\x00")]
    if "model" not in names:
        raise ImportFailure(f"{path}: the column 'model' is missing (name of the model).")
    strange = [name for name in names if name not in MODEL_FACTS]
    if strange:
        raise ImportFailure(f"{path}: unknown column {strange[0]!r}. {suggest(strange[0], MODEL_FACTS)}")
    faults = Faults(str(path), frame)
    table = pd.DataFrame(index=frame.index, columns=MODEL_FACTS, dtype=object)
    for name in names:
        cells = frame[name].mask(frame[name] == "")
        if name in MODEL_NUMBERS:
            numbers, wrong = to_numbers(cells)
            faults.add(wrong | (numbers < 0).to_numpy(), name, "no number, or below zero", cells)
            if name == "top1":
                faults.add((numbers > 1).to_numpy(), name, "an accuracy is a share, 0 to 1", cells)
            table[name] = numbers
        elif name == "twin":
            table[name], wrong = to_booleans(cells)
            faults.add(wrong, name, "neither true nor false", cells)
        else:
            table[name] = cells
    faults.add(table["model"].isna().to_numpy(), "model", "a model needs a name", table["model"])
    faults.add(table["model"].duplicated().to_numpy(), "model", "the model stands in an earlier row", table["model"])
    faults.check()
    return order_models(table)
