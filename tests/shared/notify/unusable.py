"""All failures of a webhook and its secret, exercised through a cloud's own secret reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from shared.notify.delivery import Secret, deliver
from shared.runtime.context import RunContext
from shared.state.document import fresh
from shared.state.notices import Notice, Notices, owed
from tests.canaries import WEBHOOK_PATH
from tests.shared.builders import START
from tests.shared.notify.receiver import receiving


class Case(NamedTuple):
    """The content of the secret (None: deleted), the receiver's response, and the code of the warning."""

    secret: str | None
    code: str
    status: int = 200
    headers: Mapping[str, str] = {}


def cases(url: str) -> list[Case]:
    """Return the cases for a working receiver at `url`."""
    elsewhere = {"location": "http://169.254.169.254/latest/meta-data/"}
    return [
        Case(f"http://127.0.0.1:9/{WEBHOOK_PATH}", "notify-unreachable"),
        Case(None, "notify-secret"),
        Case(" \n", "notify-secret"),
        Case(f'{{"key": "{WEBHOOK_PATH}"}}', "notify-secret"),
        Case(f'{{"url": "{url}"', "notify-secret"),
        Case(f"hooks.example/{WEBHOOK_PATH}", "notify-address"),
        Case(f"http://hooks.example/{WEBHOOK_PATH}", "notify-address"),
        Case(f"https://10.0.0.1/{WEBHOOK_PATH}", "notify-address"),
        Case(f"{url}\n{url}", "notify-address"),
        Case(url.replace("http://", "https://"), "notify-tls"),
        Case(url, "notify-redirected", 302, elsewhere),
        Case(url, "notify-refused", 429, {"retry-after": "3600"}),
        Case(url, "notify-refused", 500),
        Case(url, "notify-refused", 500),
    ]


def prove_each_is_a_warning(
    read: Callable[[bool], str], store: Callable[[str | None], None], run: RunContext, lines: Any
) -> None:
    """Check that each case is a warning with its code that shows no secret and keeps the message.

    One instance handles all cases. At the end, a valid URL with stray whitespace delivers the message once, with its
    first id.
    """
    document, secret = fresh(run.cloud), Secret(read, local=True)
    document.notices = Notices(START, {}, [Notice("first", START, "failure.opened", "title")])
    with receiving() as receiver:
        url = f"{receiver.url}/services/{WEBHOOK_PATH}"
        for case in cases(url):
            store(case.secret)
            receiver.status, receiver.headers = case.status, dict(case.headers)
            lines.lines.clear()
            assert deliver(document, secret, run) == (0, 1), case
            found = [(level, fields["code"]) for level, event, fields in lines.lines if event == "notify-failed"]
            assert found == [("warning", case.code)], case
            assert not any(
                piece in lines.text() for piece in (*WEBHOOK_PATH.split("/"), "hooks.example", receiver.url)
            ), case
        store(f"\n {url}\r\n")
        receiver.status, receiver.headers = 200, {}
        receiver.got.clear()
        assert deliver(document, secret, run) == (1, 0)
        assert [one["id"] for one in receiver.documents()] == ["first"]
        assert owed(document.notices) == []
