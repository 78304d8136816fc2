"""The script of the GCP module that verifies the token issuer, run with a fake curl."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.infra.planning import REPOSITORY
from tests.limits import HANG_S

SCRIPT = REPOSITORY / "infra" / "gcp" / "check-issuer.sh"
ISSUER = "https://issuer.example.com/realms/one"
PUBLIC = "203.0.113.7"
# Records its arguments and prints the response that the test has prepared.
CURL = """\
#!/bin/sh
printf '%s\\n' "$@" >"$0.arguments"
cat "$0.answer"
exit "$(cat "$0.code")"
"""


def run_script(
    folder: Path,
    body: str,
    status: int = 200,
    address: str = PUBLIC,
    issuer: str = ISSUER,
    code: int = 0,
    proxy: str = "",
) -> tuple[int, str, list[str]]:
    """Run the script, and return its exit code, its standard error and the arguments of curl."""
    curl = folder / "curl"
    curl.write_text(CURL, encoding="utf-8")
    curl.chmod(0o755)
    (folder / "curl.answer").write_text(f"{body}\n{status} {address}", encoding="utf-8")
    (folder / "curl.code").write_text(str(code), encoding="utf-8")
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "ISSUER": issuer, "https_proxy": proxy}
    done = subprocess.run(
        ["sh", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    return done.returncode, done.stderr, (folder / "curl.arguments").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("issuer", [ISSUER, "https://issuer.example.com", "https://issuer.example.com/"])
@pytest.mark.parametrize("indent", [None, 2])
def test_matching_issuer_is_accepted(tmp_path: Path, issuer: str, indent: int | None) -> None:
    """The discovery document is read from its standard path, over HTTPS only, and redirects are not followed."""
    document = json.dumps({"jwks_uri": "x", "issuer": issuer, "claims": ["iss"]}, indent=indent)
    code, stderr, arguments = run_script(tmp_path, document, issuer=issuer)
    assert (code, stderr) == (0, "")
    assert arguments[-1] == issuer.removesuffix("/") + "/.well-known/openid-configuration"
    assert arguments[arguments.index("--proto") + 1] == "=https"
    assert not {"-L", "--location", "--location-trusted", "-k", "--insecure"} & set(arguments)


def test_escaped_slashes_are_accepted(tmp_path: Path) -> None:
    """JSON allows escaped slashes, and some servers write them."""
    assert run_script(tmp_path, json.dumps({"issuer": ISSUER}).replace("/", "\\/"))[0] == 0


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ('{"issuer": "https://other.example.com"}', 200, "'https://other.example.com'"),
        (f'{{"issuer": "{ISSUER}/"}}', 200, f"'{ISSUER}/', not '{ISSUER}'"),
        ("{}", 200, "'nothing'"),
        ("", 200, "'nothing'"),
        ("<html>sign in</html>", 200, "'nothing'"),
        ('{"issuer": "\x1b[2Jhttps://x.example.com"}', 200, "'[2Jhttps://x.example.com'"),
        (f'{{"issuer": "{ISSUER}"}}', 302, "302 instead of 200"),
        (f'{{"issuer": "{ISSUER}"}}', 404, "404 instead of 200"),
    ],
)
def test_mismatched_response_fails_the_apply(tmp_path: Path, body: str, status: int, words: str) -> None:
    """The message has the response, the expected value, and what to compare."""
    code, stderr, _ = run_script(tmp_path, body, status)
    assert (code, words in stderr) == (1, True), stderr
    assert "Compare tailpipe_issuer with Tailpipe's onboarding page" in stderr


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.1", "192.168.0.1", "100.64.0.1"),
        *("100.127.0.1", "0.0.0.0", "::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"),  # noqa: S104 - an address that is refused
    ],
)
def test_private_address_is_refused(tmp_path: Path, address: str) -> None:
    """A DNS record cannot direct the check into a private network; behind a proxy, the address is unknown."""
    document = json.dumps({"issuer": ISSUER})
    code, stderr, _ = run_script(tmp_path, document, address=address)
    assert (code, address in stderr) == (1, True)
    assert run_script(tmp_path, document, address=address, proxy="http://proxy.example.com:3128")[0] == 0


@pytest.mark.parametrize(
    "address", [PUBLIC, "172.32.0.1", "100.63.0.1", "100.128.0.1", "8.8.8.8", "2001:4860:4860::8888"]
)
def test_public_address_is_accepted(tmp_path: Path, address: str) -> None:
    """Addresses next to the private ranges are not refused."""
    assert run_script(tmp_path, json.dumps({"issuer": ISSUER}), address=address)[0] == 0


def test_unreachable_issuer_is_reported(tmp_path: Path) -> None:
    """If curl fails, the script says that the document could not be read."""
    code, stderr, _ = run_script(tmp_path, "", code=6)
    assert (code, "could not be read" in stderr) == (1, True)
