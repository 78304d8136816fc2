"""Secrets in text from outside: recognized by their form, and those in use by their value."""

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
def test_a_secret_is_recognized_by_its_form(text: str) -> None:
    """Whatever notation a proxy quotes a request in, the secret's value is gone, and what is around it stays."""
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
def test_a_token_by_itself_is_recognized(token: str) -> None:
    """Tokens and keys have forms of their own: no name has to stand before them."""
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
def test_what_is_no_secret_stays(text: str) -> None:
    """A message must still say what is wrong."""
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
def test_a_credential_in_use_is_recognized_by_its_value(written: object) -> None:
    """In each notation, and cut off; although it has no form that gives it away."""
    secret = "correct/horse+battery'staple&without-any-form"
    remember_secret(secret, "", None)
    quoted = written(secret)  # type: ignore[operator]  # each is a function of a text
    assert quoted not in redact(f"the proxy says {quoted} here")
    assert redact(f"the proxy says {quoted} here").startswith("the proxy says …")


def test_a_credential_in_use_is_recognized_in_pieces() -> None:
    """Where a proxy folds a long header over lines, each of the lines is masked."""
    secret = "Wj0almXUtnFEMIqK7MDENGrbPxRfiCYEXAMPLEKEYzQ"
    remember_secret(secret)
    folded = "\r\n ".join(secret[at : at + 15] for at in range(0, len(secret), 15))
    shown = redact(f"the proxy got {folded} and refused")
    assert not [at for at in range(len(secret) - 12) if secret[at : at + 12] in shown]
    assert (shown.startswith("the proxy got …"), shown.endswith("and refused")) == (True, True)


def test_a_name_that_a_credential_contains_stays() -> None:
    """A token may hold the id of a project or an account in plain text: messages must still name it."""
    remember_secret("ya29.tailpipe-dataexport-0123.0XyZ.111122223333.Abc987", "x" * 40)
    for name in ("project tailpipe-dataexport-0123", "account 111122223333"):
        assert redact(f"{name} is not billed") == f"{name} is not billed"


def test_the_credentials_in_use_are_bounded() -> None:
    """A process that lives for long, and renews its tokens, remembers the newest ones only."""
    for number in range(2 * KEPT):
        remember_secret(f"renewed-every-hour-{number:04}")
    assert redact("renewed-every-hour-0127") == "…"
    assert redact("renewed-every-hour-0000") == "renewed-every-hour-0000"


@pytest.mark.parametrize("odd", ["\x1b[31m", "\x00", "\ud800", "\u202e", "\u061c", "\u200f", "\x9b"])
def test_what_a_terminal_or_an_encoder_trips_over_is_gone(odd: str) -> None:
    """Control characters and half characters become blanks."""
    assert odd not in clean(f"a{odd}b")
    clean(f"a{odd}b").encode()
    assert printable("Zoë 東京") == "Zoë 東京"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_no_text_makes_it_fail(text: str) -> None:
    """Whatever comes from outside can be kept, shown and encoded."""
    redact(text).encode()
    Permanent(text, text).message.encode()


@pytest.mark.parametrize(
    "part", ["a-", "x-amz-", "Authorization ", "eyJ", "1//", "-----BEGIN ", "key = ", "http://", "secret\\", "[ "]
)
def test_a_huge_text_takes_no_time(part: str) -> None:
    """What repeats without end is cut before it is looked at, and no form looks at it again and again."""
    began = time.process_time()
    redact(part * (4 * LONGEST))
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("name", ["pwd:", "Authorization =", "access_key_id: [", "password\\"])
@pytest.mark.parametrize("gap", [" ", "[", "\\", " [", "\n", "\t [ "])
def test_a_gap_without_end_behind_a_name_takes_no_time(name: str, gap: str) -> None:
    """Blanks and brackets between a name and its value are looked at once, not in every possible division."""
    began = time.process_time()
    redact(f"{name}{gap * (LONGEST // len(gap))}"[: LONGEST - 1])
    assert time.process_time() - began < 1.0


def test_thousands_of_messages_make_the_pattern_of_the_credentials_once() -> None:
    """A run over thousands of refused scopes spends its time on the cloud, and still masks what is sent now."""
    for number in range(KEPT):
        remember_secret(f"a-credential/in+use={number:04d}" * 4)
    began = time.process_time()
    for number in range(2000):
        redact(f"AccessDenied: role {number} is not authorized to perform s3:ListBucket")
    assert time.process_time() - began < 2.0
    remember_secret(SECRET)
    assert SECRET not in redact(f"the proxy saw {SECRET} just now")


def test_a_renewed_credential_costs_what_it_costs_by_itself() -> None:
    """A process that knows many credentials makes nothing anew for the others when one is renewed."""
    for number in range(KEPT):
        remember_secret(f"a-credential/in+use={number:04d}" * 40)
    redact("the first failure")
    began = time.process_time()
    for number in range(50):
        remember_secret(f"renewed/while+in=use={number:04d}" * 40)
        assert redact(f"the proxy saw renewed/while+in=use={number:04d}") == "the proxy saw …"
    assert time.process_time() - began < 2.0


def test_credentials_that_overlap_are_one_gap() -> None:
    """Of two credentials, one of which begins inside the other's text, nothing stays."""
    remember_secret("begins-with-one-thing", "one-thing-and-another")
    assert redact("saw begins-with-one-thing-and-another here") == "saw … here"


def test_a_code_from_outside_has_the_form_of_one() -> None:
    """A code is shown everywhere: it is a word, or it is not shown."""
    assert Permanent("AccessDenied", "m").code == "AccessDenied"
    for odd in ("", "two words", "x" * 81, "<html>", "AKIAIOSFODNN7EXAMPLE", "\ud800"):
        assert Permanent(odd, "m").code == "odd-code"
