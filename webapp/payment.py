"""Who is paid what, from the server's data alone.

Whoever finished is paid in full, whatever the exclusion rules say later: catch trials, speed and the rest decide
what is analysed, never who is paid. Whoever consented and did not come through the practice gets the experiment's
``partial_payment_usd``, and whoever consented and found every place taken gets its ``full_payment_usd``; both are
nothing unless they are set, and the note says so. All others are asked to return, and get nothing here.
Withdrawing one's answers changes nothing about it. Simulated people are not paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import sqlalchemy as sa

from benchmark.database import people
from benchmark.errors import HostingError, NameNotFound
from benchmark.storage import write_text
from webapp.assignment import own_rows
from webapp.hosting import Hosting
from webapp.store import payments

if TYPE_CHECKING:
    import pandas as pd

Form = Literal["general", "prolific-approve", "prolific-bonus"]
"""How a payment file is laid out.

``general``: a CSV table of everybody. ``prolific-approve``: the identifiers of those who finished, one a line, as
Prolific's "approve by upload" takes them. ``prolific-bonus``: identifier and amount of partial payments, as its bulk
bonus payments take them; the amount is in the currency of the study there.
"""
FORMS: tuple[Form, ...] = get_args(Form)

COLUMNS = ("pseudonym", "recruiter", "recruiter_id", "submission_id", "outcome", "payment", "amount_usd")


@dataclass(frozen=True)
class Payroll:
    """Who is paid what.

    Attributes
    ----------
    table
        One row a person, with the columns of :data:`COLUMNS`; ``payment`` is ``full``, ``partial`` or ``none``.
    note
        What the experimenter must know of it, such as that identifiers are missing; empty if nothing.
    """

    table: pd.DataFrame
    note: str = ""

    @property
    def total(self) -> Decimal:
        """The sum of all payments."""
        return sum((Decimal(amount) for amount in self.table["amount_usd"]), Decimal(0))

    def count(self, payment: str) -> int:
        """Return how many people get a kind of payment."""
        return int((self.table["payment"] == payment).sum())


def make_payroll(hosting: Hosting) -> Payroll:
    """Return who is paid what, in the order in which people came."""
    import pandas as pd

    with hosting.database.reading() as connection:
        there = sa.inspect(connection).has_table(payments.name)
        identifiers = (payments.c.recruiter_id, payments.c.submission_id) if there else (sa.null(), sa.null())
        query = sa.select(people, identifiers[0].label("recruiter_id"), identifiers[1].label("submission_id"))
        if there:
            query = query.join_from(people, payments, payments.c.pseudonym == people.c.pseudonym, isouter=True)
        rows = connection.execute(
            query.where(own_rows(hosting, people), people.c.kind == "human").order_by(people.c.id)
        ).fetchall()
    full = _money(hosting.payment_usd)
    lines = []
    for row in rows:
        payment, amount = "none", _money(0)
        if row.finished_at is not None:
            payment, amount = "full", full
        elif _money(part := hosting.part_payment_usd(row.outcome)) != _money(0):
            payment, amount = "partial", _money(part)
        lines.append(
            (row.pseudonym, row.recruiter, row.recruiter_id or "", row.submission_id or "", row.outcome or "", payment,
             amount)
        )  # fmt: skip
    table = pd.DataFrame(lines, columns=list(COLUMNS), dtype="object")
    notes = (_why_incomplete(hosting, table, there), _who_found_it_full(hosting, table))
    return Payroll(table, " ".join(note for note in notes if note))


def _money(amount: float) -> str:
    return str(Decimal(str(amount)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def _who_found_it_full(hosting: Hosting, table: pd.DataFrame) -> str:
    """Say how many people found the study full and are not paid, if any."""
    count = int(((table["outcome"] == "full") & (table["payment"] == "none")).sum())
    if not count:
        return ""
    return (
        f"{count} {'people' if count > 1 else 'person'} consented but found every place taken, and will not be paid. "
        f"To pay them, set full_payment_usd under [recruitment] in {hosting.study.root.name}/experiment.toml, and run "
        "this again."
    )


def _why_incomplete(hosting: Hosting, table: pd.DataFrame, there: bool) -> str:
    """Say why identifiers are missing, if any are."""
    missing = int((table["recruiter_id"] == "").sum())
    if hosting.recruiter.name == "open":
        return "Open links identify nobody: pay by pseudonym, or by the completion code that people show you."
    if not there:
        return (
            "The table of payments has been dropped from the database: vimi no longer knows anybody's identifier, "
            "and the file names pseudonyms only. Pay at the recruiter by completion code."
        )
    if missing:
        return (
            f"The identifiers of {missing} of {len(table)} people are not in the table of payments: they were deleted, "
            "or keep_identifiers was off. Pay these at the recruiter by completion code."
        )
    return ""


def write_payroll(payroll: Payroll, path: Path | str, form: Form = "general") -> int:
    """Write a payment file; returns how many people it names.

    Raises
    ------
    HostingError
        If the form needs identifiers that are not known any more.
    """
    if form not in FORMS:
        raise NameNotFound("form of payment file", form, FORMS)
    table = payroll.table
    if form == "general":
        write_text(Path(path), table.to_csv(index=False, lineterminator="\n"))
        return len(table)
    table = table[table["payment"] == ("full" if form == "prolific-approve" else "partial")]
    if (table["recruiter_id"] == "").any() or (len(table) and not (table["recruiter"] == "prolific").all()):
        raise HostingError(
            f"vimi can't make a payment file of the form {form}. "
            f"{payroll.note or 'These people did not come from Prolific.'} The form general works without identifiers."
        )
    lines = (
        [str(name) for name in table["recruiter_id"]]
        if form == "prolific-approve"
        else [f"{name},{amount}" for name, amount in zip(table["recruiter_id"], table["amount_usd"])]
    )
    write_text(Path(path), "".join(f"{line}\n" for line in lines))
    return len(lines)


def forget_identifiers(hosting: Hosting) -> int:
    """Delete the recruiter's identifiers of everybody in the study, and nothing else; returns how many there were.

    People are still recognised by the keyed hash, sessions and answers stay, and so does who finished.
    """
    with hosting.database.writing() as connection:
        if not sa.inspect(connection).has_table(payments.name):
            return 0
        result = connection.execute(payments.delete().where(payments.c.study == hosting.identity))
        deleted = int(result.rowcount)
    if hosting.database.is_sqlite:
        # SQLite overwrites what it deletes, but its log keeps the old pages until it is emptied.
        with hosting.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT", reading=True) as plain:
            plain.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted
