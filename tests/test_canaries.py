"""A planted secret is found in each kind of place, the test or the session fails, and no report shows the secret."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.azure.cloud import KEY
from localcloud.azure.iam.caller import token_for
from localcloud.azure.platform.sites import Site
from localcloud.azure.services.blobs import account_signature
from localcloud.gcp.iam.policies import ISSUED
from tests import canaries
from tests.limits import HANG_S

PLANTING = """
import logging, subprocess, sys, tempfile, urllib.request
from pathlib import Path

import pytest

from localcloud.common.http_server import LoopbackServer, Response
from tests.canaries import EXTERNAL_ID, SAS, SIGNING_KEY, TOKEN, WEBHOOK_PATH
from tests.shared.notify.receiver import receiving


def send(url, method, body):
    with urllib.request.urlopen(urllib.request.Request(url, data=body.encode(), method=method)) as answer:
        answer.read()


def test_log():
    logging.getLogger("a").warning("assuming the role with %s", EXTERNAL_ID)


def test_output():
    print("signed with", SIGNING_KEY)


def test_exception():
    raise ValueError(f"Authorization: Bearer {TOKEN}")


@pytest.mark.parametrize("name", ["state.json", "runs/report.json", "page.html"])
def test_stored(name):
    server = LoopbackServer(lambda request: Response())
    server.start()
    try:
        send(f"{server.endpoint}/bucket/{name}", "PUT", f"https://a.blob.core.windows.net/c?sig={SAS}")
        send(f"{server.endpoint}/bucket/a.tfstate", "PUT", EXTERNAL_ID)
    finally:
        server.stop()


def test_message():
    with receiving() as receiver:
        send(receiver.url, "POST", f"sent to {WEBHOOK_PATH}")


def test_files(tmp_path):
    (tmp_path / "debug.txt").write_text(SAS)
    (tmp_path / "terraform.tfstate").write_text(EXTERNAL_ID)


def test_killed():
    code = (
        "import os, signal, sys, tempfile\\n"
        "with tempfile.NamedTemporaryFile('w', prefix='left-', delete=False) as left: left.write(sys.stdin.read())\\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], input=TOKEN, text=True).returncode == -9


def test_no_secret():
    print("nothing")


@pytest.mark.shows_secret("to be copied")
def test_shown():
    print(EXTERNAL_ID)
"""


@pytest.mark.parametrize("workers", ["0", "1"], ids=["one process", "a worker"])
def test_planted_secrets_are_found(tmp_path: Path, workers: str) -> None:
    """Each test that leaks fails with the place and the kind of secret, and the session for the files that are left."""
    tests = tmp_path / "test_planted.py"
    tests.write_text(PLANTING)
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "tests.canaries", "-p", "no:randomly", "-p", "no:cacheprovider",
            "-c", os.devnull, f"--rootdir={tmp_path}", f"--basetemp={tmp_path / 'base'}", "-n", workers, "-ra",
            str(tests),
        ],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=HANG_S,
        check=False,
    )  # fmt: skip
    shutil.rmtree(tmp_path / "base")  # or this session would find them as well
    shown = done.stdout + done.stderr
    assert done.returncode == 1, shown
    for leak in (
        "log call: External ID",
        "stdout call: webhook signing key",
        "exception: token",
        "stored /bucket/state.json: shared access signature",
        "stored /bucket/runs/report.json: shared access signature",
        "stored /bucket/page.html: shared access signature",
        "message: webhook address",
        "/debug.txt: shared access signature",
        "file left-",
    ):
        assert leak in shown, leak + "\n" + shown
    failed = [line.split("::")[1].split(" ")[0] for line in shown.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert sorted(failed) == [
        "test_exception", "test_log", "test_message", "test_output",
        "test_stored[page.html]", "test_stored[runs/report.json]", "test_stored[state.json]",
    ]  # fmt: skip
    assert "tfstate" not in shown
    assert canaries.found(shown) == []


def test_each_secret_is_of_one_kind() -> None:
    """Every secret of the tests is recognized, whole and in a longer text."""
    secrets = (canaries.EXTERNAL_ID, canaries.WEBHOOK_PATH, canaries.SIGNING_KEY, canaries.SAS, canaries.TOKEN)
    kinds = [canaries.found(f"a text with {secret} in it") for secret in secrets]
    assert kinds == [[kind] for kind in list(canaries.KINDS)[:5]]
    assert canaries.found("a text without") == []


def test_what_the_local_clouds_issue_is_recognized() -> None:
    """Tokens, keys and signatures that any test may meet are found, each as one kind."""
    issued = {
        "Azure access token": token_for("tenant", "principal", "https://management.azure.com"),
        "storage key": KEY,
        "storage signature": account_signature("account", KEY),
        "function key": Site("app", "subscription", "group", "region", "principal", {}).key,
        "Google access token": f"{ISSUED}function@example.com",
    }
    assert {kind: canaries.found(f"a text with {secret} in it") for kind, secret in issued.items()} == {
        kind: [kind] for kind in issued
    }
