"""Delivers one message to a webhook over HTTPS, to a public address that was resolved once, following no redirect.

The address is a secret: no message, log line or exception of this module holds any part of it.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import msgspec

from shared.errors import Permanent, Transient
from shared.notify.formats import FORMATS, Post, format_of
from shared.redaction import printable, remember_secret
from shared.settings import is_loopback

LONGEST_URL = 2048
LONGEST_ANSWER = 64 * 1024  # bytes that are read of an answer; its content does not matter
AGENT = "tailpipe-exports"
# Networks whose addresses hold another address, which is where packets go: RFC 6052 and RFC 3056.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# A short path of plain words is no secret: masked, it would take "exports" out of every message of the run.
_WORDS = re.compile(r"[a-z/_-]{0,15}")
REMEDY = "Put the webhook's https:// address into the secret of NOTIFY_URL, or a JSON object with url, key and format."
AGAIN = "The next run sends it again. See whether the receiver works."

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Destination(msgspec.Struct, frozen=True):
    """Where messages go: the address, the key that signs them (may be empty), and one of FORMATS."""

    url: str
    key: str
    format: str

    def __repr__(self) -> str:
        return f"Destination({self.format})"


class Sender(Protocol):
    """Sends one message and returns the status of the answer. Raises Permanent, Transient."""

    def __call__(self, url: str, post: Post, timeout_s: float, *, local: bool) -> int: ...


def destination_of(secret: str) -> Destination:
    """Return what a secret says: an address alone, or a JSON object with `url`, and perhaps `key` and `format`.

    What it holds is masked from here on wherever it would appear. Raises Permanent without quoting it.
    """
    remember_secret(secret.strip())
    found: object = {"url": secret.strip()}
    if secret.lstrip().startswith("{"):
        try:
            found = json.loads(secret)
        except (ValueError, RecursionError):
            raise Permanent("notify-secret", "the secret begins with { and is not valid JSON", REMEDY) from None
    values = {name: found.get(name, "") for name in ("url", "key", "format")} if isinstance(found, dict) else {}
    if not values or not all(isinstance(one, str) for one in values.values()):
        raise Permanent("notify-secret", "url, key and format of the secret have to be texts", REMEDY)
    url, key, chosen = (values[name].strip() for name in ("url", "key", "format"))
    parts = _parts(url)
    pieces = (parts.path, parts.path.rpartition("/")[2], parts.query)
    remember_secret(url, key, key.removeprefix("whsec_"), *(one for one in pieces if not _WORDS.fullmatch(one)))
    if key != key.encode("utf-8", "replace").decode():  # JSON may spell a lone surrogate, which cannot sign anything
        raise Permanent("notify-secret", "the secret's key holds characters that are not valid Unicode", REMEDY)
    chosen = chosen or format_of(parts.hostname or "")
    if chosen not in FORMATS:
        raise Permanent("notify-secret", f"the secret's format is not one of {', '.join(FORMATS)}", REMEDY)
    return Destination(url, key, chosen)


def _parts(url: str) -> SplitResult:
    """Return the parts of an address that may be called at all. Raises Permanent."""
    parts = None
    try:
        parts = urlsplit(url)
        # Resolving a name whose labels are empty or too long raises no OSError.
        sound = bool((parts.hostname or "").encode("idna")) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if (
        parts is None
        or not sound
        or len(url) > LONGEST_URL
        or not url.isascii()
        or printable(url) != url
        or " " in url
        or "\\" in url
    ):
        raise Permanent("notify-address", "the secret holds no address of a webhook", REMEDY)
    if parts.username is not None or parts.password is not None:
        raise Permanent("notify-address", "the webhook's address holds a user name or password", REMEDY)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(url)):
        raise Permanent("notify-address", "the webhook's address does not begin with https://", REMEDY)
    return parts


def send(
    url: str,
    post: Post,
    timeout_s: float,
    *,
    local: bool = False,
    resolve: Callable[[str, int], list[str]] | None = None,
    context: ssl.SSLContext | None = None,
) -> int:
    """Post one message and return the status of the answer.

    `local` permits loopback addresses, where the deployment's endpoints are overridden by loopback addresses too; every
    other address has to be a public one. `timeout_s` bounds the whole exchange after the name was resolved. Raises
    Permanent for an address that may not be called, Transient where no answer came.
    """
    parts = _parts(url)
    if parts.scheme != "https" and not local:
        raise Permanent("notify-address", "the webhook's address does not begin with https://", REMEDY)
    host, end = str(parts.hostname), time.monotonic() + timeout_s
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = (resolve or _resolve)(host, port)
    except OSError as error:
        reason = f"the webhook's host was not found ({type(error).__name__})"
        raise Transient("notify-unreachable", reason, AGAIN) from None
    for one in addresses:
        if not _may_be_called(one, local=local):
            raise Permanent(
                "notify-address",
                "the webhook's host has an address that is not public (loopback, private, link-local or reserved)",
                "Use a receiver with a public address; one inside your network needs a public gateway in front of it.",
            )
    connection = _Pinned(host, port, addresses[0], end, context if parts.scheme == "https" else None)
    if parts.scheme == "https" and context is None:
        connection.secure = ssl.create_default_context()
    try:
        target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        connection.request("POST", target, body=post.body, headers={**post.headers, "user-agent": AGENT})
        answer = connection.getresponse()
        _drain(answer, connection, end)
        return answer.status
    except (OSError, http.client.HTTPException) as error:
        # Not chained: its text may quote what was sent.
        reason = f"the webhook did not answer ({type(error).__name__})"
        raise Transient("notify-unreachable", reason, AGAIN) from None
    finally:
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, whatever the name would resolve to by now."""

    def __init__(self, host: str, port: int, address: str, end: float, secure: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self._address = address
        self._end = end
        self.secure = secure

    def connect(self) -> None:
        """Connect to the pinned address; the certificate is the name's."""
        self.sock = socket.create_connection((self._address, self.port), left(self._end))
        if self.secure is not None:
            self.sock.settimeout(left(self._end))
            self.sock = self.secure.wrap_socket(self.sock, server_hostname=self.host)
        self.sock.settimeout(left(self._end))


def left(end: float) -> float:
    """Return the seconds until `end`. Raises TimeoutError where there are none."""
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _drain(answer: http.client.HTTPResponse, connection: http.client.HTTPConnection, end: float) -> None:
    """Read a little of the answer, which may come byte by byte or never end: its status has been read."""
    size = 0
    while size < LONGEST_ANSWER:
        if connection.sock is not None:
            connection.sock.settimeout(left(end))
        piece = answer.read1(8192)
        if not piece:
            return
        size += len(piece)


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _may_be_called(text: str, *, local: bool) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    inner = _inner(address)
    if local and inner.is_loopback:
        return True
    return inner.is_global and not inner.is_multicast and not (inner != address and not inner.is_global)


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)
