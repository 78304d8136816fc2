"""The script by which the Google Cloud module checks its issuer, run with a stand-in for curl."""

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
# Keeps its arguments, and answers what the test says.
CURL = """\
#!/bin/sh
printf '%s\\n' "$@" >"$0.arguments"
cat "$0.answer"
exit "$(cat "$0.code")"
"""


def looked_at(
    folder: Path,
    body: str,
    status: int = 200,
    address: str = PUBLIC,
    issuer: str = ISSUER,
    code: int = 0,
    proxy: str = "",
) -> tuple[int, str, list[str]]:
    """Run the script; return its exit code, what it says, and what curl was called with."""
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
def test_an_issuer_that_names_itself_is_accepted(tmp_path: Path, issuer: str, indent: int | None) -> None:
    """The document is read by https alone, at the standard's place, and no redirect is followed."""
    document = json.dumps({"jwks_uri": "x", "issuer": issuer, "claims": ["iss"]}, indent=indent)
    code, said, arguments = looked_at(tmp_path, document, issuer=issuer)
    assert (code, said) == (0, "")
    assert arguments[-1] == issuer.removesuffix("/") + "/.well-known/openid-configuration"
    assert arguments[arguments.index("--proto") + 1] == "=https"
    assert not {"-L", "--location", "--location-trusted", "-k", "--insecure"} & set(arguments)


def test_slashes_may_be_escaped(tmp_path: Path) -> None:
    """JSON allows escaped slashes, and some servers write them."""
    assert looked_at(tmp_path, json.dumps({"issuer": ISSUER}).replace("/", "\\/"))[0] == 0


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ('{"issuer": "https://somebody.example.com"}', 200, "'https://somebody.example.com'"),
        (f'{{"issuer": "{ISSUER}/"}}', 200, f"'{ISSUER}/', not '{ISSUER}'"),
        ("{}", 200, "'nothing'"),
        ("", 200, "'nothing'"),
        ("<html>sign in</html>", 200, "'nothing'"),
        ('{"issuer": "\x1b[2Jhttps://x.example.com"}', 200, "'[2Jhttps://x.example.com'"),
        (f'{{"issuer": "{ISSUER}"}}', 302, "302 instead of 200"),
        (f'{{"issuer": "{ISSUER}"}}', 404, "404 instead of 200"),
    ],
)
def test_an_issuer_that_answers_something_else_ends_the_apply(
    tmp_path: Path, body: str, status: int, words: str
) -> None:
    """The message has the answer, what was expected, and what to compare."""
    code, said, _ = looked_at(tmp_path, body, status)
    assert (code, words in said) == (1, True), said
    assert "Compare tailpipe_issuer with Tailpipe's onboarding page" in said


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.1", "192.168.0.1", "100.64.0.1"),
        *("100.127.0.1", "0.0.0.0", "::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"),  # noqa: S104 - an address that is refused
    ],
)
def test_a_private_address_is_refused(tmp_path: Path, address: str) -> None:
    """The owner of a name cannot direct the check to the machine's own network; a proxy hides the address."""
    document = json.dumps({"issuer": ISSUER})
    code, said, _ = looked_at(tmp_path, document, address=address)
    assert (code, address in said) == (1, True)
    assert looked_at(tmp_path, document, address=address, proxy="http://proxy.example.com:3128")[0] == 0


@pytest.mark.parametrize(
    "address", [PUBLIC, "172.32.0.1", "100.63.0.1", "100.128.0.1", "8.8.8.8", "2001:4860:4860::8888"]
)
def test_a_public_address_is_fine(tmp_path: Path, address: str) -> None:
    """Only private addresses are refused, not those next to their ranges."""
    assert looked_at(tmp_path, json.dumps({"issuer": ISSUER}), address=address)[0] == 0


def test_an_unreachable_issuer_is_reported(tmp_path: Path) -> None:
    """Where curl fails, its message is shown above ours."""
    code, said, _ = looked_at(tmp_path, "", code=6)
    assert (code, "could not be read" in said) == (1, True)
