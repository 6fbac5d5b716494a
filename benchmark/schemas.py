"""Schemas of every table in a study folder: what each column means, and what it may hold.

One row of ``RESPONSES`` is one answer, whoever gave it: people, machines and simulated people share the table
and are distinguished by ``observer_kind``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.errors import StudyError, suggest
from benchmark.protocol import DIFFICULTIES, REFERENCES
from benchmark.storage import write_atomically

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from pandas.api.extensions import ExtensionDtype

ColumnKind = Literal["string", "integer", "number", "boolean", "time", "strings", "integers"]

_DTYPES = {"string": "str", "integer": "int64", "number": "float64", "boolean": "bool"}
_NULLABLE = {"string": "str", "integer": "Int64", "number": "float64", "boolean": "boolean"}


@dataclass(frozen=True)
class Column:
    """A column: its kind, what it means, whether it may be empty, and which values it may hold."""

    name: str
    kind: ColumnKind
    meaning: str
    nullable: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order.

    Attributes
    ----------
    name
        What the table is called.
    columns
        Columns that every table has.
    optional
        Columns that a table has only where something is known: tables from before them stay as they are.
    prefix
        How the names of further optional columns begin, which hold text: one for each attribute that is declared.
    """

    name: str
    columns: tuple[Column, ...]
    optional: tuple[Column, ...] = ()
    prefix: str = ""

    @property
    def names(self) -> list[str]:
        """Names of the columns that every table has, in order."""
        return [column.name for column in self.columns]

    def columns_of(self, names: Iterable[str]) -> list[Column]:
        """Return the columns of a table with these names: all that every table has, then the optional ones."""
        given = list(names)
        declared = sorted(name for name in given if self.prefix and _is_attribute(name, self.prefix))
        return [
            *self.columns,
            *(column for column in self.optional if column.name in given),
            *(Column(name, "string", f"the person's {name.removeprefix(self.prefix)}", True) for name in declared),
        ]

    def empty(self) -> pd.DataFrame:
        """Return a table without rows."""
        import pandas as pd

        return self.conform(pd.DataFrame({name: [] for name in self.names}))

    def conform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Check a table and return it with exactly these columns, in order and of the right kinds.

        Raises
        ------
        StudyError
            Naming the column, the first row that breaks the schema, and why.
        """
        columns = self.columns_of(frame.columns)
        names = [column.name for column in columns]
        extra = [name for name in frame.columns if name not in names]
        if extra:
            known = [*names, *(column.name for column in self.optional)]
            raise StudyError(f"{self.name}: unknown column {extra[0]!r}. {suggest(str(extra[0]), known)}")
        import pandas as pd

        result: dict[str, pd.Series] = {}
        for column in columns:
            if column.name not in frame.columns:
                if not column.nullable:
                    raise StudyError(f"{self.name}: the column {column.name!r} is missing ({column.meaning}).")
                result[column.name] = pd.Series([None] * len(frame), index=frame.index, dtype="object")
            else:
                result[column.name] = frame[column.name]
            result[column.name] = self._cast(column, result[column.name])
        return pd.DataFrame(result, columns=names).reset_index(drop=True)

    def _cast(self, column: Column, values: pd.Series) -> pd.Series:
        import pandas as pd

        empty = values.isna().to_numpy()
        if not column.nullable and empty.any():
            raise StudyError(f"{self.name}: {column.name!r} is empty in row {int(empty.argmax())}.")
        if column.values:
            wrong = ~(values.isin(column.values).to_numpy() | empty)
            if wrong.any():
                row = int(wrong.argmax())
                raise StudyError(
                    f"{self.name}: {column.name!r} is {values.iloc[row]!r} in row {row}; it must be one of "
                    f"{', '.join(column.values)}."
                )
        if column.kind in ("strings", "integers"):
            return values.astype("object")
        try:
            if column.kind == "time":
                return pd.to_datetime(values, utc=True)
            strict, plain = _dtype(_NULLABLE[column.kind]), _dtype(_DTYPES[column.kind])
            if values.dtype == (strict if column.nullable else plain):
                return values
            # The nullable kinds refuse what the plain ones would bend: 6.5 as a whole number, "no" as true.
            bent = values.astype(strict)
            return bent if column.nullable or strict == plain else bent.astype(plain)
        except (ValueError, TypeError) as error:
            raise StudyError(f"{self.name}: {column.name!r} is not of type {column.kind!r}: {error}") from None

    def write(self, frame: pd.DataFrame, path: Path) -> None:
        """Check a table and write it as Parquet, atomically."""
        checked = self.conform(frame)
        write_atomically(path, lambda unfinished: checked.to_parquet(unfinished, index=False, compression="zstd"))

    def read(self, path: Path) -> pd.DataFrame:
        """Read a table from Parquet and check it.

        Raises
        ------
        StudyError
            If the file is missing, broken or breaks the schema.
        """
        import pandas as pd

        if not path.is_file():
            raise StudyError(f"There is no table {path}.")
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise StudyError(f"{path} is not a readable Parquet file: {error}") from None
        return self.conform(frame)


@cache
def _dtype(name: str) -> ExtensionDtype | np.dtype[Any]:
    """Return the dtype of this name; to look for it would take longer than to cast a short column."""
    from pandas.api.types import pandas_dtype

    return pandas_dtype(name)


def _is_attribute(name: object, prefix: str) -> bool:
    """Return whether a column holds a declared attribute: behind the prefix stands a name as Python has them."""
    return isinstance(name, str) and name.startswith(prefix) and name.removeprefix(prefix).isidentifier()


def concatenate(frames: Iterable[pd.DataFrame], schema: Schema) -> pd.DataFrame:
    """Join tables of one schema."""
    import pandas as pd

    filled = [frame for frame in frames if len(frame)]
    return schema.conform(pd.concat(filled, ignore_index=True)) if filled else schema.empty()


SESSION_STATES = ("open", "complete", "returned", "timed out", "screened out")
INPUTS = ("pointer", "keyboard", "button")

PERSON = "person_"
"""How the columns of responses begin that hold attributes of people: ``person_expertise``, ``person_laboratory``."""

_UNIT = (
    Column("model", "string", "name of the model, or 'planted' for units whose truth is known by construction"),
    Column("layer", "string", "layer of the unit"),
    Column("basis", "string", "basis of the layer's activation space: 'neuron' for channels"),
    Column("index", "integer", "number of the unit in its basis"),
    Column("aggregator", "string", "how activations over positions became one number"),
)

POOL = Schema(
    "pool",
    (
        Column("picture", "string", "hash of the canonical crop's pixels"),
        Column("source", "string", "where the picture lies in its pool"),
        Column("label", "string", "class label, where the pool has labels", nullable=True),
        Column("group", "string", "pictures that share a source photograph or are near-duplicates"),
        Column("width", "integer", "width of the original in pixels"),
        Column("height", "integer", "height of the original in pixels"),
        Column("perceptual_hash", "integer", "64-bit perceptual hash, as a signed integer"),
    ),
)

UNITS = Schema(
    "units",
    (
        *_UNIT,
        Column("draw", "integer", "position in the order in which the model's units were drawn"),
        Column("kind", "string", "what computes the layer"),
        Column("depth", "number", "position of the layer in the model, 0 to 1"),
        Column("width", "integer", "units in the layer"),
        Column("twin", "boolean", "whether the model is a random-weight twin"),
    ),
)

UNIT_STATISTICS = Schema(
    "unit statistics",
    (
        *_UNIT,
        Column("used", "boolean", "whether the unit has stimuli: the first drawn that are not constant"),
        Column("flag", "string", "why the unit is kept apart, if it is", values=("", "constant", "dead", "silent")),
        Column("low", "number", "lowest activation over the pool"),
        Column("high", "number", "highest activation over the pool"),
        Column("mean", "number", "mean activation over the pool"),
        Column("deviation", "number", "standard deviation over the pool"),
        Column("range_over_deviation", "number", "range in standard deviations", nullable=True),
        Column("relative_range", "number", "range over the median range of its layer's units", nullable=True),
        Column("positive_share", "number", "share of pictures with a positive activation"),
        Column("central_share", "number", "share of the range that the central 90 % of pictures cover", nullable=True),
        Column("query_gap", "number", "maximal minus minimal easy queries, in standard deviations", nullable=True),
        Column("tie_share", "number", "share of pictures whose activation another picture has as well"),
    ),
)

STIMULI = Schema(
    "stimuli",
    (
        *_UNIT,
        Column("condition", "string", "what kind of picture: natural, synthetic, ..."),
        Column("role", "string", "what the picture is for", values=("reference", "query")),
        Column("side", "string", "which end of the unit's activations", values=("max", "min")),
        Column("difficulty", "string", "which quantile a query comes from; empty for references"),
        Column("task", "integer", "number of the task; -1 where all tasks of the unit share the picture"),
        Column("position", "integer", "0 for a query; references count from the strongest"),
        Column("picture", "string", "hash of the pixels, and name of the file in images/"),
        Column("activation", "number", "activation of the unit"),
        Column("rank", "integer", "rank in the pool from this side's end; -1 for synthetic pictures"),
        Column("label", "string", "class label of a natural picture, if the pool has labels", nullable=True),
        Column("group", "string", "group of a natural picture", nullable=True),
        Column(
            "group_repeated", "boolean", "whether the task shows this group twice, because the pool leaves no choice"
        ),
        Column("method", "string", "how the picture was made or chosen"),
        Column("accepted", "boolean", "whether a synthetic picture's set passes the acceptance rule", nullable=True),
        Column(
            "over_best",
            "number",
            "activation over the best exemplar, above the pool's median (1 = as strong)",
            nullable=True,
        ),
        Column("over_median", "number", "activation over the median reference, above the pool's median", nullable=True),
        Column("margin", "number", "activation minus the threshold, in standard deviations of the pool", nullable=True),
        Column(
            "diversity_loss", "number", "mean similarity of the set's pictures in the layer's features", nullable=True
        ),
        Column("steps", "integer", "optimisation steps", nullable=True),
    ),
)

TRIALS = Schema(
    "trials",
    (
        Column("trial", "string", "name of the trial"),
        Column("session", "string", "session slot that the trial belongs to"),
        Column("trial_index", "integer", "position in the session, counted from 0"),
        Column("kind", "string", "what the trial is for", values=("main", "catch", "practice")),
        *_UNIT,
        Column("condition", "string", "kind of the references"),
        Column("difficulty", "string", "quantile of the queries"),
        Column("task", "integer", "number of the task"),
        Column("references", "string", "which sides are shown", values=REFERENCES),
        Column("query_top", "string", "which query is on top", values=("max", "min")),
        Column("query_max", "string", "picture of the maximal query"),
        Column("query_min", "string", "picture of the minimal query"),
        Column("references_max", "strings", "pictures of the maximal references, in the order shown"),
        Column("references_min", "strings", "pictures of the minimal references, in the order shown"),
        Column("label_overlap", "number", "references with the query's label, right minus wrong side", nullable=True),
    ),
)  # fmt: skip

RESPONSES = Schema(
    "responses",
    (
        Column("response_id", "string", "identifies the answer"),
        Column("protocol", "string", "identity of the protocol"),
        Column("study", "string", "hash of the experiment and its stimuli"),
        Column("observer_kind", "string", "who answers", values=("human", "machine", "simulated")),
        Column("observer", "string", "name of the observer, or pseudonym of the participant"),
        Column("related", "boolean", "whether the observer is a relative of the model"),
        Column("session", "string", "session; machines have one for each model and condition"),
        Column("session_status", "string", "state of the session", values=SESSION_STATES),
        Column("trial", "string", "name of the trial or distinct task"),
        Column("trial_index", "integer", "position in the session, counted from 0"),
        Column("kind", "string", "what the trial is for", values=("main", "catch", "practice", "repeated")),
        *_UNIT,
        Column("condition", "string", "kind of the references"),
        Column("difficulty", "string", "quantile of the queries", values=DIFFICULTIES),
        Column("references", "string", "which sides were shown", values=REFERENCES),
        Column("task", "integer", "number of the task"),
        Column("query_top", "string", "which query was on top", values=("max", "min")),
        Column("choice", "string", "which query was chosen", values=("max", "min")),
        Column("correct", "boolean", "whether the maximal query was chosen"),
        Column("confidence", "integer", "1 to 3, where asked for", nullable=True),
        Column("probability", "number", "the observer's probability that the maximal query is right", nullable=True),
        Column("rt_ms", "number", "reaction time in ms; empty for a trial shown before a reload", nullable=True),
        Column("answered_at", "time", "when the answer was given", nullable=True),
        Column("vimi_version", "string", "version of vimi"),
        Column("stimuli_hash", "string", "hash of the stimuli that were shown"),
        Column("weights_hash", "string", "hash of the observed model's weights", nullable=True),
        Column("consent_hash", "string", "hash of the consent text that the person agreed to", nullable=True),
        Column("onset_delay_ms", "number", "from all pictures decoded to their first frame, in ms", nullable=True),
        Column("visible", "boolean", "whether the page stayed visible during the trial", nullable=True),
        Column("focused", "boolean", "whether the window kept the focus during the trial", nullable=True),
        Column("input", "string", "how the answer was given", nullable=True, values=INPUTS),
        Column("rendition", "string", "how pictures were sent: kind, side in pixels, version", nullable=True),
    ),
    optional=(Column("references_per_side", "integer", "how many references each shown side had", nullable=True),),
    prefix=PERSON,
)  # fmt: skip

SESSIONS = Schema(
    "sessions",
    (
        Column("session", "string", "session, as in the table of responses"),
        Column("study", "string", "hash of the experiment and its stimuli"),
        Column("protocol", "string", "identity of the protocol"),
        Column("observer_kind", "string", "who answers", values=("human", "machine", "simulated")),
        Column("observer", "string", "pseudonym of the participant"),
        Column("session_status", "string", "state of the session", values=SESSION_STATES),
        Column("cell", "string", "cell of the study: condition and difficulty, and the model where nested"),
        Column("slot", "string", "session slot whose trials were shown, once one was leased", nullable=True),
        Column("begun_at", "time", "when the session began", nullable=True),
        Column("ended_at", "time", "when it ended", nullable=True),
        Column("total_seconds", "number", "from the first trial to the last answer", nullable=True),
        Column("instruction_seconds", "number", "time spent on the instructions", nullable=True),
        Column("practice_attempts", "integer", "rounds of practice", nullable=True),
        Column("earlier_participation", "boolean", "whether the person had taken part before"),
        Column("colour_vision", "string", "the person's answer about their colour vision", nullable=True),
        Column("language", "string", "language of the texts", nullable=True),
        Column("evidence", "string", "signs that a program rather than a person answered, as JSON", nullable=True),
        Column("connection_mbps", "number", "speed of the connection on arrival, in Mbit/s", nullable=True),
    ),
)  # fmt: skip
"""What is known about a session as a whole, beside its answers: what exclusion rules look at."""
