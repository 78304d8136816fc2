"""A webhook is called at a public address over HTTPS, and nothing of its own address is ever shown."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from shared.errors import Permanent, ReportedError, Transient
from shared.notify.delivery import Secret, deliver
from shared.notify.formats import Post
from shared.notify.webhook import Destination, destination_of, send
from shared.redaction import redact
from shared.state.document import StateDocument, fresh
from shared.state.notices import Notice, Notices, owed
from tests.shared.builders import START, Recorder
from tests.shared.notify.receiver import Receiver, receiving

CANARY = "T0CANARY00/B0CANARY11/aVerySecretPart99"
URL = f"https://hooks.slack.com/services/{CANARY}"
OTHER = "https://a.example/x"
FLOW = "https://x.westus.logic.azure.com/workflows/1?sig=abc"
NEW_FLOW = "https://y.environment.api.powerplatform.com:443/a"
POST = Post({"content-type": "application/json"}, b"{}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a receiver on this machine."""
    with receiving() as one:
        yield one


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (URL, Destination(URL, "", "slack")),
        (f" {URL}\n", Destination(URL, "", "slack")),
        (f'{{"url": "{URL}", "format": "cloudevents"}}', Destination(URL, "", "cloudevents")),
        (f'{{"url": "{OTHER}", "key": "whsec_abcd"}}', Destination(OTHER, "whsec_abcd", "cloudevents")),
        (FLOW, Destination(FLOW, "", "teams")),
        (NEW_FLOW, Destination(NEW_FLOW, "", "teams")),
    ],
)  # fmt: skip
def test_a_secret_is_an_address_or_an_object(secret: str, expected: Destination) -> None:
    """The format follows the host, unless the secret names one."""
    assert destination_of(secret) == expected


@pytest.mark.parametrize(
    "secret",
    [
        "", "{", "[]", '{"key": "x"}', '{"url": 7}', "hooks.slack.com/services/x", "ftp://hooks.slack.com/x",
        "http://hooks.slack.com/x", "https:///x", "https://user:word@hooks.slack.com/x", "https://a b/x",
        "https://a.example/\r\nHost: b", "https://a.example\\@b/", "https://[::1", "https://a.example:99999/",
        f'{{"url": "{URL}", "format": "xml"}}', "https://ä.example/", "https://a.example/" + "x" * 3000,
        f"https://hooks..slack.com/{CANARY}", f"https://{'a' * 64}.example/{CANARY}", f"https://.example/{CANARY}",
        f'{{"url": "{URL}", "key": "\\ud800"}}',
    ],
)  # fmt: skip
def test_whatever_else_a_secret_holds_is_refused_without_being_quoted(secret: str) -> None:
    """The reason says what is expected, and holds nothing of what was found."""
    with pytest.raises(Permanent) as caught:
        destination_of(secret)
    assert caught.value.remedy
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_what_a_secret_holds_is_masked_wherever_it_appears() -> None:
    """Address, path, token and key, also in the notations of logs and URLs."""
    destination_of(f'{{"url": "{URL}", "key": "whsec_a2V5LWNhbmFyeS1rZXk="}}')
    for text in (f"POST {URL} failed", f"path /services/{CANARY}", "token aVerySecretPart99", "a2V5LWNhbmFyeS1rZXk="):
        assert "Secret" not in redact(text)
        assert "a2V5" not in redact(text)
    assert "aVerySecretPart99" not in repr(destination_of(URL))


def test_a_path_of_plain_words_does_not_take_them_out_of_messages() -> None:
    """The address as a whole is masked all the same."""
    destination_of("https://receiver.example/exports")
    text = "Microsoft.CostManagement/exports/daily: the exports are denied"
    assert redact(text) == text
    assert "exports" not in redact("POST https://receiver.example/exports failed")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.1.2.3", "224.0.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a00:1::",
        "ff02::1", "240.0.0.1", "nonsense",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_never_called(address: str) -> None:
    """Also where only one of a name's addresses is private: which one is called is not the receiver's to choose."""
    for found in ([address], ["93.184.216.34", address]):
        with pytest.raises(Permanent, match="not public"):
            send(URL, POST, 1, resolve=lambda *_, found=found: found)


def test_the_checked_address_is_the_one_that_is_called(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to something else a moment later changes nothing."""
    port = int(receiver.url.rpartition(":")[2])
    asked: list[str] = []
    real = socket.create_connection

    def watched(address: tuple[str, int], *rest: object) -> socket.socket:
        asked.append(address[0])
        return real(address, *rest)  # type: ignore[arg-type]  # the timeout, as it was given

    monkeypatch.setattr(socket, "create_connection", watched)
    assert send(f"http://localhost:{port}/hook?a=b", POST, 5, local=True, resolve=lambda *_: ["127.0.0.1"]) == 200
    assert asked == ["127.0.0.1"]
    assert receiver.got[0][0] == "/hook?a=b"
    assert receiver.got[0][1]["host"] == f"localhost:{port}"


def test_loopback_needs_a_local_cloud(receiver: Receiver) -> None:
    """In a real deployment an address on the function's own machine is refused."""
    with pytest.raises(Permanent):
        send(receiver.url, POST, 5)
    with pytest.raises(Permanent, match="not public"):
        send("https://localhost/x", POST, 5)
    assert receiver.got == []


def test_a_receiver_that_hangs_or_never_ends_is_left_in_time(receiver: Receiver) -> None:
    """The time limit bounds the whole exchange, and a huge answer is not read to its end."""
    receiver.hangs_s = 0.6
    began = time.monotonic()
    with pytest.raises(Transient) as caught:
        send(receiver.url, POST, 0.2, local=True)
    assert time.monotonic() - began < 0.5
    assert caught.value.code == "notify-unreachable"
    receiver.hangs_s, receiver.body = 0, b"x" * 1_000_000
    assert send(receiver.url, POST, 5, local=True) == 200


def test_a_receiver_that_drips_is_left_in_time() -> None:
    """Each piece comes within the socket's own limit, and the exchange still ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    for _ in range(100):
                        connection.sendall(b"x")
                        time.sleep(0.05)
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(Transient):
            send(f"http://127.0.0.1:{server.getsockname()[1]}/", POST, 0.3, local=True)
        assert time.monotonic() - began < 1
        thread.join()


def test_a_host_that_is_not_found_is_a_passing_failure() -> None:
    """The next run tries again; nothing of the address is in the message."""

    def fail(*_: object) -> list[str]:
        raise socket.gaierror(-2, f"Name or service not known: {URL}")

    with pytest.raises(Transient) as caught:
        send(URL, POST, 1, resolve=fail)
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r}"


def waiting(*ids: str) -> StateDocument:
    """Return a document with owed messages."""
    document = fresh("memory")
    document.owner = "org-1"
    document.notices = Notices(START, {}, [Notice(one, START, "failure.opened", f"title {one}") for one in ids])
    return document


def test_messages_go_oldest_first_and_are_noted(receiver: Receiver) -> None:
    """What was accepted is owed no more."""
    document, engine = waiting("a", "b"), Recorder()
    assert deliver(document, Secret(lambda _: receiver.url, local=True), engine.run) == (2, 0)
    assert [one["id"] for one in receiver.documents()] == ["a", "b"]
    assert owed(document.notices) == []
    assert engine.events() == ["notify-sent", "notify-sent"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "notify-refused"), (400, "notify-refused"), (302, "notify-redirected"), (308, "notify-redirected")],
)  # fmt: skip
def test_a_refused_message_stays_owed_and_ends_the_delivery(receiver: Receiver, status: int, code: str) -> None:
    """One failure is enough: a webhook that is down is not called once for each message. No redirect is followed."""
    receiver.status = status
    receiver.headers = {"location": "http://169.254.169.254/latest/meta-data/"}
    document, engine = waiting("a", "b"), Recorder()
    assert deliver(document, Secret(lambda _: receiver.url, local=True), engine.run) == (0, 2)
    assert len(receiver.got) == 1
    assert [(line[0], line[2]["code"]) for line in engine.lines] == [("warning", code)]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_secret_is_read_again_where_its_address_is_refused(receiver: Receiver, status: int) -> None:
    """A rotated webhook costs one call; an unchanged secret is not tried twice."""
    with receiving() as former:
        former.status = status
        asked: list[bool] = []

        def read(again: bool) -> str:
            asked.append(again)
            return receiver.url if again else former.url

        document = waiting("a", "b")
        assert deliver(document, Secret(read, local=True), Recorder().run) == (2, 0)
        assert asked == [False, True]
        assert (len(former.got), len(receiver.got)) == (1, 2)
        unchanged = waiting("c")
        assert deliver(unchanged, Secret(lambda _: former.url, local=True), Recorder().run) == (0, 1)
        assert len(former.got) == 2


def test_without_time_nothing_is_sent() -> None:
    """The end of the run belongs to the state."""
    document, engine = waiting("a"), Recorder(seconds=2)
    assert deliver(document, Secret(lambda _: URL), engine.run) == (0, 1)
    assert engine.lines[0][2]["code"] == "deadline"


def test_a_secret_that_cannot_be_read_is_a_warning() -> None:
    """The cloud's refusal is shown with its remedy in the runbook; the run goes on."""

    def read(_: bool) -> str:
        raise ReportedError("rights", "the secret may not be read")

    document, engine = waiting("a"), Recorder()
    assert deliver(document, Secret(read), engine.run) == (0, 1)
    assert [(line[1], line[2]["code"]) for line in engine.lines] == [("notify-failed", "rights")]
