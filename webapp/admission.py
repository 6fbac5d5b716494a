"""Who may see the experimenter's page: one password, of which only an Argon2 hash is kept, outside the study.

There is no page without a hash. Wrong attempts make a visitor wait, for longer each time, and use up what all strangers
together may try.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from benchmark.errors import HostingError
from webapp.rates import Rates
from webapp.visitors import SELF, UNTOLD

ADMIN_HASH = "VIMI_ADMIN_HASH"
"""Environment variable with the hash of the experimenter's password."""

SECRET_NAME = "admin_hash"
"""Its name in Streamlit's secrets file."""

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200

FREE_ATTEMPTS = 3
"""Wrong attempts of a caller before they have to wait."""

LONGEST_WAIT = 300.0
"""Seconds that their wrong attempts can make them wait at most."""

FORGOTTEN_AFTER = 3600.0
"""Seconds after which wrong attempts count no more."""

STRANGERS_AT_ONCE = 30
"""Wrong attempts that all strangers together may make at once,"""
STRANGERS_A_SECOND = 0.2
"""and how many a second in the long run."""

MOST_CALLERS = 10_000
"""Callers whose wrong attempts are remembered; the latest ones."""

DEVICE_COOKIE = "vimi_device"
"""Cookie of a device that was here with the right password."""

DEVICE_SECONDS = 90 * 24 * 3600
"""How long it counts."""

_PASS = re.compile(r"([0-9a-f]{16})\.([0-9]{1,12})\.([0-9a-f]{32})")


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password.

    Raises
    ------
    HostingError
        If the password is too short, or longer than anybody types.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise HostingError(
            f"A password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; this one has "
            f"{len(password)}. It protects people's answers: choose another one."
        )
    return PasswordHasher().hash(password)


def check_hash(value: str, where: str) -> str:
    """Return a hash if it is one.

    Raises
    ------
    HostingError
        If it is none: a password that was put there in plain text, or a hash that lost its dollar signs on the way.
    """
    value = value.strip()
    try:
        if value:
            extract_parameters(value)
    except InvalidHashError:
        raise HostingError(
            f"{where} is not an Argon2 hash. Make one with vimi password and put it in single quotes: shells and "
            "compose files read its dollar signs as variables."
        ) from None
    return value


def environment_hash() -> str:
    """Return the hash in the environment; empty if there is none."""
    return check_hash(os.environ.get(ADMIN_HASH, ""), ADMIN_HASH)


def admin_hash() -> str:
    """Return the hash of the experimenter's password; empty if there is none, which turns the page off.

    Raises
    ------
    HostingError
        If what stands there is no Argon2 hash.
    """
    import streamlit as st

    given = environment_hash()
    if given or not st.secrets.load_if_toml_exists():
        return given
    return check_hash(str(st.secrets.get(SECRET_NAME, "")), f"{SECRET_NAME} in the secrets file")


@dataclass(frozen=True)
class Caller:
    """A caller of the experimenter's page.

    Attributes
    ----------
    visitor
        The visitor, as :mod:`webapp.visitors` names them.
    device
        The device, if it was here with the right password before; empty if not.
    """

    visitor: str = UNTOLD
    device: str = ""

    @property
    def name(self) -> str:
        """Whose wrong attempts count together."""
        return f"device {self.device}" if self.device else self.visitor

    @property
    def is_stranger(self) -> bool:
        """Whether a visitor is unknown: no earlier visit, and not on the server's own machine."""
        return not self.device and self.visitor != SELF


ANYBODY = Caller()
"""Somebody of whom nothing is known."""


class Gate:
    """Admits people who know the password, and slows down guessing.

    Each caller waits for their own wrong attempts, longer each time, and for nobody else's. All strangers together
    have a budget of wrong attempts besides, since whoever guesses may come from many addresses. A device that has been
    here with the right password, and whoever sits at the server itself, are not touched by it: while somebody guesses,
    the experimenter still enters.

    Parameters
    ----------
    clock
        Tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._budget = Rates(STRANGERS_AT_ONCE, STRANGERS_A_SECOND, most=1, clock=clock)

    def wait(self, caller: Caller = ANYBODY) -> float:
        """Return how many seconds a caller has to wait."""
        failures, last = self._failures.get(caller.name, (0, 0.0))
        passed = self._clock() - last
        behind = failures - FREE_ATTEMPTS
        own = 0.0
        if behind >= 0 and passed <= FORGOTTEN_AFTER:
            own = max(min(2.0 ** min(behind + 1, 20), LONGEST_WAIT) - passed, 0.0)
        shared = (1 - self._budget.left("")) / STRANGERS_A_SECOND if caller.is_stranger else 0.0
        return max(own, shared, 0.0)

    def admits(self, password: str, hashed: str, caller: Caller = ANYBODY) -> bool:
        """Whether a caller with this password may enter; while they have to wait, they may not.

        One attempt is checked at a time: the hash is costly on purpose.
        """
        with self._lock:
            if not hashed or self.wait(caller) > 0:
                return False
            failures, last = self._failures.pop(caller.name, (0, 0.0))
            if self._clock() - last > FORGOTTEN_AFTER:
                failures = 0
            try:
                right = len(password) <= LONGEST_PASSWORD and PasswordHasher().verify(hashed, password)
            except (VerificationError, InvalidHashError):
                right = False
            if not right:
                self._failures[caller.name] = (failures + 1, self._clock())
                if len(self._failures) > MOST_CALLERS:
                    self._failures.popitem(last=False)
                if caller.is_stranger:
                    self._budget.take("")
            return bool(right)


# -------------------------------------------------------------------- devices that were here before


def make_device_pass(key: bytes, hashed: str, now: float) -> str:
    """Return a cookie's text that shows: this device has entered the right password before.

    It opens nothing. It only spares the device from waiting for the wrong attempts of others; another password, or
    another key of the laboratory, makes it worthless.

    Parameters
    ----------
    key
        The laboratory's key for it.
    hashed
        Hash of the password.
    now
        Seconds since 1970.
    """
    said = f"{secrets.token_hex(8)}.{int(now + DEVICE_SECONDS)}"
    return f"{said}.{_sign(key, hashed, said)}"


def read_device_pass(text: str, key: bytes, hashed: str, now: float) -> str:
    """Return the device that a cookie names; empty if it is not ours, or too old."""
    match = _PASS.fullmatch(text)
    if match is None or not hmac.compare_digest(_sign(key, hashed, f"{match[1]}.{match[2]}"), match[3]):
        return ""
    return match[1] if int(match[2]) > now else ""


def _sign(key: bytes, hashed: str, said: str) -> str:
    return hmac.new(key, f"{hashed}\x1f{said}".encode(), hashlib.sha256).hexdigest()[:32]
