"""The experimenter's page: the study's progress, behind a password; without a password there is no page.

It only draws. Numbers come from :mod:`webapp.dashboard`, which decides what may be seen. Sections refresh themselves;
that a page refreshes itself is no sign that anybody sits before it, so that a session ends after a while without a
click.
"""

from __future__ import annotations

import io
import math
import tempfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import pandas as pd
import streamlit as st

from webapp import dashboard
from webapp.admission import (
    DEVICE_COOKIE,
    DEVICE_SECONDS,
    Caller,
    Gate,
    admin_hash,
    make_device_pass,
    read_device_pass,
)
from webapp.backup import back_up
from webapp.dashboard import Kind
from webapp.hosting import Hosting
from webapp.recruitment import OUTCOMES
from webapp.screens import charts
from webapp.screens.pieces import (
    draw_funnel,
    draw_table,
    draw_tiles,
    escape,
    make_tile,
    make_track,
    spell_interval,
    spell_moment,
    spell_percent,
    spell_seconds,
    spell_share,
    spell_usd,
    write_banner,
    write_heading,
    write_note,
)
from webapp.store import write_setting
from webapp.visitors import HEADER as VISITOR_HEADER
from webapp.visitors import UNTOLD

REFRESH_SECONDS = 20
"""How often a section draws itself anew."""

IDLE_SECONDS = 30 * 60
"""After so long without a click, the password is asked for again."""

FAILED = "That did not work. Wait a moment and try again."
"""What every failure says: neither why nor for how long."""

_STYLE = (Path(__file__).parent / "experimenter.css").read_text(encoding="utf-8")
_ADMITTED = "experimenter_admitted"
_SEEN = "experimenter_seen"
_DEVICE = "experimenter_device"
_gate = Gate()


def show_experimenter_page(hosting: Hosting) -> None:
    """Show the page: the password field, or the study's progress."""
    hashed = admin_hash()
    st.html(f"<style>{_STYLE}</style>")
    if not hashed:
        return
    with st.container(key="sheet"):
        if not _is_admitted(hashed):
            _ask_password(hosting, hashed)
            return
        _remember_device()
        st.session_state[_SEEN] = monotonic()
        _show_study(hosting, hashed)


# -------------------------------------------------------------------- the door


def _is_admitted(hashed: str) -> bool:
    """Whether this browser tab knows the password and was used lately."""
    recent = monotonic() - st.session_state.get(_SEEN, -math.inf) < IDLE_SECONDS
    return bool(recent and st.session_state.get(_ADMITTED) == hashed)


def _caller(hosting: Hosting, hashed: str) -> Caller:
    """Return the caller of the page."""
    cookie, visitor = st.context.cookies.get(DEVICE_COOKIE), st.context.headers.get(VISITOR_HEADER)
    known = isinstance(cookie, str) and read_device_pass(cookie, hosting.door_key, hashed, hosting.clock())
    return Caller(visitor if isinstance(visitor, str) else UNTOLD, known or "")


def _remember_device() -> None:
    """Leave the cookie that spares a device from waiting for others' wrong attempts; it opens nothing."""
    made = st.session_state.pop(_DEVICE, "")
    if made:
        attributes = f"; Path=/; Max-Age={DEVICE_SECONDS}; SameSite=Strict"
        st.html(
            f'<script>document.cookie = "{DEVICE_COOKIE}={made}{attributes}" '
            '+ (location.protocol === "https:" ? "; Secure" : "");</script>',
            unsafe_allow_javascript=True,
        )


def _ask_password(hosting: Hosting, hashed: str) -> None:
    st.session_state.pop(_ADMITTED, None)
    with st.container(key="door"):
        st.html("<h1>For the experimenter</h1>")
        with st.form("password", clear_on_submit=True, border=False):
            given = st.text_input("Password", type="password", autocomplete="current-password", max_chars=200)
            asked = st.form_submit_button("Enter", type="primary")
        if not asked:
            return
        if _gate.admits(given or "", hashed, _caller(hosting, hashed)):
            st.session_state[_DEVICE] = make_device_pass(hosting.door_key, hashed, hosting.clock())
            st.session_state[_ADMITTED] = hashed
            st.session_state[_SEEN] = monotonic()
            st.rerun()
        st.error(FAILED)


def _leave() -> None:
    st.session_state.pop(_ADMITTED, None)
    st.session_state.pop(_SEEN, None)


# -------------------------------------------------------------------- the page


def _show_study(hosting: Hosting, hashed: str) -> None:
    """Show the head of the page and the section that is open."""
    top = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    with top:
        _show_head(hosting)
        st.button("Log out", on_click=_leave, type="tertiary")
    bar = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    with bar:
        section = st.segmented_control(
            "Section", list(SECTIONS), default="Overview", required=True, key="section", label_visibility="collapsed"
        )
        kind = _choose_kind(hosting)
    show, refreshes = SECTIONS[section or "Overview"]
    if not refreshes:
        show(hosting, kind)
        return

    def refresh() -> None:
        if not _is_admitted(hashed):
            st.rerun()
        show(hosting, kind)
        st.html(f'<p class="v-note">As of {datetime.now(UTC):%H:%M:%S} UTC; it refreshes itself.</p>')

    st.fragment(refresh, run_every=REFRESH_SECONDS)()


def _show_head(hosting: Hosting) -> None:
    paused = dashboard.is_paused(hosting)
    if hosting.closed_because:
        state = f'<span class="v-pill off">closed: {escape(", ".join(hosting.closed_because))} empty</span>'
    elif paused:
        state = '<span class="v-pill off">recruitment paused</span>'
    else:
        state = '<span class="v-pill on">open to newcomers</span>'
    marks = [name for name, given in (("pilot", hosting.pilot), ("preview", hosting.preview)) if given]
    pills = "".join(f'<span class="v-pill plain">{mark}</span>' for mark in marks)
    st.html(f'<div class="v-head"><h1>{escape(hosting.study.root.name)}</h1>{state}{pills}</div>')


def _choose_kind(hosting: Hosting) -> Kind:
    """Return whose numbers to show; people's and simulated people's are never mixed."""
    if len(dashboard.kinds_present(hosting)) == 1:
        return "human"
    chosen = st.segmented_control(
        "Whose answers",
        ["People", "Simulated"],
        default="Simulated" if hosting.bots else "People",
        required=True,
        key="kind",
        label_visibility="collapsed",
    )
    return "simulated" if chosen == "Simulated" else "human"


def _show_overview(hosting: Hosting, kind: Kind) -> None:
    people = dashboard.recruitment(hosting, kind)
    money = dashboard.cost(hosting, kind)
    planned = sum(plan.planned for plan in hosting.layout.cells.values())
    filled = planned - money.missing
    wrong = int(dashboard.found_problems(hosting).kinds["times"].sum())
    expected = (
        ""
        if math.isinf(money.expected.high)
        else f" ({spell_usd(money.expected.low)}–{spell_usd(money.expected.high)})"
    )
    draw_tiles(
        [
            make_tile(
                "planned sessions filled", f"{filled:,} <small>of {planned:,}</small>", make_track(filled, planned)
            ),
            make_tile(
                "finished",
                f"{people.finished:,}",
                f"{spell_percent(people.completion)} of those who have ended; {people.withdrawn} withdrew",
            ),
            make_tile("at work now", f"{people.at_work:,}", f"{people.silent:,} silent for too long"),
            make_tile(
                "to pay so far",
                spell_usd(money.so_far),
                f"about {spell_usd(money.expected.value)} in the end{expected}",
            ),
            make_tile("problems", f"{wrong:,}", "missing pictures, slow decoding, errors"),
        ]
    )
    write_heading("Arrivals")
    if len(people.arrivals):
        st.altair_chart(
            charts.draw_arrivals(people.arrivals, people.endings),
            theme=None,
            width="stretch",
            alt=f"{people.arrived} people came, {people.finished} finished.",
        )
    else:
        write_note("Nobody has arrived yet.")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        write_heading("How far people get")
        draw_funnel(people.steps)
        write_heading("Last seen")
        seen = dashboard.last_seen(hosting, kind)
        seen["seconds since"] = [f"{value:,.0f} s ago" for value in seen["seconds since"]]
        draw_table(
            seen.rename(columns={"seconds since": "last seen"}),
            numbers=["answers", "last seen"],
            empty="Nobody is taking part right now.",
        )
    with right:
        write_heading("How it ended")
        draw_table(people.outcomes, numbers=["people"], empty="Nobody has ended a session yet.")
        write_heading("Where the others stopped")
        draw_table(people.phases, numbers=["at work", "silent"], empty="Nobody is taking part right now.")


def _show_coverage(hosting: Hosting, kind: Kind) -> None:
    table = dashboard.coverage(hosting, kind)
    write_heading(
        "Usable answers about each unit",
        "An answer counts when its session is finished and passes the protocol's exclusion rules.",
    )
    chart = charts.draw_coverage(table)
    fewest, most = int(table["answers"].min()), int(table["answers"].max())
    st.altair_chart(chart, theme=None, width="content", alt=f"Every unit has between {fewest} and {most} answers.")
    summary = dashboard.summarize_coverage(table)
    summary["answers"] = [f"{done:,} of {of:,}" for done, of in zip(summary["answers"], summary.pop("of"))]
    summary = summary.rename(columns={"fewest": "fewest per unit", "most": "most per unit"})
    draw_table(summary, numbers=["units", "fewest per unit", "most per unit", "answers"])
    write_heading("Session slots by cell")
    rows = [(s.name, s.slots, s.usable, s.leased, s.free, s.coming) for s in dashboard.slots(hosting)]
    names = ["cell", "slots", "filled", "being worked on", "free", "people taking part now"]
    draw_table(pd.DataFrame(rows, columns=names), numbers=names[1:])


def _show_precision(hosting: Hosting, kind: Kind) -> None:
    found = dashboard.precision(hosting, kind)
    target = hosting.study.experiment.hosting.target_width
    in_sequence = any(item.at_any_time is not None for item in found)
    complete = any(item.mean is not None for item in found)
    if complete:
        write_banner("Every planned slot is filled. The plan's stopping rule is met, so means are shown.", good=True)
    elif in_sequence:
        write_banner(
            "Means are shown as confidence sequences, which stay valid however often you look and whenever you stop."
        )
    else:
        write_banner(
            "Means are hidden until every planned slot is filled with a usable session. If you look early and stop "
            "when you like the result, the interval covers the truth less often than it claims."
        )
    if any(item.outlook for item in found):
        write_heading(
            "How wide the intervals are",
            f"The dashed line is the target, {target:g}. The dark tick is the narrowest interval that more sessions "
            "about these units could reach. Intervals generalise to new units and new people.",
        )
        chart = charts.draw_widths(found, target)
        st.altair_chart(chart, theme=None, width="stretch", alt="Widths, as in the table below.")
    if complete:
        write_heading("Means")
        alt = "Means, as in the table below."
        st.altair_chart(charts.draw_intervals(found, "mean"), theme=None, width="stretch", alt=alt)
    if in_sequence:
        write_heading(
            "Confidence sequences",
            "For these units and new people, based on session means. You can look at them at any time.",
        )
        alt = "Confidence sequences, as in the table below."
        st.altair_chart(charts.draw_intervals(found, "at_any_time"), theme=None, width="stretch", alt=alt)
    rows = [
        {
            "model": item.model,
            "condition": item.condition,
            "difficulty": item.difficulty,
            "sessions": item.sessions,
            "answers": item.answers,
            "width": f"{item.outlook.width_now:.3f}" if item.outlook else "–",
            **({"mean": item.mean or "–"} if complete else {}),
            **({"at any time": item.at_any_time or "–"} if in_sequence else {}),
            "what it would take": item.verdict,
        }
        for item in found
    ]
    draw_table(pd.DataFrame(rows), numbers=["sessions", "answers", "width", "mean", "at any time"])


def _show_quality(hosting: Hosting, kind: Kind) -> None:
    found = dashboard.quality(hosting, kind)
    times = dashboard.reaction_times(hosting, kind)
    middle = times.quantiles.get(0.5)
    draw_tiles(
        [
            make_tile("pass the catch trials", spell_share(found.catch), spell_interval(found.catch)),
            make_tile("pass the practice", spell_share(found.practice), spell_interval(found.practice)),
            make_tile("usable sessions", spell_share(found.usable), spell_interval(found.usable)),
            make_tile("answers with the page visible", spell_share(found.visible), spell_interval(found.visible)),
            make_tile(
                "median reaction time",
                "–" if middle is None else f"{spell_seconds(middle.value)} <small>s</small>",
                ""
                if middle is None
                else f"{spell_seconds(middle.low)} to {spell_seconds(middle.high)} s, {middle.n:,} sessions",
            ),
        ]
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        write_heading(
            "Exclusion rules",
            "Exclusions decide what is analysed and which slots are offered again, never who is paid.",
        )
        draw_table(found.rules, numbers=["fail", "fail only this"])
    with right:
        write_heading("Signs of programs", "Signs for you to judge. vimi excludes nobody because of them.")
        draw_table(found.signs, numbers=["people", "times"], empty="None so far.")
    write_heading("Reaction times")
    if not len(times.medians):
        write_note("No session is finished yet.")
        return
    chart = charts.draw_reaction_times(times)
    st.altair_chart(chart, theme=None, width="stretch", alt="Distribution of the sessions' median reaction times.")
    rows = [
        (
            f"{share:.0%} of sessions are quicker",
            f"{spell_seconds(e.value)} s",
            f"{spell_seconds(e.low)} to {spell_seconds(e.high)} s",
        )
        for share, e in times.quantiles.items()
    ]
    columns = ["quantile", "median of the session", "95 % interval"]
    draw_table(pd.DataFrame(rows, columns=columns), numbers=columns[1:])


def _show_problems(hosting: Hosting, kind: Kind) -> None:
    found = dashboard.found_problems(hosting)
    write_heading("What went wrong, by kind")
    kinds = found.kinds.assign(last=[spell_moment(at) for at in found.kinds["last"]])
    draw_table(kinds, numbers=["times", "trials"], empty="Nothing so far.")
    if len(found.latest):
        write_heading("The latest")
        latest = found.latest.assign(at=[spell_moment(at) for at in found.latest["at"]])
        draw_table(latest.fillna("–"), codes=["trial", "participant"])


def _show_data(hosting: Hosting, kind: Kind) -> None:
    """Show downloads. Files are made when a button is pressed, and only then."""
    complete = hosting.pilot or dashboard.is_complete(hosting)
    looks = dashboard.early_looks(hosting)
    write_heading(
        "Answers and sessions",
        "One row per answer and one row per session, under pseudonyms, in the format of vimi export.",
    )
    agreed = True
    if not complete:
        write_banner(
            "The plan is not complete. Downloading answers now is an early look at the means. vimi records it, so "
            f"that the report can state it. Early looks so far: {len(looks)}."
        )
        agreed = st.checkbox("I need the answers now, and I know that this is recorded.", key="early")
    buttons = st.container(horizontal=True)
    with buttons:
        for format, label in EXPORTS.items():
            st.download_button(
                f"Download {label}",
                data=_export(hosting, format),
                file_name=f"{hosting.study.root.name}-{format}.zip",
                mime="application/zip",
                disabled=not agreed,
                key=f"export_{format}",
            )
    write_heading(
        "Payments", "Everyone who finished is paid, excluded or not. The file uses the recruiter's names for people."
    )
    st.download_button(
        "Download payments (CSV)",
        data=_payments(hosting),
        file_name=f"{hosting.study.root.name}-payments.csv",
        mime="text/csv",
        key="payments",
    )
    write_heading(
        "Backup",
        "A copy of the whole study, made while people answer; vimi restore reads it. It contains keys: keep it "
        "private.",
    )
    st.download_button(
        "Download a backup",
        data=_backup(hosting),
        file_name=f"{hosting.study.root.name}-{datetime.now(UTC):%Y%m%d-%H%M}.sqlite",
        mime="application/vnd.sqlite3",
        key="backup",
    )


EXPORTS = {"csv": "CSV", "parquet": "Parquet", "psych-ds": "Psych-DS", "bids": "BIDS"}
"""Formats that answers are downloaded in."""


def _export(hosting: Hosting, format: str) -> Callable[[], bytes]:
    """Return what makes an export, as one file."""

    def make() -> bytes:
        from webapp.export import export_study

        dashboard.note_look(hosting, f"{format} from the admin page")
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / hosting.study.root.name
            export_study(hosting.study, format, folder, database=_url(hosting), pilot=hosting.pilot)
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(folder.rglob("*")):
                    if path.is_file():
                        archive.write(path, path.relative_to(place))
            return packed.getvalue()

    return make


def _payments(hosting: Hosting) -> Callable[[], bytes]:
    """Return what makes the payment file."""

    def make() -> bytes:
        from webapp.payment import make_payroll

        return bytes(make_payroll(hosting).table.to_csv(index=False).encode())

    return make


def _backup(hosting: Hosting) -> Callable[[], bytes]:
    """Return what makes a backup."""

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as place:
            return back_up(hosting.study, Path(place) / "backup.sqlite", _url(hosting)).path.read_bytes()

    return make


def _url(hosting: Hosting) -> str:
    return hosting.database.address


def _show_recruitment(hosting: Hosting, kind: Kind) -> None:
    paused = dashboard.is_paused(hosting)
    write_heading("Newcomers")
    if paused:
        write_note("Newcomers are turned away for now. People who have started can continue.")
    else:
        write_note(
            "Newcomers are let in while there are slots. A pause turns them away; people who have started can continue."
        )
    verb = "Resume" if paused else "Pause"
    if not st.session_state.get("asked_to_change"):
        st.button(f"{verb} recruitment", key="change", on_click=_ask_to_change, args=(True,))
    else:
        words = "let newcomers in again" if paused else "turn newcomers away"
        write_banner(f"This will {words}, immediately and on all servers of this study.")
        with st.container(horizontal=True):
            change = {"on_click": _set_paused, "args": (hosting, not paused)}
            st.button(f"{verb} now", key="confirm", type="primary", **change)
            st.button("Cancel", key="cancel", on_click=_ask_to_change, args=(False,))
    write_heading(
        "Completion codes",
        f"The codes that people enter at the recruiter ({hosting.recruiter.name}), by how their session ended.",
    )
    rows = [(outcome, hosting.code(outcome)) for outcome in OUTCOMES]
    draw_table(pd.DataFrame(rows, columns=["outcome", "code"]), codes=["code"])
    if hosting.recruitment.unfilled:
        write_banner(
            f"Before a recruiter's link works, fill in [recruitment]: {', '.join(hosting.recruitment.unfilled)}."
        )


def _ask_to_change(asked: bool) -> None:
    st.session_state["asked_to_change"] = asked


def _set_paused(hosting: Hosting, paused: bool) -> None:
    st.session_state["asked_to_change"] = False
    with hosting.database.writing() as connection:
        write_setting(connection, hosting.identity, "paused", paused)


SECTIONS: dict[str, tuple[Callable[[Hosting, Kind], None], bool]] = {
    "Overview": (_show_overview, True),
    "Coverage": (_show_coverage, True),
    "Precision": (_show_precision, True),
    "Quality": (_show_quality, True),
    "Problems": (_show_problems, True),
    "Data": (_show_data, False),
    "Recruitment": (_show_recruitment, False),
}
"""Sections of the page: what draws them, and whether they refresh themselves."""
