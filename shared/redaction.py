"""Removes secrets from text that comes from outside, before it is kept or shown.

Proxies and gateways quote whole requests in their error pages, with the headers that authorize them. Secrets are
recognized by their form, and the credentials in use by their value. This runs only on error paths.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, quote_plus

MASK = "…"
LONGEST = 16 * 1024  # characters that are searched; a message shows only a few hundred
SHORTEST_SECRET = 6  # characters; a shorter value would mask ordinary words
PREFIX = 16  # this many characters identify a long credential that a proxy has cut off
PIECE = 12  # characters; the shortest piece of a credential, folded or cut by a proxy, that is masked
KEPT = 64  # credentials in use: a few clients, each with tokens that are renewed hourly

_SEPARATOR = (
    r"\\*(?:[\"'`]|&quot;|%22)?(?:\s|&nbsp;)*(?:[:=]|%(?:25)?3[AaDd]|&#58;|&#61;|\s=>)[\[\s]*\\*(?:[\"'`]|&quot;|%22)?"
)
# Proxies' error pages also show headers in tables.
_CELL = r"(?:</\w{1,10}>\s*<\w[^<>]{0,80}>)"
_HEADERS = (
    "proxy-authorization|authorization|x-amz-security-token|x-aws-ec2-metadata-token|x-ms-copy-source-authorization|"
    "x-goog-iam-authorization-token|x-serverless-authorization|x-ms-authorization-auxiliary|x-identity-header|"
    "x-functions-key|ocp-apim-subscription-key|x-api-key|x-goog-api-key|set-cookie|cookie"
)
# Names that hold a secret in any notation. They are also ordinary words: they require an equals sign, or a value that
# looks like a secret.
_NAMES = (
    r"x-(?:amz|goog)-(?:signature|credential|security-token)|account_?key|shared_?access_?(?:signature|key)|"
    r"client[-_]?secret|client_?assertion|pass(?:word|wd)|pwd|(?:refresh|access|id|session|security|web_?identity|"
    r"subject)[-_]?token|saml_?assertion|(?:sts:)?external_?-?\s?id|api[-_]?key|private_?key(?:_id)?|"
    r"(?:aws_?)?secret_?access_?key|(?:aws)?access_?key_?id|signatureprovided|stringtosign|canonicalrequest|"
    r"arm_token|blob_key|identity_header"
)
_WORDS = r"sig|signature|token|code|secret|credential|assertion|key|sas|jwt|mac|auth|bearer|passphrase"
_ENDINGS = r"token|secret|signature|credential|assertion|passphrase|(?<![a-z])(?:sig|sas|jwt|mac|auth|bearer)"
_SCHEMES = r"bearer|basic|negotiate|ntlm|kerberos|digest|sharedkeylite|sharedkey|aws4-[a-z0-9-]+"
_VALUE = r"[^\s\"'<>,;]"
_SHAPED = r"(?=[\w+/.~%-]*\d)(?=[\w+/.~%-]*[a-z])[\w+/.~%-]{16,}=*"
_PEM = r"-----BEGIN [A-Z0-9 ]{3,40}-----.*?(?:-----END [A-Z0-9 ]{3,40}-----|\Z)"
_FORMS = re.compile(
    "|".join(
        (
            rf"(?P<pem>{_PEM})",
            # A header's value ends with its line, its quotes or its element.
            rf"(?P<header>(?<![a-z0-9])(?:{_HEADERS.replace('-', '[-_]')})(?:{_SEPARATOR}|{_CELL}))[^\r\n\"'<]*",
            rf"(?P<scheme>\b(?:{_SCHEMES})(?:\s+|%20|\+))(?:{_VALUE}{{20,}}|(?={_VALUE}*(?:[0-9=+/_-]|\.\w)){_VALUE}{{6,}})",
            rf"(?P<name>(?:{_NAMES})(?:{_SEPARATOR}|{_CELL}|\\*[\"']?>))(?:{_PEM}|[^\s\"'`&<>,;\])}}]+)",
            rf"(?P<word>(?<![a-z0-9])(?:{_WORDS})(?:=|%(?:25)?3D))[^\s\"'`&<>,;\])}}]+",
            rf"(?P<shaped>(?:{_ENDINGS})(?:{_SEPARATOR}|{_CELL}|\\*[\"']?>)){_SHAPED}",
            r"(?P<mac>signature found in the http request )'[^']*'",
            r"(?P<encoded>encoded authorization failure message: )\S+",
            r"(?P<user>\b[a-z][a-z0-9+.-]{1,20}://)[^\s/@\"'<>]{1,512}(?=@)",
            # By themselves: tokens and secrets of Entra and Google, refresh tokens, API keys, ids and tokens of AWS,
            # account keys.
            r"\beyJ[\w-]{8,}(?:\.[\w-]+)*\.?",
            r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}",
            r"\bya29\.[\w.-]+|\b1//[\w-]{16,}|\bAIza[\w-]{30,}|\bGOCSPX-[\w-]+",
            r"\b(?-i:AKIA|ASIA|ABIA|ACCA|GOOG)[A-Z0-9]{12,}\b|\b(?-i:IQoJ|FwoG|FQoG)[\w+/=%-]{16,}",
            r"(?<![\w+/])(?:[\w+/]{86}==|[\w+/]{43}=)(?![\w=])",
        )
    ),
    re.IGNORECASE | re.DOTALL,
)
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class _Finder(NamedTuple):
    """Finds one credential in use."""

    pattern: re.Pattern[str]  # the credential, or its beginning, in each notation
    literals: tuple[str, ...]  # one of them is in each text that the pattern matches, both in folded case
    notations: str  # all notations in one text, to find pieces in

    def spans(self, text: str, folded: str) -> Iterator[tuple[int, int]]:
        """Yield where a text holds the credential; `folded` is the text in folded case."""
        if any(one in folded for one in self.literals):  # many times faster than the pattern
            yield from (run.span() for run in self.pattern.finditer(text))


_lock = threading.Lock()
_in_use: OrderedDict[str, None] = OrderedDict()  # the credentials in use, the one used last is the last one
# Mixed case: a resource name that a token happens to contain is not a piece of a secret.
_LOOK = r"(?=[\w+/.~%-]*[A-Z])(?=[\w+/.~%-]*[a-z])"
_RUN = re.compile(rf"{_LOOK}[\w+/.~%-]{{{PIECE},}}")


def remember_secret(*values: str | None) -> None:
    """Register credentials of the process, so that `redact` recognizes them by value; empty ones are ignored."""
    for value in values:
        value = printable(value or "").strip()
        if len(value) < SHORTEST_SECRET:
            continue
        with _lock:
            _in_use[value] = None
            _in_use.move_to_end(value)
            while len(_in_use) > KEPT:
                _in_use.popitem(last=False)


def redact(text: str) -> str:
    """Return a text without secrets and without characters that break a terminal or an encoder."""
    if len(text) > LONGEST:
        # A secret that is cut in two is not recognized by its form.
        text = text[:LONGEST].rpartition(" ")[0] or text[:1024]
    with _lock:
        known = tuple(_in_use)
    return _redacted(text, known)


@lru_cache(maxsize=64)  # a listing gives thousands of targets the same text, one after another
def _redacted(text: str, known: tuple[str, ...]) -> str:
    """Return a text without secrets; `known` are the credentials in use."""
    if finders := [_finder(value) for value in known]:
        folded = text.casefold()
        text = _without([span for finder in finders for span in finder.spans(text, folded)], text)
        text = _RUN.sub(lambda run: MASK if any(run[0] in finder.notations for finder in finders) else run[0], text)
    return _UNPRINTABLE.sub(" ", _FORMS.sub(_masked, text))


def printable(text: str) -> str:
    """Return a text with spaces for unprintable characters and lone surrogates, which external names may hold."""
    return _UNPRINTABLE.sub(" ", text)


def _masked(match: re.Match[str]) -> str:
    named = match.lastgroup
    return MASK if named is None or named == "pem" else f"{match[named]}{MASK}"


def _without(spans: list[tuple[int, int]], text: str) -> str:
    """Return a text with each span masked; overlapping spans are merged."""
    kept, at = "", 0
    for begin, end in sorted(spans):
        if begin >= at:
            kept += text[at:begin] + MASK
        at = max(at, end)
    return kept + text[at:]


@lru_cache(maxsize=KEPT)  # built when it is first needed: most runs report no failure
def _finder(value: str) -> _Finder:
    notations = _notations(value)
    whole = {*notations, base64.b64encode(value.encode()).decode(), value.encode().hex()}
    # The beginning is enough if a proxy has cut off the rest.
    beginnings = _notations(value[:PREFIX]) if len(value) >= 2 * PREFIX else set()
    found = {re.escape(one) for one in whole} | {re.escape(one) + r"[^\s\"'<>&]*" for one in beginnings}
    longest_first = "|".join(sorted(found, key=len, reverse=True))
    literals = {one.casefold() for one in whole | beginnings}
    shortest = tuple(one for one in literals if not any(other in one for other in literals - {one}))
    return _Finder(re.compile(longest_first, re.IGNORECASE), shortest, "\n".join(notations))


def _notations(value: str) -> set[str]:
    return {
        value,
        quote(value, safe=""),
        quote_plus(value),
        html.escape(value),
        json.dumps(value)[1:-1],
        value.replace("/", "\\/"),
    }
