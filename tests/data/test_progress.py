from __future__ import annotations

import logging
import os
import pty
import sys
import warnings

import pytest

from jaxgan.data.progress import progress, quiet


def test_without_a_terminal_progress_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("counting", 70, every=20) as advance:
        for _ in range(7):
            advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"counting: {count} of 70" for count in (0, 20, 40, 60, 70)]


def test_in_a_terminal_progress_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress("counting", 70, every=20) as advance:
            advance(35)
    shown = b"".join(iter(lambda: _read(reader), b"")).decode()
    os.close(reader)
    assert "counting" in shown
    assert "35/70" in shown
    assert "35 of 70" not in shown
    assert shown.endswith("\x1b[2K")  # The last thing sent erases the line.


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 10_000)
    except OSError:  # How Linux says that the other end is closed.
        return b""


def test_quiet_keeps_prints_logs_and_warnings_back_and_then_lets_go(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("absl")
    level = logger.level
    with quiet():
        print("chatter")
        logger.warning("chatter")
        warnings.warn("chatter", stacklevel=1)
    assert capsys.readouterr() == ("", "")
    assert logger.level == level
    print("heard")
    assert capsys.readouterr().out == "heard\n"
