"""Who may see the experimenter's page: one password, of which only an Argon2 hash is kept, outside the study.

There is no page without a hash. Wrong attempts make everybody wait, for longer each time: all visitors of a server
share one counter, since whoever guesses may come from many addresses.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import monotonic

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from benchmark.errors import HostingError

ADMIN_HASH = "VIMI_ADMIN_HASH"
"""Environment variable with the hash of the experimenter's password."""

SECRET_NAME = "admin_hash"
"""Its name in Streamlit's secrets file."""

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200

FREE_ATTEMPTS = 3
"""Wrong attempts before anybody has to wait."""

LONGEST_WAIT = 300.0
"""Seconds that wrong attempts can make everybody wait at most."""

FORGOTTEN_AFTER = 3600.0
"""Seconds after which wrong attempts count no more."""


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password.

    Raises
    ------
    HostingError
        If the password is too short, or longer than anybody types.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise HostingError(
            f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, this one {len(password)}: behind it "
            "are people's answers. Take a longer one."
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
            f"{where} holds no Argon2 hash. Make one with vimi password, and put it there in single quotes: shells "
            "and compose files take its dollar signs for variables."
        ) from None
    return value


def environment_hash() -> str:
    """Return the hash in the environment; empty if there is none."""
    return check_hash(os.environ.get(ADMIN_HASH, ""), ADMIN_HASH)


class Gate:
    """Lets in whoever knows the password, and slows down whoever guesses.

    Parameters
    ----------
    clock
        Tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._last = 0.0

    def wait(self) -> float:
        """Return how many seconds nobody is let in for."""
        now = self._clock()
        if now - self._last > FORGOTTEN_AFTER:
            return 0.0
        behind = self._failures - FREE_ATTEMPTS
        return 0.0 if behind < 0 else max(min(2.0 ** (behind + 1), LONGEST_WAIT) - (now - self._last), 0.0)

    def admits(self, password: str, hashed: str) -> bool:
        """Whether somebody with this password may enter; while everybody waits, nobody may.

        One attempt is checked at a time: the hash is costly on purpose.
        """
        with self._lock:
            if not hashed or self.wait() > 0:
                return False
            if self._clock() - self._last > FORGOTTEN_AFTER:
                self._failures = 0
            try:
                right = len(password) <= LONGEST_PASSWORD and PasswordHasher().verify(hashed, password)
            except (VerificationError, InvalidHashError):
                right = False
            self._failures = 0 if right else self._failures + 1
            self._last = self._clock()
            return bool(right)
