"""Local clouds and demonstrations as processes: start and end."""

from __future__ import annotations

import io
import shlex
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from localcloud.common.foreground import announced
from tests.cli.support.processes import AWS_CLI, TAILPIPE, call, environment, local_cloud
from tests.limits import HANG_S

pytestmark = pytest.mark.long

# The variable with a local cloud's address, and the options for a small one.
CLOUDS = {
    "aws": ("AWS_ENDPOINT_URL", ["--accounts", "2"]),
    "azure": ("ARM_ENDPOINT", ["--subscriptions", "1"]),
    "gcp": ("GOOGLE_API_ENDPOINT", ["--accounts", "2"]),
}

# Exit code and message of a demonstration for each signal.
INTERRUPTED = {
    signal.SIGINT: (130, "interrupted\n"),
    signal.SIGTERM: (143, ""),
    signal.SIGHUP: (129, ""),
}
# Each signal and each cloud once; the other pairs use the same code.
FAST = {("aws", signal.SIGINT), ("azure", signal.SIGTERM), ("gcp", signal.SIGHUP)}
EVERY_END = [
    pytest.param(cloud, number, marks=() if (cloud, number) in FAST else pytest.mark.slow)
    for cloud in CLOUDS
    for number in INTERRUPTED
]


@pytest.mark.parametrize(("cloud", "number"), EVERY_END)
def test_local_cloud_ends_cleanly_on_a_signal(cloud: str, number: signal.Signals) -> None:
    """It prints its variables before `ready`; Ctrl-C, `kill` and a closed terminal end it with 0 and no traceback."""
    variable, small = CLOUDS[cloud]
    with local_cloud(cloud, *small) as running:
        assert running.last_line == "ready"
        assert running.variables[variable].startswith("http://127.0.0.1:")
        assert running.end(number) == 0
        assert running.process.stderr is not None
        assert running.process.stderr.read() == ""


def test_local_cloud_under_nohup_outlives_its_terminal() -> None:
    """It ignores the closed terminal, and `kill` ends it."""
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
def test_port_in_use_is_reported(cloud: str) -> None:
    """The exit code is 1 with one message."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = call([TAILPIPE, "local", cloud, "--port", str(port)], {})
    assert answer.returncode == 1
    assert answer.stderr == f"Error: port {port} is in use; choose another, or omit --port for a free one\n"
    assert answer.stdout == ""


WRONG = {
    "an unknown region": (["aws", "--region", "nowhere-9"], "region 'nowhere-9' is not in partition aws"),
    "a region elsewhere": (["aws", "--partition", "aws-cn", "--region", "us-east-1"], "is not in partition aws-cn"),
    "an unknown partition": (["aws", "--partition", "aws-moon"], "partition 'aws-moon' is not one of aws, "),
    "too few accounts": (["aws", "--accounts", "1", "--kind", "member"], "1 accounts are not enough"),
    "an unknown offer": (["azure", "--agreements", "ea,nothing"], "agreements nothing are not among"),
    "an unknown location": (["gcp", "--location", "nowhere"], "location 'nowhere' is not one of US, EU"),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_option_is_reported_in_one_sentence(name: str) -> None:
    """It is refused immediately, with the value and what is valid."""
    arguments, said = WRONG[name]
    answer = CliRunner().invoke(main, ["local", *arguments])
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 4  # usage, reference to the help, and the error
    assert answer.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_variables_are_written_to_a_file(cloud: str, tmp_path: Path) -> None:
    """The file is complete and private before `ready`, has the output of stdout, and is removed at the end."""
    variable, small = CLOUDS[cloud]
    file = tmp_path / "local.env"
    with local_cloud(cloud, *small, "--env-file", str(file)) as running:
        assert (running.last_line, running.variables) == ("ready", {})
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        shown = f"set -eu; source {shlex.quote(str(file))}; python3 -c \"import os; print(os.environ['{variable}'])\""
        answer = call(["bash", "-c", shown], {})
        assert answer.stdout.startswith("http://127.0.0.1:"), answer.stderr
        assert running.end(signal.SIGTERM) == 0
    assert list(tmp_path.iterdir()) == []


def test_file_of_a_killed_local_cloud_is_replaced(tmp_path: Path) -> None:
    """An empty file is replaced too."""
    file = tmp_path / "local.env"
    file.touch()
    with local_cloud("aws", "--accounts", "2", "--env-file", str(file)) as running:
        running.end(signal.SIGKILL)
    left = file.read_text()
    with local_cloud("aws", "--accounts", "2", "--env-file", str(file)) as running:
        assert file.read_text() != left
        assert running.end(signal.SIGINT) == 0
    assert not file.exists()


def test_file_with_other_content_is_kept(tmp_path: Path) -> None:
    """A file that is changed meanwhile is not removed."""
    file = tmp_path / "local.env"
    file.write_text("export MINE=1\n")
    answer = call([TAILPIPE, "local", "aws", "--env-file", str(file)], {})
    assert (answer.returncode, answer.stdout) == (1, "")
    assert f"{file} exists and was not written by a local cloud" in answer.stderr
    assert file.read_text() == "export MINE=1\n"
    file.unlink()
    with local_cloud("aws", "--accounts", "2", "--env-file", str(file)) as running:
        file.write_text("export MINE=1\n")
        assert running.end(signal.SIGTERM) == 0
    assert file.read_text() == "export MINE=1\n"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_file_that_cannot_be_written_is_reported_in_one_sentence(cloud: str, tmp_path: Path) -> None:
    """A missing folder, or a folder with the file's name, is reported before serving."""
    missing = tmp_path / "no" / "local.env"
    answer = CliRunner().invoke(main, ["local", cloud, "--env-file", str(missing)])
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == f"Error: {missing.parent}: no such folder\n"
    answer = CliRunner().invoke(main, ["local", cloud, "--env-file", str(tmp_path)])
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert f"Error: {tmp_path} exists and was not written by a local cloud" in answer.stderr


def test_failed_replacement_of_the_file_leaves_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No partial file stays."""

    def refused(_path: Path, _target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(PermissionError), announced({"SECRET": "1"}, io.StringIO(), tmp_path / "local.env"):
        pytest.fail("it was announced")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("cloud", "number"), EVERY_END)
def test_interrupted_demonstration_exits_with_the_shells_code(cloud: str, number: signal.Signals) -> None:
    """It ends its function and its local cloud, without a traceback."""
    code, said = INTERRUPTED[number]
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
