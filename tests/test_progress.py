"""Progress: bars in a terminal, lines in a log, silence in a script."""

from __future__ import annotations

import subprocess
import sys
import time
from io import StringIO

import pytest
from rich.console import Console

from benchmark import progress
from benchmark.progress import LineReporter, Reporter, TerminalReporter, choose_reporter, default_reporter


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_now_and_then_with_what_is_left_and_one_at_the_end() -> None:
    stream, clock = StringIO(), Clock()
    with LineReporter(stream, clock).task("Surveying the pool", 1000) as advance:
        for _ in range(10):
            clock.now += 6
            advance(100)
    assert stream.getvalue().splitlines() == [
        "Surveying the pool: 300 of 1,000, 18 s, about 42 s left",
        "Surveying the pool: 600 of 1,000, 36 s, about 24 s left",
        "Surveying the pool: 900 of 1,000, 54 s, about 6 s left",
        "Surveying the pool: 1,000 of 1,000, 1 min 0 s",
    ]


def test_work_that_failed_leaves_no_line_that_says_it_is_done() -> None:
    stream = StringIO()
    with pytest.raises(ValueError, match="broken"), LineReporter(stream, Clock()).task("Surveying", 10):
        raise ValueError("broken")
    assert stream.getvalue() == ""


def test_a_line_of_a_log_is_written_where_the_error_stream_is_now(capsys: pytest.CaptureFixture[str]) -> None:
    LineReporter().say("read the sentence [in brackets]")
    assert capsys.readouterr().err == "read the sentence [in brackets]\n"


def test_a_path_in_what_is_said_is_never_broken() -> None:
    stream = StringIO()
    said = "The study is in " + "/a folder [with] brackets" * 10
    TerminalReporter(Console(file=stream, width=40, force_terminal=True)).say(said)
    assert stream.getvalue() == said + "\n"


def test_a_pipe_gets_lines_and_a_terminal_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stderr", StringIO())
    assert isinstance(choose_reporter(), LineReporter)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(choose_reporter(), TerminalReporter)


def test_a_script_hears_nothing_and_a_notebook_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(default_reporter()) is Reporter
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    assert isinstance(default_reporter(), LineReporter)


def test_the_kernel_of_a_notebook_is_known_by_its_shell() -> None:
    code = (
        "from benchmark.progress import in_notebook\n"
        "assert not in_notebook()\n"
        "from ipykernel.zmqshell import ZMQInteractiveShell\n"
        "ZMQInteractiveShell.instance()\n"
        "assert in_notebook()"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


# -------------------------------------------------------------------- a sign of life


def test_a_terminal_shows_a_sign_of_life_that_goes_when_something_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENT_SECONDS", 3600.0)
    stream = StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    reporter = TerminalReporter(console)
    with progress.signs_of_life("vimi observe", console):
        sign = progress._sign
        assert sign is not None and not sign.is_shown
        sign.show()
        assert sign.is_shown
        reporter.say("Found 3 pictures")
        assert not sign.is_shown
        sign.show()
        with reporter.task("Embedding", 2) as advance:
            assert not sign.is_shown
            sign.show()
            assert not sign.is_shown, "a bar is there already"
            reporter.say("in passing")
            sign.show()
            assert not sign.is_shown, "the bar is still there"
            advance(2)
        sign.show()
        assert sign.is_shown
    assert not sign.is_shown and progress._sign is None
    sign.show()
    assert not sign.is_shown, "the command has ended"
    assert "vimi observe is working" in stream.getvalue() and "Found 3 pictures" in stream.getvalue()


def test_the_sign_comes_by_itself_after_silence_and_goes_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    console = Console(file=StringIO(), width=80, force_terminal=True, color_system=None)
    with pytest.raises(ValueError, match="wrong"), progress.signs_of_life("vimi build", console):
        sign = progress._sign
        assert sign is not None
        while not sign.is_shown:
            time.sleep(0.001)
        raise ValueError("wrong")
    assert not sign.is_shown and progress._sign is None


def test_a_log_has_no_sign_of_life() -> None:
    with progress.signs_of_life("vimi build"):
        assert progress._sign is None
