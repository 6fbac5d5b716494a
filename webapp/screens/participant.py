"""The participant's pages. What is shown follows from the database; the session's state only remembers who it is."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from math import ceil, sqrt
from typing import Any
from urllib.parse import urljoin

import streamlit as st

from benchmark.experiment import HostingSettings
from webapp.agents import signed_agent
from webapp.answering import Answer, ShownTrial, current_trial, first_pictures, record_answer
from webapp.components import check_device as look_at_device
from webapp.components import mount_trial, prefetch_pictures, show_code, watch_writing
from webapp.hosting import Hosting
from webapp.participation import (
    COLOUR_VISION,
    LONGEST_COMMENT,
    PHASES,
    Device,
    Participant,
    add_agent,
    agree,
    answer_colour_vision,
    answer_lines,
    answer_quiz,
    arrive,
    check_device,
    count_right,
    decline,
    finish_instructions,
    jump,
    leave_comments,
    look_up,
    stop,
)
from webapp.recruitment import OUTCOMES, Visitor, read_link, return_address
from webapp.renditions import Rendition
from webapp.screens.frame import card

TOKEN = "p"
"""Parameter of an open link that says who came back."""

_PROGRESS_SLOTS = ("practice", "trials")


def show_participant_page(hosting: Hosting) -> None:
    """Show a participant's current page, or admit a newcomer."""
    if hosting.preview:
        _show_preview_banner(hosting)
    token = st.session_state.get("token") or _let_in(hosting)
    if not token:
        return
    known = look_up(hosting, token)
    if known is None:
        del st.session_state["token"]
        st.rerun()
        return
    if known.phase not in _PROGRESS_SLOTS:
        st.session_state.pop("visit", None)
    if known.phase in _PROGRESS_SLOTS:
        _show_block(hosting, known)
        return
    with card():
        _SHOW[known.phase](hosting, known)


# -------------------------------------------------------------------- coming in


def _visitor(hosting: Hosting) -> Visitor | None:
    """Return whom the recruiter's link names."""
    return read_link(hosting.recruiter, {name: st.query_params.get(name, "") for name in st.query_params})


def _let_in(hosting: Hosting) -> str:
    """Look at the device and let a newcomer in; returns the token once they are in."""
    device = _device(hosting)
    if device is None:
        return ""
    kind = "simulated" if hosting.bots else "human"  # a server for bots takes nobody for a person
    arrival = arrive(hosting, _visitor(hosting), token=_known_token(hosting), kind=kind)
    if arrival.participant is None:
        with card():
            st.markdown(hosting.wording.page(f"refused-{(arrival.refusal or 'closed').replace(' ', '-')}"))
        return ""
    known = arrival.participant
    st.session_state["token"] = known.token
    st.session_state["device"] = device
    if hosting.recruiter.name == "open":
        st.query_params[TOKEN] = known.token
    check_device(hosting, known.token, device)
    agent = signed_agent(st.context.headers.to_dict())
    if agent is not None:
        add_agent(hosting, known.token, agent)
    return known.token


def _known_token(hosting: Hosting) -> str:
    """Return the token in an open link, if vimi made it."""
    token = st.query_params.get(TOKEN, "")
    allowed = 16 <= len(token) <= 64 and token.replace("-", "").replace("_", "").isalnum()
    # Nobody chooses a token: whoever hands out a link with one of their own could read what its visitors answer.
    return token if allowed and look_up(hosting, token) is not None else ""


def _device(hosting: Hosting) -> Device | None:
    """Return the browser's report about its device; None until it has answered."""
    if hosting.plain:
        rules = hosting.study.experiment.hosting
        place = st.empty()
        with place.container(), card("welcome"):
            st.markdown(hosting.wording.page("welcome", **hosting.consent_values))
            if not st.button(hosting.wording.label("continue"), type="primary", key="arrive"):
                return None
        place.empty()
        return Device(rules.window_width, rules.window_height)
    seen = look_at_device(st.session_state.get("looks", 0), key="device-check")
    return None if seen is None else _read_device(seen)


def _read_device(seen: dict[str, Any]) -> Device:
    """Parse a browser's report about its device, which may contain anything."""

    def number(name: str) -> int:
        value = seen.get(name)
        return int(value) if isinstance(value, int | float) and 0 <= value < 100_000 else 0

    signs = seen.get("evidence")
    evidence = tuple(str(sign)[:40] for sign in signs[:10]) if isinstance(signs, list) else ()
    speed = seen.get("megabits")
    megabits = float(speed) if isinstance(speed, int | float) and 0 < speed <= 1000 else None
    return Device(
        number("width"), number("height"), str(seen.get("browser")), seen.get("capable") is True, evidence, megabits
    )


def _show_preview_banner(hosting: Hosting) -> None:
    """Say that nothing is recorded, and offer every page."""
    with st.container(key="banner", horizontal=True):
        st.markdown(hosting.wording.label("preview_banner"))
        token = st.session_state.get("token")
        if token:
            phase = st.selectbox(
                hosting.wording.label("preview_go"), PHASES, index=None, label_visibility="collapsed",
                placeholder=hosting.wording.label("preview_go"), key="preview_phase",
            )  # fmt: skip
            if phase is not None and phase != st.session_state.get("jumped"):
                st.session_state["jumped"] = phase
                st.session_state.pop("visit", None)
                jump(hosting, token, phase)
                st.rerun()


# -------------------------------------------------------------------- pages


def _show_device(hosting: Hosting, known: Participant) -> None:
    """Say what is wrong with the window or the browser, and check again when the window changes."""
    rules, wording = hosting.study.experiment.hosting, hosting.wording
    seen = None if hosting.plain else look_at_device(st.session_state.get("looks", 0), key="device-check-again")
    if seen is not None:
        device = _read_device(seen)
        st.session_state["device"] = device
        if check_device(hosting, known.token, device).phase != "device":
            st.rerun()
    last = st.session_state.get("device")
    if last is not None and not last.capable:
        st.markdown(wording.page("browser"))
    elif last is not None and _is_slow(last, rules) and not _is_small(last, rules):
        st.markdown(
            wording.page(
                "too-slow",
                megabits=f"{last.megabits:.1f}",
                needed=f"{rules.slowest_connection:g}",
                megabytes=hosting.megabytes,
            )
        )
    else:
        st.markdown(
            wording.page(
                "too-small",
                width=last.width if last else "?",
                height=last.height if last else "?",
                needed_width=rules.window_width,
                needed_height=rules.window_height,
            )
        )
    if st.button(wording.label("try_again")):
        st.session_state["looks"] = st.session_state.get("looks", 0) + 1
        st.rerun()
    _show_code(hosting, "screened out")


def _is_small(device: Device, rules: HostingSettings) -> bool:
    return device.width < rules.window_width or device.height < rules.window_height


def _is_slow(device: Device, rules: HostingSettings) -> bool:
    return device.megabits is not None and device.megabits < rules.slowest_connection


def _picture_data(hosting: Hosting) -> dict[str, Any]:
    """Return what ``pictures.js`` needs to know about how pictures are sent."""
    rules, reception = hosting.rules, hosting.study.experiment.hosting
    verdict = rules.frame_seconds + rules.verdict_seconds if rules.feedback else 0.5
    return {
        "root": "/",
        "pictures": reception.pictures,
        "sizes": list(hosting.renditions.sizes),
        "trial_bytes": round(hosting.trial_bytes),
        "shortest_ms": round(1000 * (rules.locked_seconds + verdict)),
        "budget": round(reception.prefetch_megabytes * 1e6),
    }


def _load_ahead(hosting: Hosting, trials: list[list[str]]) -> None:
    """Load the pictures of the trials that come next, while a page is read."""
    if trials and not hosting.plain:
        prefetch_pictures(_picture_data(hosting), trials, key="prefetch")


def _show_consent(hosting: Hosting, known: Participant) -> None:
    wording = hosting.wording
    st.markdown(wording.page("consent", **hosting.consent_values))
    # What is agreed to is the text on this page, whatever its file says by the time of the click.
    shown = hosting.consent_hash
    st.button(wording.label("agree"), type="primary", key="agree", on_click=agree, args=(hosting, known.token, shown))
    st.button(wording.label("decline"), key="decline", on_click=decline, args=(hosting, known.token))


def _show_colour_vision(hosting: Hosting, known: Participant) -> None:
    wording, lines = hosting.wording, hosting.study.experiment.hosting.visual_trap
    labels = {name: wording.label(f"colour_{name.replace(' ', '_')}") for name in COLOUR_VISION}
    answer = st.radio(
        wording.label("question_colour_vision"), COLOUR_VISION, index=None, format_func=lambda name: labels[name],
        key="colour",
    )  # fmt: skip
    longer = "lower"
    if lines:
        st.html(_lines(wording.label("lines_alternative")))
        options = {name: wording.label(f"lines_{name}") for name in ("upper", "lower", "equal")}
        longer = st.radio(
            wording.label("question_lines"), options, index=None, format_func=lambda name: options[name], key="lines"
        )

    def go_on() -> None:
        # The choices as the browser sent them along with the click: a late change of mind counts.
        chosen, lower = st.session_state.get("colour"), st.session_state.get("lines")
        if chosen is None or (lines and lower is None):
            return
        if lines:
            answer_lines(hosting, known.token, lower)
        answer_colour_vision(hosting, known.token, chosen)

    ready = answer is not None and longer is not None
    st.button(wording.label("continue"), type="primary", key="vision", disabled=not ready, on_click=go_on)


def _lines(alternative: str) -> str:
    """Return a figure like that of Müller-Lyer whose lower line really is the longer one, by a third."""

    def line(y: int, half: int, fin: int) -> str:
        ends = "".join(
            f'<path d="M{x + sign * fin} {y - 14} L{x} {y} L{x + sign * fin} {y + 14}"/>'
            for x, sign in ((160 - half, -1), (160 + half, 1))
        )
        return f'<path d="M{160 - half} {y} H{160 + half}"/>{ends}'

    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 130" fill="none" stroke="#111111" stroke-width="3">'
        '<rect width="320" height="130" fill="#f4f4f4" stroke="none"/>'  # dark lines on a dark page would be lost
        f"{line(35, 78, 16)}{line(95, 104, -16)}</svg>"
    )
    data = b64encode(drawing.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" width="320" height="130" alt="{escape(alternative)}">'


def _show_instructions(hosting: Hosting, known: Participant) -> None:
    """Show the pages of the instructions, with a real example between them."""
    wording = hosting.wording
    condition = hosting.layout.cells[known.cell].condition if known.cell else "natural"
    names = wording.pages("instructions")
    if condition == "synthetic":
        names = [*names[:-1], "instructions-synthetic", names[-1]]
    page = min(st.session_state.get("page", 0), len(names) - 1)
    st.markdown(wording.page(names[page]))
    if names[page] in ("instructions-1", "instructions-2", "instructions-synthetic"):
        st.html(_example(hosting, known, queries=names[page] != "instructions-1"))

    def turn(to: int) -> None:
        st.session_state["page"] = to

    _load_ahead(hosting, first_pictures(hosting, known))
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.button(wording.label("back"), key="back", disabled=page == 0, on_click=turn, args=(page - 1,))
        if page + 1 < len(names):
            label = wording.label("continue")
            st.button(label, type="primary", key=f"page-{page}", on_click=turn, args=(page + 1,))
        else:
            st.button(
                wording.label("continue"), type="primary", key="instructed", on_click=finish_instructions,
                args=(hosting, known.token),
            )  # fmt: skip


def _example(hosting: Hosting, known: Participant, queries: bool) -> str:
    """Return an obvious trial of planted truth, small: the pictures that people see are the real ones."""
    trial = hosting.layout.practice(known.cell or next(iter(hosting.layout.cells)), 0)[0]
    wording = hosting.wording

    small = next((size for size in hosting.renditions.sizes if size >= 128), None)
    rendition = Rendition() if hosting.study.experiment.hosting.pictures == "original" else Rendition("compact", small)

    def group(side: str, label: str) -> str:
        names = trial[f"references_{side}"]
        shown = "".join(
            f'<img src="/image/{rendition}/{name}" alt="{escape(wording.label("trial_example", n=n + 1))}">'
            for n, name in enumerate(names)
        )
        title = escape(wording.label(label))
        return f'<div role="group" aria-label="{title}" style="--across: {across(len(names))}">{shown}</div>'

    middle = "".join(
        f'<img src="/image/{rendition}/{trial[name]}" alt="{escape(wording.label(label))}">'
        for name, label in (("query_max", "trial_upper"), ("query_min", "trial_lower"))
    )
    centre = f'<div class="queries">{middle}</div>' if queries else "<span></span>"
    return f'<div class="example">{group("min", "trial_left")}{centre}{group("max", "trial_right")}</div>'


def across(count: int) -> int:
    """Return how many pictures of a group are side by side."""
    return max(1, ceil(sqrt(count)))


def _show_quiz(hosting: Hosting, known: Participant) -> None:
    wording = hosting.wording
    questions = wording.quiz()
    _load_ahead(hosting, first_pictures(hosting, known))
    with st.form("quiz", border=False):
        chosen = [
            st.radio(question.text, question.options, index=None, key=f"quiz-{place}")
            for place, question in enumerate(questions)
        ]
        asked = st.form_submit_button(wording.label("continue"), type="primary")
    if not asked:
        return
    if any(answer is None for answer in chosen):
        st.warning(wording.label("quiz_missing"))
        return
    right = all(answer == question.answer for answer, question in zip(chosen, questions))
    answer_quiz(hosting, known.token, right)
    if right:
        st.rerun()
    st.warning(wording.label("quiz_wrong"))
    for name in wording.pages("instructions"):
        st.markdown(wording.page(name))


def _show_comments(hosting: Hosting, known: Participant) -> None:
    wording = hosting.wording
    st.markdown(wording.page("comments"))

    def finish() -> None:
        # The text as the browser sent it along with the click: what this run of the page read may be older.
        leave_comments(hosting, known.token, st.session_state.get("comments") or "")

    # A form takes every keystroke at once; a field of its own hands its text over only when it loses the focus.
    with st.form("comments-form", border=False, enter_to_submit=False):
        st.text_area(
            wording.label("comments_label"), max_chars=LONGEST_COMMENT, key="comments", label_visibility="collapsed"
        )
        st.form_submit_button(wording.label("finish"), type="primary", key="commented", on_click=finish)
    if not hosting.plain:
        watch_writing(known.token, key="writing")


def _show_debriefing(hosting: Hosting, known: Participant) -> None:
    right, answered = count_right(hosting, known.id)
    st.markdown(hosting.wording.page("debriefing", right=right, answered=answered))
    _show_code(hosting, "complete", known)
    _show_receipt(hosting, known)


def _show_end(hosting: Hosting, known: Participant) -> None:
    outcome = known.outcome or "returned"
    st.markdown(hosting.wording.page(f"end-{outcome.replace(' ', '-')}"))
    part = hosting.part_payment_usd(outcome)
    if part:
        st.markdown(hosting.wording.label("payment_part", amount=f"{part:.2f}"))
    if outcome in OUTCOMES:
        _show_code(hosting, outcome, known)
    if outcome in ("failed practice", "returned", "timed out"):
        _show_receipt(hosting, known)


def _show_code(hosting: Hosting, outcome: Any, known: Participant | None = None) -> None:
    """Show the completion code of an outcome, and the way back to the recruiter."""
    wording, code = hosting.wording, hosting.code(outcome)
    st.markdown(f"**{wording.label('your_code')}**")
    _draw_code(hosting, code, "completion-code")
    address = return_address(hosting.recruitment, code, _visitor(hosting), known.pseudonym if known else "", outcome)
    if address:
        st.link_button(wording.label("return_to_recruiter"), address, type="primary")


def _show_receipt(hosting: Hosting, known: Participant) -> None:
    """Show the code with which the answers can be deleted later."""
    address = urljoin(st.context.url or "", "/withdraw")
    st.markdown(f"**{hosting.wording.label('receipt')}**  \n{hosting.wording.label('receipt_hint', address=address)}")
    _draw_code(hosting, known.receipt, "receipt-code")


def _draw_code(hosting: Hosting, code: str, key: str) -> None:
    if hosting.plain:
        st.code(code, language=None)
        return
    show_code(code, {name: hosting.wording.label(name) for name in ("copy", "copied")}, key=key)


_SHOW = {
    "device": _show_device,
    "consent": _show_consent,
    "colour vision": _show_colour_vision,
    "instructions": _show_instructions,
    "quiz": _show_quiz,
    "comments": _show_comments,
    "debriefing": _show_debriefing,
    "end": _show_end,
}


# -------------------------------------------------------------------- trials


def _show_block(hosting: Hosting, known: Participant) -> None:
    """Show the page before a block, or its trials."""
    block = f"{known.phase}-{known.practice_attempts}"
    visit = st.session_state.get("visit")
    if visit is None or visit["block"] != block:
        presentation = current_trial(hosting, known.token)
        if presentation is None or look_up(hosting, known.token) != known:
            # Whoever was silent for too long has just been sent back to the practice.
            st.rerun()
            return
        number = st.session_state["visits"] = st.session_state.get("visits", 0) + 1
        visit = {"block": block, "number": number, "presentation": presentation, "begun": presentation.number > 1}
        st.session_state["visit"] = visit
    if not visit["begun"]:
        with card():
            _show_opening(hosting, known)
            first = visit["presentation"]
            shown = sorted({*first.left, *first.right, first.upper, first.lower})
            _load_ahead(hosting, [shown, *first.upcoming])
        return
    if hosting.plain:
        _show_plain_trial(hosting, known)
        return
    data = _trial_data(hosting, known, visit["presentation"], visit["number"])
    # A block may end without being complete: what comes next is then asked for anew, and is a visit of its own.
    mount_trial(data, key=f"trial-{block}", on_finished=lambda: st.session_state.pop("visit", None))


def _show_opening(hosting: Hosting, known: Participant) -> None:
    wording = hosting.wording
    if known.phase == "trials":
        total = hosting.rules.main_trials + hosting.rules.catch_trials
        st.markdown(wording.page("start", trials=total))
    else:
        st.markdown(wording.page("practice" if known.practice_attempts == 0 else "practice-again"))

    def begin() -> None:
        visit = st.session_state.get("visit")
        if visit is not None:
            # The trial is handed out anew: its time counts from now.
            visit["presentation"] = current_trial(hosting, known.token) or visit["presentation"]
            visit["begun"] = True

    label = wording.label("start" if known.phase == "trials" else "start_practice")
    st.button(label, type="primary", key=f"begin-{known.phase}-{known.practice_attempts}", on_click=begin)
    _show_receipt(hosting, known)
    with st.expander(wording.label("leave_study")):
        st.markdown(wording.label("leave_question"))
        st.button(wording.label("leave_yes"), key="leave", on_click=stop, args=(hosting, known.token))


def _trial_data(hosting: Hosting, known: Participant, presentation: ShownTrial, visit: int) -> dict[str, Any]:
    """Return what the component needs."""
    rules, device = hosting.rules, hosting.study.experiment.hosting
    references = hosting.study.protocol.references_per_side
    return {
        "participant": known.token,
        "visit": f"{visit}-{presentation.trial}",
        "presentation": presentation.model_dump(),
        "labels": {name: text for name, text in hosting.wording.labels.items() if name.startswith("trial_")},
        "root": "/",
        "pictures": _picture_data(hosting),
        "preview": hosting.preview,
        "references": references,
        "across": across(references),
        "locked_ms": round(rules.locked_seconds * 1000),
        "frame_ms": round(rules.frame_seconds * 1000),
        "verdict_ms": round(rules.verdict_seconds * 1000),
        "window_width": device.window_width,
        "window_height": device.window_height,
    }


def _show_plain_trial(hosting: Hosting, known: Participant) -> None:
    """Draw a trial with plain buttons: no clock in the browser, the same function behind it."""
    trial = current_trial(hosting, known.token)
    if trial is None:
        st.session_state.pop("visit", None)
        st.rerun()
        return
    wording = hosting.wording

    def pictures(names: list[str], label: str) -> str:
        shown = "".join(
            f'<img src="/image/{name}" alt="{escape(wording.label("trial_example", n=n + 1))}">'
            for n, name in enumerate(names)
        )
        title = escape(wording.label(label))
        style = f"--across: {across(max(len(names), 1))}"
        group = f'<div role="group" aria-label="{title}" style="{style}">{shown}</div>'
        return f'<div class="example" style="display: block">{group}</div>'

    st.caption(wording.label("trial_progress", number=trial.number, of=trial.of))
    st.subheader(wording.label("trial_question"))
    left, middle, right = st.columns(3)
    left.html(pictures(trial.left, "trial_left"))
    right.html(pictures(trial.right, "trial_right"))
    for position, name in (("upper", trial.upper), ("lower", trial.lower)):
        label = wording.label(f"trial_{position}")
        middle.html(f'<img src="/image/{name}" alt="{escape(label)}" style="display: block; margin: auto">')
        for column, confidence in zip(middle.columns(3), (1, 2, 3)):
            column.button(
                wording.label(f"trial_confidence_{confidence}"),
                # The key holds the trial: a click that comes late still carries the trial that it was meant for.
                key=f"{trial.trial}-{position}-{confidence}",
                on_click=_answer_plainly,
                args=(hosting, known.token, trial.trial, position, confidence),
                width="stretch",
            )
    verdict = st.session_state.get("verdict")
    if verdict is not None and trial.feedback:
        st.info(wording.label("trial_correct" if verdict else "trial_incorrect"))


def _answer_plainly(hosting: Hosting, token: str, trial: str, position: Any, confidence: int) -> None:
    """Store an answer that was given with a plain button; there is no reaction time to go with it."""
    answer = Answer(participant=token, trial=trial, position=position, confidence=confidence, input="button")
    st.session_state["verdict"] = record_answer(hosting, answer).correct
