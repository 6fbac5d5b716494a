"""What time is for bots: a clock that jumps from event to event, or real time."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from benchmark.progress import Advance


class SimulatedClock:
    """A clock that is set by the simulation."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


Life = Iterator[float]


def play(
    lives: Iterable[tuple[float, Life]], clock: SimulatedClock, advance: Advance = lambda count: None,
    enough: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Play lives on a simulated clock, one event after the other in the order of their times.

    Parameters
    ----------
    lives
        When each begins, in seconds from now, and the life.
    clock
        Is set to the time of every event.
    advance
        Is told of each life that has ended.
    enough
        Asked before a life begins; once it says yes, lives that have not begun never do.
    """
    start = clock.now
    queue = [(start + begins, number, False, life) for number, (begins, life) in enumerate(lives)]
    heapq.heapify(queue)
    while queue:
        when, number, begun, life = heapq.heappop(queue)
        clock.now = max(clock.now, when)
        if not begun and enough():
            advance(1)
            continue
        wait = next(life, None)
        if wait is None:
            advance(1)
        else:
            heapq.heappush(queue, (clock.now + wait, number, True, life))


def play_in_real_time(
    lives: Iterable[tuple[float, Life]], workers: int, speed: float = 1.0, advance: Advance = lambda count: None
) -> None:
    """Play lives while time really passes, several at once.

    Parameters
    ----------
    lives
        When each begins, in seconds from now, and the life.
    workers
        Threads: how many lives can do something at the same moment.
    speed
        How much faster than the lives themselves say; what they say of reaction times stays as it is.
    advance
        Is told of each life that has ended.
    """
    start = time.monotonic()
    queue = [(start + begins / speed, number, life) for number, (begins, life) in enumerate(lives)]
    heapq.heapify(queue)
    changed = threading.Condition()
    busy = 0
    failures: list[BaseException] = []

    def due() -> tuple[int, Life] | None:
        """Wait for the next event; None when there will be no more."""
        nonlocal busy
        with changed:
            while not failures and (queue or busy):
                now = time.monotonic()
                if queue and queue[0][0] <= now:
                    busy += 1
                    return heapq.heappop(queue)[1:]
                changed.wait(queue[0][0] - now if queue else None)
            return None

    def work() -> None:
        nonlocal busy
        while (event := due()) is not None:
            number, life = event
            try:
                wait = next(life, None)
            except BaseException as error:  # handed to whoever plays
                wait = None
                failures.append(error)
            with changed:
                busy -= 1
                if wait is None:
                    advance(1)
                else:
                    heapq.heappush(queue, (time.monotonic() + wait / speed, number, life))
                changed.notify_all()

    threads = [threading.Thread(target=work, name=f"bots-{number}", daemon=True) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # in short turns, so that an interruption is heard
    if failures:
        raise failures[0]
