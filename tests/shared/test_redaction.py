"""Redaction of secrets in foreign text, by their form and by their value."""

from __future__ import annotations

import base64
import html
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Permanent, clean
from shared.redaction import KEPT, LONGEST, printable, redact, remember_secret

SECRET = "Zm9vYmFyYmF6cXV4MTIz/+AbCdEf=="


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization:SharedKey account:{SECRET}",
        f"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/x, SignedHeaders=host, Signature={SECRET}",
        f'{{"headers": {{"Authorization": "Basic {SECRET}"}}}}',
        f'{{\\"Authorization\\": \\"Bearer {SECRET}\\"}}',
        f"&quot;Authorization&quot;: &quot;Bearer {SECRET}&quot;",
        f"<header name='x'>X-Amz-Security-Token: {SECRET}</header>",
        f"x-amz-security-token={SECRET}",
        f"Cookie: a=b; session={SECRET}\nHost: x",
        f"https://a.blob.core.windows.net/c/b?sv=2024&sig={SECRET}&se=2026",
        f"https://b.s3.amazonaws.com/k?X-Amz-Signature={SECRET}&X-Amz-Security-Token={SECRET}",
        f"https://user:{SECRET.replace('/', '')}@host/path",
        f"AccountName=a;AccountKey={SECRET};EndpointSuffix=x",
        f"client_secret={SECRET}&grant_type=client_credentials",
        f'"client_secret": "{SECRET}"',
        f"aws_secret_access_key = {SECRET}",
        f'"sts:ExternalId": ["{SECRET}"]',
        f"<SignatureProvided>{SECRET}</SignatureProvided>",
        f"The MAC signature found in the HTTP request '{SECRET}' is not the same as any computed signature",
        f"Encoded authorization failure message: {SECRET}",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
        f"-----BEGIN RSA PRIVATE KEY-----\\n{SECRET}",
        f"refresh_token: {SECRET}",
        f"HTTP_AUTHORIZATION={SECRET}",
        f"<tr><td>X-Amz-Security-Token</td><td class='v'>{SECRET}</td></tr>",
        f"Authorization&nbsp;: {SECRET}",
        f"X-Amz-Security-Token%253D{SECRET}",
        f"x_amz_security_token: {SECRET}",
        f"AWS_SESSION_TOKEN={SECRET}",
        f"AZURE_CLIENT_SECRET='{SECRET}'",
        f"X-MS-TOKEN-AAD-ACCESS-TOKEN: {SECRET}",
        f"X-Vault-Token: {SECRET}",
        f'{{"token": "{SECRET}"}}',
        f"<Token>{SECRET}</Token>",
        f"Proxy says: NTLM {SECRET}",
        f'"private_key": "-----BEGIN PRIVATE KEY-----\\n{SECRET}\\n-----END PRIVATE KEY-----\\n"',
    ],
)
def test_secret_is_redacted_by_its_form(text: str) -> None:
    """The value is removed in any notation of a quoted request, and the surrounding text stays."""
    assert SECRET not in redact(text)
    assert SECRET.rstrip("=") not in redact(text)
    assert redact(f"before {text}").startswith("before ")


@pytest.mark.parametrize(
    "token",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl",
        "ya29.a0AfH6SMBxyz-123_abc",
        "1//0gabcdefghijklmnopqrstuvwxyz",
        "AIzaSyA-1234567890abcdefghijklmnopqrstu",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJH",
        "abc8Q~0123456789abcdefghij.KLMNOPQRSTUV",
        "GOOGTS7C7FUP3AIRVJTE2BCD",
        base64.b64encode(b"k" * 64).decode(),
        base64.b64encode(b"s" * 32).decode(),
    ],
)
def test_token_without_a_name_is_redacted(token: str) -> None:
    """Tokens and keys have recognizable forms."""
    assert token not in redact(f"refused ({token}), try again")
    assert redact(f"refused ({token}), try again").endswith("try again")


@pytest.mark.parametrize(
    "text",
    [
        "the bearer token has expired",
        "Basic authentication failed",
        "AuthorizationFailed: The client 'x' with object id '092f48ca-5f99-51fa-aabc-e95aee0c9906' has no right",
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
        "error code: 400, key: value",
        "the token: it has expired; the signature: does not match",
        "secret: arn:aws:secretsmanager:eu-west-1:111122223333:secret:x, token: https://login.microsoftonline.com/1",
        "arn:aws:iam::111122223333:role/tailpipe-connector-role",
        "/subscriptions/092f48ca-5f99-51fa-aabc-e95aee0c9906/providers/Microsoft.CostManagement/exports/x",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_text_that_is_not_secret_is_kept(text: str) -> None:
    """A message must still describe the problem."""
    assert redact(text) == text


@pytest.mark.parametrize(
    "written",
    [
        lambda one: one,
        lambda one: quote(one, safe=""),
        html.escape,
        lambda one: one.replace("/", "\\/"),
        lambda one: base64.b64encode(one.encode()).decode(),
        lambda one: one[:24],
        str.upper,
        lambda one: quote(one, safe="").lower(),
        lambda one: one.encode().hex(),
    ],
)
def test_credential_in_use_is_redacted_by_its_value(written: object) -> None:
    """This works in every notation and for truncated values, although the value has no recognizable form."""
    secret = "correct/horse+battery'staple&without-any-form"
    remember_secret(secret, "", None)
    quoted = written(secret)  # type: ignore[operator]  # each is a function of a text
    assert quoted not in redact(f"the proxy says {quoted} here")
    assert redact(f"the proxy says {quoted} here").startswith("the proxy says …")


def test_credential_split_over_lines_is_redacted() -> None:
    """A proxy may fold a long header over several lines."""
    secret = "Wj0almXUtnFEMIqK7MDENGrbPxRfiCYEXAMPLEKEYzQ"
    remember_secret(secret)
    folded = "\r\n ".join(secret[at : at + 15] for at in range(0, len(secret), 15))
    shown = redact(f"the proxy got {folded} and refused")
    assert not [at for at in range(len(secret) - 12) if secret[at : at + 12] in shown]
    assert (shown.startswith("the proxy got …"), shown.endswith("and refused")) == (True, True)


def test_name_inside_a_credential_is_kept() -> None:
    """A token may contain the id of a project or an account, which messages must still show."""
    remember_secret("ya29.tailpipe-dataexport-0123.0XyZ.111122223333.Abc987", "x" * 40)
    for name in ("project tailpipe-dataexport-0123", "account 111122223333"):
        assert redact(f"{name} is not billed") == f"{name} is not billed"


def test_number_of_credentials_in_use_is_bounded() -> None:
    """A long-lived process that renews its tokens remembers only the newest."""
    for number in range(2 * KEPT):
        remember_secret(f"renewed-every-hour-{number:04}")
    assert redact("renewed-every-hour-0127") == "…"
    assert redact("renewed-every-hour-0000") == "renewed-every-hour-0000"


@pytest.mark.parametrize("character", ["\x1b[31m", "\x00", "\ud800", "\u202e", "\u061c", "\u200f", "\x9b"])
def test_control_characters_and_surrogates_become_blanks(character: str) -> None:
    """The result can be printed to a terminal and encoded."""
    assert character not in clean(f"a{character}b")
    clean(f"a{character}b").encode()
    assert printable("Zoë 東京") == "Zoë 東京"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_can_be_redacted_and_encoded(text: str) -> None:
    """No text raises an exception."""
    redact(text).encode()
    Permanent(text, text).message.encode()


@pytest.mark.parametrize(
    "part", ["a-", "x-amz-", "Authorization ", "eyJ", "1//", "-----BEGIN ", "key = ", "http://", "secret\\", "[ "]
)
def test_huge_text_is_redacted_quickly(part: str) -> None:
    """The text is shortened first, and no pattern scans it repeatedly."""
    began = time.process_time()
    redact(part * (4 * LONGEST))
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("name", ["pwd:", "Authorization =", "access_key_id: [", "password\\"])
@pytest.mark.parametrize("gap", [" ", "[", "\\", " [", "\n", "\t [ "])
def test_long_gap_after_a_name_is_redacted_quickly(name: str, gap: str) -> None:
    """Blanks and brackets between name and value are scanned once, without backtracking."""
    began = time.process_time()
    redact(f"{name}{gap * (LONGEST // len(gap))}"[: LONGEST - 1])
    assert time.process_time() - began < 1.0


def test_pattern_of_credentials_is_compiled_once_for_many_messages() -> None:
    """A run with thousands of refused scopes still redacts the current credentials."""
    for number in range(KEPT):
        remember_secret(f"a-credential/in+use={number:04d}" * 4)
    began = time.process_time()
    for number in range(2000):
        redact(f"AccessDenied: role {number} is not authorized to perform s3:ListBucket")
    assert time.process_time() - began < 2.0
    remember_secret(SECRET)
    assert SECRET not in redact(f"the proxy saw {SECRET} just now")


def test_renewed_credential_does_not_recompile_the_others() -> None:
    """The cost of a renewal does not grow with the number of known credentials."""
    for number in range(KEPT):
        remember_secret(f"a-credential/in+use={number:04d}" * 4)
    redact("the first failure")
    began = time.process_time()
    for number in range(50):
        remember_secret(f"renewed/while+in=use={number:04d}" * 4)
        assert redact(f"the proxy saw renewed/while+in=use={number:04d}") == "the proxy saw …"
    assert time.process_time() - began < 2.0


def test_overlapping_credentials_are_redacted_together() -> None:
    """Nothing of either one stays."""
    remember_secret("begins-with-one-thing", "one-thing-and-another")
    assert redact("saw begins-with-one-thing-and-another here") == "saw … here"


def test_foreign_code_is_one_word_or_replaced() -> None:
    """Codes are shown everywhere, so invalid ones are replaced."""
    assert Permanent("AccessDenied", "m").code == "AccessDenied"
    for code in ("", "two words", "x" * 81, "<html>", "AKIAIOSFODNN7EXAMPLE", "\ud800"):
        assert Permanent(code, "m").code == "odd-code"
