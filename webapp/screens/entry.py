"""The script that Streamlit runs for every visitor."""

import streamlit as st

from webapp.screens.experimenter import admin_hash, show_experimenter_page
from webapp.screens.frame import set_up_page
from webapp.screens.participant import show_participant_page
from webapp.screens.withdrawal import show_withdrawal_page
from webapp.server import served

hosting = served()
set_up_page(hosting.wording.label("title"))
pages = [
    st.Page(
        lambda: show_participant_page(hosting), title=hosting.wording.label("title"), url_path="task", default=True
    ),
    st.Page(lambda: show_withdrawal_page(hosting), title=hosting.wording.label("withdraw"), url_path="withdraw"),
]
if admin_hash():
    pages.append(st.Page(lambda: show_experimenter_page(hosting), title="vimi", url_path="admin"))
if hosting.result_files is not None:
    from webapp.screens.leaderboard import show_leaderboard_page

    files = hosting.result_files
    pages.append(st.Page(lambda: show_leaderboard_page(files), title="Leaderboard", url_path="leaderboard"))
st.navigation(pages, position="hidden").run()
