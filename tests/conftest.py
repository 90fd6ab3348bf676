"""Prefect's home is a temporary folder before anything imports Prefect: its runs never touch the real one."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile

_HOME = tempfile.mkdtemp(prefix="crps-prefect-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for name in [name for name in os.environ if name.startswith(("PREFECT_", "CRPS_OUTCOMES_"))]:
    del os.environ[name]
os.environ |= {
    "PREFECT_HOME": _HOME,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}

import pytest  # noqa: E402 - the environment comes first


@pytest.fixture(scope="module")
def prefect_server():
    """A Prefect server for the tests of one file. It ends with them: its threads would draw random numbers in other tests."""
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415 - seconds, and only for these tests

    with prefect_test_harness(server_startup_timeout=150):
        yield


def pytest_collection_finish():
    """Thousands of tests are kept in memory: looking through them for cycles at every turn takes a twentieth of the time."""
    gc.set_threshold(50_000, 20, 100)
