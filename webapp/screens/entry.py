"""The script that Streamlit runs for every visitor.

It runs at every click of everybody: what only the experimenter sees is imported when the experimenter asks for it.
"""

import streamlit as st

from webapp.screens.frame import set_up_page
from webapp.screens.participant import show_participant_page
from webapp.screens.withdrawal import show_withdrawal_page
from webapp.server import has_experimenter, served, turn

hosting = served()
set_up_page(hosting.wording.label("title"), hosting.wording.direction)


def show_participant() -> None:
    """Show a participant's current page, when it is their turn."""
    with turn():
        show_participant_page(hosting)


def show_withdrawal() -> None:
    """Show the page on which answers are deleted."""
    with turn():
        show_withdrawal_page(hosting)


def show_experimenter() -> None:
    """Show the experimenter's page."""
    from webapp.screens.experimenter import show_experimenter_page

    show_experimenter_page(hosting)


def show_leaderboard() -> None:
    """Show the leaderboard."""
    from webapp.screens.leaderboard import show_leaderboard_page

    if hosting.result_files is not None:
        show_leaderboard_page(hosting.result_files)


pages = [
    st.Page(show_participant, title=hosting.wording.label("title"), url_path="task", default=True),
    st.Page(show_withdrawal, title=hosting.wording.label("withdraw"), url_path="withdraw"),
]
if has_experimenter():
    pages.append(st.Page(show_experimenter, title="vimi", url_path="admin"))
if hosting.result_files is not None:
    pages.append(st.Page(show_leaderboard, title="Leaderboard", url_path="leaderboard"))
st.navigation(pages, position="hidden").run()
