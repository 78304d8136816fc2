"""Delivers one message to a webhook over HTTPS: to public addresses that were resolved once, following no redirect.

The address is a secret: no message, log line or exception of this module holds any part of it.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

import msgspec

from shared.errors import Permanent, Transient
from shared.notify.formats import FORMATS, Post, format_of
from shared.parsing import requested_wait
from shared.redaction import printable, remember_secret
from shared.settings import is_loopback

LONGEST_URL = 2048
AGENT = "tailpipe-exports"
# A NAT64 address holds the IPv4 address to which packets go: RFC 6052.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# All that IANA assigns of IPv6 to public hosts. Outside lie forms that hold a private IPv4 address (RFC 4291, 8215).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Not public either, though some versions of Python call them global: IETF protocol assignments, where one cloud keeps
# its metadata service; the agent on each host of Azure; 6to4, which holds an IPv4 address; documentation.
_REFUSED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "168.63.129.16/32", "2002::/16", "3fff::/20")))
_OTHER_NAME = frozenset({62, 64})  # OpenSSL: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
# A short path of plain words is no secret: masked, it would take "exports" out of every message of the run.
_WORDS = re.compile(r"[a-z/_-]{0,15}")
REMEDY = "Put the webhook's https:// address into the secret of NOTIFY_URL, or a JSON object with url, key and format."
AGAIN = "The next run sends it again. Check whether the receiver works."
TLS_REMEDY = "The next run sends it again. Renew the receiver's certificate; it has to be of a public authority."

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Destination(msgspec.Struct, frozen=True):
    """Where messages go: the URL, the key that signs them (may be empty), and one of FORMATS."""

    url: str
    key: str
    format: str

    def __repr__(self) -> str:
        return f"Destination({self.format})"


class Reply(msgspec.Struct, frozen=True):
    """A webhook's response: its status, and the wait that it requests before the next message, if any."""

    status: int
    wait: timedelta | None = None


class Sender(Protocol):
    """Sends one message and returns the reply. Raises Permanent, Transient."""

    def __call__(self, url: str, post: Post, timeout_s: float, *, local: bool) -> Reply: ...


def destination_of(secret: str) -> Destination:
    """Return the destination in a secret: a URL alone, or a JSON object with `url`, and optionally `key` and `format`.

    From here on, its parts are masked wherever they would appear. Raises Permanent, which does not quote the secret.
    """
    secret = secret.strip().removeprefix("\ufeff").strip()  # editors of Windows begin a file with this mark
    remember_secret(secret)
    found: object = {"url": secret}
    if secret.startswith("{"):
        try:
            found = json.loads(secret)
        except (ValueError, RecursionError):
            raise Permanent("notify-secret", "the secret begins with { and is not valid JSON", REMEDY) from None
    values = {name: found.get(name, "") for name in ("url", "key", "format")} if isinstance(found, dict) else {}
    if not values or not all(isinstance(one, str) for one in values.values()):
        raise Permanent("notify-secret", "url, key and format of the secret have to be texts", REMEDY)
    url, key, chosen = (values[name].strip() for name in ("url", "key", "format"))
    if not url:
        raise Permanent("notify-secret", "the secret is empty, or its object has no url", REMEDY)
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
        or re.search(r"[\s\\]", url)
    ):
        raise Permanent("notify-address", "the secret contains no valid URL", REMEDY)
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
) -> Reply:
    """Post one message and return the reply once its headers have arrived; its body is not read.

    `local` permits loopback addresses, where the deployment's endpoints are overridden by loopback addresses too; every
    other address has to be a public one. The host's addresses are tried in order until one accepts the connection.
    `timeout_s` bounds everything, the resolution of the name included. Raises Permanent for an address that may not be
    called, and Transient if no response arrived.
    """
    parts = _parts(url)
    if parts.scheme != "https" and not local:
        raise Permanent("notify-address", "the webhook's address does not begin with https://", REMEDY)
    host, end = str(parts.hostname), time.monotonic() + timeout_s
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = _resolved(resolve or _resolve, host, port, end)
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
    secure = (context or ssl.create_default_context()) if parts.scheme == "https" else None
    connection = _Pinned(host, port, addresses, end, secure)
    try:
        target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        connection.request("POST", target, body=post.body, headers={**post.headers, "user-agent": AGENT})
        with connection.getresponse() as answer:
            return Reply(answer.status, requested_wait(dict(answer.headers)))
    # None is chained: their texts may quote the host, or what was sent.
    except ssl.SSLError as error:
        raise Transient("notify-tls", f"no secure connection to the webhook: {_why(error)}", TLS_REMEDY) from None
    except (OSError, http.client.HTTPException) as error:
        reason = f"the webhook did not answer ({type(error).__name__})"
        raise Transient("notify-unreachable", reason, AGAIN) from None
    finally:
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to one of the checked addresses; the name is not resolved again."""

    def __init__(
        self, host: str, port: int, addresses: Sequence[str], end: float, secure: ssl.SSLContext | None
    ) -> None:
        super().__init__(host, port)
        self._addresses = addresses
        self._end = end
        self._secure = secure

    def connect(self) -> None:
        """Connect to the first address that accepts, each within its share of the time. Raises OSError.

        The certificate is verified for the host's name.
        """
        for place, address in enumerate(self._addresses, 1):
            share = _left(self._end) / (len(self._addresses) - place + 1)
            try:
                self.sock = socket.create_connection((address, self.port), share)
                break
            except OSError:
                if place == len(self._addresses):
                    raise
        if self._secure is not None:
            self.sock.settimeout(_left(self._end))
            self.sock = self._secure.wrap_socket(self.sock, server_hostname=self.host)
        self.sock.settimeout(_left(self._end))

    def response_class(self, sock: socket.socket, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]  # the base class calls it as it calls a class
        """Return the response, which cannot be read beyond the end of the exchange."""
        answer = http.client.HTTPResponse(sock, **options)
        answer.fp = io.BufferedReader(_Timed(answer.fp, sock, self._end))
        return answer


class _Timed(io.RawIOBase):
    """Reads from a socket until a fixed end: a time limit for each read would not stop a sender of single bytes."""

    def __init__(self, inner: io.BufferedReader, sock: socket.socket, end: float) -> None:
        self._inner = inner
        self._sock = sock
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read available data into the buffer and return its size. Raises OSError."""
        self._sock.settimeout(_left(self._end))
        return self._inner.readinto1(buffer)

    def close(self) -> None:
        self._inner.close()
        super().close()


def _left(end: float) -> float:
    """Return the seconds until `end`. Raises TimeoutError where there are none."""
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _resolved(resolve: Callable[[str, int], list[str]], host: str, port: int, end: float) -> list[str]:
    """Return the addresses of a host, at least one. Raises OSError.

    The system's resolver takes no time limit, so it runs in a thread of its own, which is abandoned at the end.
    """
    found: Future[list[str]] = Future()

    def work() -> None:
        try:
            found.set_result(resolve(host, port))
        except Exception as error:  # noqa: BLE001 - it is raised where the result is taken
            found.set_exception(error)

    threading.Thread(target=work, name="resolve-webhook", daemon=True).start()
    addresses = found.result(_left(end))
    if not addresses:
        raise OSError
    return addresses


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _may_be_called(text: str, *, local: bool) -> bool:
    try:
        address = _inner(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if local and address.is_loopback:
        return True
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _REFUSED)


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _why(error: ssl.SSLError) -> str:
    """Return why a TLS connection failed, in OpenSSL's constant words: its full text may quote the host."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return str(error.reason or type(error).__name__)
    return "the certificate is for another name" if error.verify_code in _OTHER_NAME else error.verify_message
