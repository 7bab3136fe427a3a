from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from experiments.benchmark.processes import peak_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from Linux's /proc")
def test_peak_memory_is_that_of_a_process_and_not_of_the_one_that_started_it() -> None:
    held = np.ones(2**28, np.uint8)  # This process has 256 MiB more than the one that it starts.
    line = [sys.executable, "-c", "held = bytearray(b'x') * 2**26; print('held', flush=True); input()"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        peak = peak_memory(process.pid)
        process.communicate("\n")
    assert 2**26 < peak < 2**27
    assert peak_memory("self") > held.nbytes
    assert peak_memory(process.pid) == 0
