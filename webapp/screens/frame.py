"""What all pages share: no menus, the grey background, and a card for text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

_STYLE = """
<style>
  header[data-testid="stHeader"], [data-testid="stToolbar"], [data-testid="stDecoration"], footer { display: none; }
  [data-testid="stMainBlockContainer"] { padding: 0; max-width: none; }
  [data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] { gap: 0; }
  [data-testid="stApp"] [data-stale="true"] { opacity: 1 !important; transition: none !important; }
  [class*="st-key-card"] {
    background: #f4f4f4; border-radius: 10px; padding: 2.2rem 2.6rem 2rem; margin: 4vh auto; gap: 1rem;
    width: min(46rem, calc(100vw - 3rem)) !important; box-shadow: 0 1px 2px #0004; box-sizing: border-box;
  }
  [class*="st-key-card"] h1 { font-size: 1.65rem; padding: 0 0 .4rem; letter-spacing: -.005em; }
  [class*="st-key-card"] h2 { font-size: 1.15rem; padding: .6rem 0 .2rem; }
  [class*="st-key-card"] p, [class*="st-key-card"] li { font-size: 1.02rem; line-height: 1.5; }
  [class*="st-key-card"] button { min-height: 2.7rem; }
  [class*="st-key-card"] button[kind="secondary"] { background: #fff; }
  [class*="st-key-card"] [data-testid="stCode"] pre { background: #e4e4e4; font-size: 1.3rem; }
  .st-key-banner { position: fixed; z-index: 10; left: .6rem; bottom: .3rem; width: 24rem !important; opacity: .95; }
  .st-key-banner p { background: #111; color: #fff; border-radius: 4px; padding: .1rem .6rem; font-size: .9rem; }
  [class*="st-key-card"] [data-testid="stRadioOption"] div:has(> div:empty) { background: #fff; }
  [class*="st-key-card"] [data-testid="stRadioOption"]:has(input:checked) div:has(> div:empty) { background: #0c0c0c; }
  .example { display: grid; grid-template-columns: 1fr auto 1fr; gap: 1rem; align-items: center; background: #808080;
    border-radius: 6px; padding: .9rem; }
  .example div { display: grid; grid-template-columns: repeat(var(--across), 1fr); gap: 3px; }
  .example div.queries { grid-template-columns: 1fr; gap: 10px; width: 7rem; }
  .example img { width: 100%; display: block; }
  [class*="st-key-card"] [data-testid="InputInstructions"] { display: none; }
  /* Each text by its own direction: a study's own texts may be written from the right. */
  [class*="st-key-card"] :is(p, li, h1, h2, h3, label, textarea, button) { unicode-bidi: plaintext; text-align: start; }
  [class*="st-key-card"] button p { text-align: center; }
  [class*="st-key-card"] :is(p, li, h1, h2, h3, label, button, summary) { overflow-wrap: anywhere; }
  @media (max-width: 46rem) { [class*="st-key-card"] { padding: 1.4rem 1.2rem; width: calc(100vw - 1rem) !important; } }
  @media (forced-colors: active) {
    [class*="st-key-card"] { border: 1px solid CanvasText; }
    [class*="st-key-card"] button { border: 1px solid ButtonText !important; }
    [class*="st-key-card"] button[kind^="primary"] { border-width: 3px !important; }
    [class*="st-key-card"] button:disabled { border: 1px dashed GrayText !important; }
    [class*="st-key-card"] :is(button, input, textarea, summary, a):focus-visible,
    [class*="st-key-card"] label:has(input:focus-visible) { outline: 3px solid Highlight !important; }
    [class*="st-key-card"] [data-testid="stRadioOption"] div:has(> div:empty) {
      forced-color-adjust: none; background: Canvas; border: 2px solid CanvasText;
    }
    [class*="st-key-card"] [data-testid="stRadioOption"]:has(input:checked) div:has(> div:empty) {
      background: Highlight; outline: 2px solid Highlight; outline-offset: 2px;
    }
    [class*="st-key-card"] [data-testid="stRadioOption"]:has(input:checked) p { text-decoration: underline; }
    .example { forced-color-adjust: none; }
  }
  @media (prefers-reduced-motion: reduce) { *, *::before { animation: none !important; transition: none !important; } }
</style>
"""


_FROM_THE_RIGHT = """
  [class*="st-key-card"] { direction: rtl; }
  /* Left and right groups keep their sides, codes and numbers their order. */
  [class*="st-key-card"] :is(.example, code, pre, [data-testid="stCode"]) { direction: ltr; }
"""


def set_up_page(title: str, direction: str = "ltr") -> None:
    """Set up the page: wide, without menus, on grey; ``direction`` is that of the language, ``ltr`` or ``rtl``."""
    st.set_page_config(page_title=title, layout="wide", initial_sidebar_state="collapsed")
    st.html(_STYLE.replace("</style>", f"{_FROM_THE_RIGHT}</style>") if direction == "rtl" else _STYLE)


@contextmanager
def card(name: str = "page") -> Iterator[None]:
    """Draw text on a card in the middle of the page; two cards of one run need two names."""
    with st.container(key=f"card-{name}"):
        yield
