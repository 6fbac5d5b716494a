"""The experimenter's page (being written)."""


def admin_hash() -> str:
    """Return the hash of the password."""
    return ""


def show_experimenter_page(hosting: object) -> None:
    """Show the page."""
