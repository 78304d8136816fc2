"""Checks whether the discovery document of the trusted issuer names that issuer."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from urllib.parse import urlsplit

import requests
from requests.exceptions import RequestException
from requests.utils import get_environ_proxies

from cli.deployment.gcp.rest import Google
from cli.deployment.model import Finding
from cli.terminal.console import clean
from shared.settings import is_loopback

DOCUMENT = "/.well-known/openid-configuration"
LARGEST = 1_000_000  # bytes
TIMEOUT_S = 10.0
COMPARE = "Compare tailpipe_issuer with Tailpipe's onboarding page, character by character."
_FORM = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")


def issuer_finding(google: Google, issuer: str) -> Finding:
    """Return whether an issuer's document names it. Follows no redirect, and calls no private address.

    In a local cloud the issuer may be at a loopback address, without TLS; nowhere else.
    """
    what = f"the trusted issuer {clean(issuer)[:200]}"
    refused = _refusal(google, issuer)
    if refused:
        return Finding(what, False, refused, COMPARE)
    url = issuer.removesuffix("/") + DOCUMENT
    try:
        status, body = _read(url)
    except RequestException as error:
        detail = f"{url} could not be read ({type(error).__name__})"
        return Finding(what, False, detail, f"{COMPARE} Google and this machine both have to reach it.")
    if status != 200:
        return Finding(what, False, f"{url} answers {status} instead of 200; redirects are not followed", COMPARE)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Finding(what, False, f"{url} is not a JSON document", COMPARE)
    named = document.get("issuer") if isinstance(document, dict) else None
    if named != issuer:
        return Finding(what, False, f"{url} says that the issuer is {clean(repr(named))[:200]}", COMPARE)
    return Finding(what, True, "its discovery document names it")


def _refusal(google: Google, issuer: str) -> str:
    """Return why an address cannot be an issuer's, empty if it may be called."""
    local = google.local and is_loopback(issuer)
    if not _FORM.fullmatch(issuer):
        return "it is not an https address without user, query and fragment"
    if not issuer.startswith("https://") and not local:
        return "it is not an https address"
    if local:
        return ""
    try:
        host, port = urlsplit(issuer).hostname or "", urlsplit(issuer).port or 443
    except ValueError:
        return "its port is not a number"
    proxies = get_environ_proxies(issuer)
    if proxies.get("https") or proxies.get("all"):
        # The proxy resolves the name; without it only a numeric address can be recognized.
        return "" if not _is_address(host) else "it is a numeric address, not a name"
    try:
        found = {str(one[4][0]).partition("%")[0] for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return f"the name {clean(host)[:100]} is not known"
    private = sorted(one for one in found if not ipaddress.ip_address(one).is_global)
    return f"its name leads to {private[0]}, which is not a public address" if private else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _read(url: str) -> tuple[int, bytes]:
    """Return status and body of one GET without credentials. Raises RequestException."""
    with requests.Session() as session:
        session.auth = _no_credentials  # otherwise the credentials of a .netrc would be sent
        with session.get(url, timeout=TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            body = bytearray()
            for part in answer.iter_content(64 * 1024):
                body += part
                if len(body) > LARGEST:
                    break
            return answer.status_code, bytes(body[:LARGEST])


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
