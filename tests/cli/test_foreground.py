"""Local clouds and demonstrations as processes: how they begin, and how they end."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.cli.processes import AWS_CLI, TAILPIPE, call, environment, local_cloud
from tests.limits import HANG_S

# The variable that tells where a local cloud is, and what makes one small.
CLOUDS = {
    "aws": ("AWS_ENDPOINT_URL", ["--accounts", "2"]),
    "azure": ("ARM_ENDPOINT", ["--subscriptions", "1"]),
    "gcp": ("GOOGLE_API_ENDPOINT", ["--accounts", "2"]),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_local_cloud_ends_cleanly(cloud: str, number: signal.Signals) -> None:
    """It is ready after its variables; Ctrl-C, `kill` and a closed terminal end it with 0 and without a trace."""
    variable, small = CLOUDS[cloud]
    with local_cloud(cloud, *small) as running:
        assert running.last_line == "ready"
        assert running.variables[variable].startswith("http://127.0.0.1:")
        assert running.end(number) == 0
        assert running.process.stderr is not None
        assert running.process.stderr.read() == ""


def test_a_local_cloud_under_nohup_outlives_its_terminal() -> None:
    """Where a closed terminal is to be ignored, it goes on answering, and `kill` ends it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with local_cloud("aws", "--accounts", "2") as running:
            running.process.send_signal(signal.SIGHUP)
            answer = call([AWS_CLI, "sts", "get-caller-identity"], running.variables)
            assert answer.returncode == 0, answer.stderr
            assert running.end(signal.SIGTERM) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_port_that_is_taken_is_said(cloud: str) -> None:
    """A second local cloud on the same port ends with 1 and one clear message."""
    variable, small = CLOUDS[cloud]
    with local_cloud(cloud, *small) as running:
        port = running.variables[variable].rpartition(":")[2]
        answer = call([TAILPIPE, "local", cloud, "--port", port], {})
    assert answer.returncode == 1
    assert port in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, "")],
)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_demonstration_ends_with_the_shells_usual_code(
    cloud: str, number: signal.Signals, code: int, said: str
) -> None:
    """A demonstration that is interrupted takes its function and its local cloud down with it, without a trace."""
    process = subprocess.Popen(
        [TAILPIPE, "demo", cloud, "--scopes", "100"],
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any("First run" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(HANG_S) == code
        assert process.stderr.read() == said
    assert "expectations met" not in rest
