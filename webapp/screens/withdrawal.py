"""The page on which people have their answers deleted."""

from __future__ import annotations

import streamlit as st

from webapp.hosting import Hosting
from webapp.participation import withdraw
from webapp.screens.frame import card


def show_withdrawal_page(hosting: Hosting) -> None:
    """Ask for a receipt code, and delete the answers that belong to it."""
    wording = hosting.wording
    with card():
        st.markdown(wording.page("withdraw"))
        with st.form("withdrawal", border=False):
            receipt = st.text_input(wording.label("withdraw_receipt"), max_chars=40)
            asked = st.form_submit_button(wording.label("withdraw"), type="primary")
        if asked:
            deleted = withdraw(hosting, receipt)
            if deleted is None:
                st.error(wording.label("withdraw_unknown"))
            else:
                st.success(wording.label("withdraw_done", answers=deleted))
