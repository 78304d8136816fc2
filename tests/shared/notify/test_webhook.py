"""Messages go to public addresses over HTTPS, within a time limit, and nothing shows the webhook's URL."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from shared.errors import Permanent, ReportedError, Transient
from shared.notify.delivery import Secret, deliver
from shared.notify.formats import Post
from shared.notify.webhook import Destination, Reply, destination_of, send
from shared.redaction import redact
from shared.state.document import StateDocument, fresh
from shared.state.notices import Notice, Notices, owed
from tests.canaries import WEBHOOK_PATH
from tests.limits import HANG_S
from tests.shared.builders import START, Recorder
from tests.shared.notify.certificates import Authority
from tests.shared.notify.receiver import Receiver, receiving

URL = f"https://hooks.slack.com/services/{WEBHOOK_PATH}"
OTHER = "https://a.example/x"
FLOW = "https://x.westus.logic.azure.com/workflows/1?sig=abc"
NEW_FLOW = "https://y.environment.api.powerplatform.com:443/a"
POST = Post({"content-type": "application/json"}, b"{}")
SILENT = ["127.0.0.2", "127.0.0.3"]


@contextmanager
def answering(script: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection on 127.0.0.1 with `script`; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    script(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


def drip(connection: socket.socket, data: bytes) -> None:
    """Send a byte every 20 ms until the connection closes."""
    for one in data:
        connection.sendall(bytes([one]))
        time.sleep(0.02)


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
        (f"\ufeff{URL}\r\n", Destination(URL, "", "slack")),
        (f'{{"url": " {URL}\\n", "key": "k1\\n"}}', Destination(URL, "k1", "slack")),
        (f'{{"url": "{URL}", "format": "cloudevents"}}', Destination(URL, "", "cloudevents")),
        (f'{{"url": "{OTHER}", "key": "whsec_abcd"}}', Destination(OTHER, "whsec_abcd", "cloudevents")),
        (FLOW, Destination(FLOW, "", "teams")),
        (NEW_FLOW, Destination(NEW_FLOW, "", "teams")),
    ],
)  # fmt: skip
def test_secret_is_a_url_or_a_json_object(secret: str, expected: Destination) -> None:
    """The host determines the format unless the secret names one."""
    assert destination_of(secret) == expected


@pytest.mark.parametrize(
    "secret",
    [
        "", "{", "[]", '{"key": "x"}', '{"url": 7}', "hooks.slack.com/services/x", "ftp://hooks.slack.com/x",
        "http://hooks.slack.com/x", "https:///x", "https://user:word@hooks.slack.com/x", "https://a b/x",
        "https://a.example/\r\nHost: b", "https://a.example/\nhttps://b", "https://a\t.example/", "https://a.example\\@b/",
        " \n", "\ufeff", '{"key": "x", "format": "slack"}', f'"{URL}"', f"webhook={URL}", "https://[::1", "https://a.example:99999/",
        f'{{"url": "{URL}", "format": "xml"}}', "https://ä.example/", "https://a.example/" + "x" * 3000,
        f"https://hooks..slack.com/{WEBHOOK_PATH}", f"https://{'a' * 64}.example/{WEBHOOK_PATH}", f"https://.example/{WEBHOOK_PATH}",
        f'{{"url": "{URL}", "key": "\\ud800"}}',
    ],
)  # fmt: skip
def test_invalid_secret_is_refused_without_being_quoted(secret: str) -> None:
    """The message says what is expected and contains no part of the secret."""
    with pytest.raises(Permanent) as caught:
        destination_of(secret)
    assert caught.value.remedy
    assert WEBHOOK_PATH not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_parts_of_the_secret_are_masked_wherever_they_appear() -> None:
    """URL, path, token and key are masked, also in the notations of logs and URLs."""
    destination_of(f'{{"url": "{URL}", "key": "whsec_a2V5LWNhbmFyeS1rZXk="}}')
    for text in (
        f"POST {URL} failed",
        f"path /services/{WEBHOOK_PATH}",
        "token aVerySecretPart99",
        "a2V5LWNhbmFyeS1rZXk=",
    ):
        assert "Secret" not in redact(text)
        assert "a2V5" not in redact(text)
    assert "aVerySecretPart99" not in repr(destination_of(URL))


def test_path_of_plain_words_does_not_mask_these_words_in_messages() -> None:
    """The URL as a whole is still masked."""
    destination_of("https://receiver.example/exports")
    text = "Microsoft.CostManagement/exports/daily: the exports are denied"
    assert redact(text) == text
    assert "exports" not in redact("POST https://receiver.example/exports failed")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.1.2.3", "224.0.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a00:1::",
        "ff02::1", "240.0.0.1", "nonsense", "127.1", "2130706433", "0x7f.1", "::", "::127.0.0.1", "::ffff:0:127.0.0.1",
        "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::a00:1", "2001:0:a00:1::", "fec0::1", "3fff::1",
        "2001:db8::1", "100::1", "fd20:ce::254", "192.0.0.192", "168.63.129.16", "198.18.0.1", "255.255.255.255",
    ],
)  # fmt: skip
def test_address_that_is_not_public_is_never_called(address: str) -> None:
    """One private address among several is enough to refuse the host."""
    for found in ([address], ["93.184.216.34", address]):
        with pytest.raises(Permanent, match="not public"):
            send(URL, POST, HANG_S, resolve=lambda *_, found=found: found)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"])
def test_public_address_is_called_in_every_form(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NAT64 and IPv4-mapped addresses lead to a public IPv4 address."""
    called = calls_of(monkeypatch)
    with pytest.raises(Transient):
        send(URL, POST, HANG_S, resolve=lambda *_: [address])
    assert called == [address]


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the addresses of connections; refuse connections to other machines."""
    called: list[str] = []
    real = socket.create_connection

    def connect(address: tuple[str, int], *rest: object) -> socket.socket:
        called.append(address[0])
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError
        return real(address, *rest)  # type: ignore[arg-type]  # the timeout, as it was given

    monkeypatch.setattr(socket, "create_connection", connect)
    return called


def test_connection_uses_the_address_that_was_checked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to another address a moment later (DNS rebinding) has no effect."""
    port = int(receiver.url.rpartition(":")[2])
    called, answers = calls_of(monkeypatch), [["127.0.0.1"], ["10.0.0.1"]]
    url = f"http://localhost:{port}/hook?a=b"
    assert send(url, POST, HANG_S, local=True, resolve=lambda *_: answers.pop(0)) == Reply(200)
    assert called == ["127.0.0.1"]
    assert receiver.got[0][0] == "/hook?a=b"
    assert receiver.got[0][1]["host"] == f"localhost:{port}"


def test_next_address_is_tried_after_a_refused_connection(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are tried in order, and the message is sent once. If none accepts, the failure is transient."""
    port, called = int(receiver.url.rpartition(":")[2]), calls_of(monkeypatch)
    url, found = f"http://localhost:{port}/", [*SILENT, "127.0.0.1", "127.0.0.4"]
    assert send(url, POST, HANG_S, local=True, resolve=lambda *_: found) == Reply(200)
    assert called == [*SILENT, "127.0.0.1"]
    assert len(receiver.got) == 1
    called.clear()
    with pytest.raises(Transient, match="ConnectionRefusedError"):
        send(url, POST, HANG_S, local=True, resolve=lambda *_: SILENT)
    assert called == SILENT
    with pytest.raises(Transient):
        send(url, POST, HANG_S, local=True, resolve=lambda *_: [])


def test_unresponsive_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address gets its share of the remaining time."""
    given: list[float] = []

    def connect(_: tuple[str, int], seconds: float) -> socket.socket:
        given.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Transient):
        send(
            URL,
            POST,
            HANG_S,
            resolve=lambda *_: ["93.184.216.34", "93.184.216.35", "2606:4700::1111", "2606:4700::1112"],
        )
    assert given == pytest.approx([HANG_S / 4, HANG_S / 3, HANG_S / 2, HANG_S], rel=0.1)


def test_hanging_resolver_is_abandoned_in_time() -> None:
    """The system's resolver has no time limit of its own; a late result is ignored."""
    release, answered = threading.Event(), threading.Event()

    def resolve(*_: object) -> list[str]:
        release.wait(HANG_S)
        answered.set()
        return ["93.184.216.34"]

    with pytest.raises(Transient, match="TimeoutError") as caught:
        send(URL, POST, 0.1, resolve=resolve)
    assert not answered.is_set()
    assert caught.value.code == "notify-unreachable"
    release.set()
    for thread in threading.enumerate():
        if thread.name == "resolve-webhook":
            thread.join()


def test_loopback_address_requires_a_local_cloud(receiver: Receiver) -> None:
    """A real deployment refuses an address on its own machine."""
    with pytest.raises(Permanent):
        send(receiver.url, POST, HANG_S)
    with pytest.raises(Permanent, match="not public"):
        send("https://localhost/x", POST, HANG_S)
    assert receiver.got == []


def test_receiver_that_does_not_answer_is_abandoned_in_time(receiver: Receiver) -> None:
    """Without a response, the message does not count as delivered."""
    receiver.answering.clear()
    with pytest.raises(Transient, match="TimeoutError") as caught:
        send(receiver.url, POST, 0.2, local=True)
    assert caught.value.code == "notify-unreachable"
    receiver.answering.set()


@pytest.mark.parametrize("body", [b"", b"x"])
def test_message_is_delivered_once_the_headers_of_a_2xx_response_arrive(body: bytes) -> None:
    """A body that hangs, drips or never ends does not cause the message to be sent again."""
    over = threading.Event()

    def patient(url: str, post: Post, timeout_s: float, *, local: bool) -> Reply:
        del timeout_s
        return send(url, post, HANG_S, local=local)

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n")
        while body and not over.is_set():
            drip(connection, body)
        over.wait(HANG_S)

    with answering(script) as port:
        document, engine, began = waiting("a"), Recorder(), time.monotonic()
        secret = Secret(lambda _: f"http://127.0.0.1:{port}/", local=True)
        assert deliver(document, secret, engine.run, patient) == (1, 0)
        # Reading the body would take until the time limit.
        assert time.monotonic() - began < HANG_S
        over.set()
    assert owed(document.notices) == []


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200, b"HTTP/1.1 100 Continue\r\n\r\n" * 9, b"H", b"HTTP/1.1 200" * 20],
    ids=["headers", "continues", "nothing", "status"],
)  # fmt: skip
def test_receiver_that_drips_its_headers_is_abandoned_in_time(answer: bytes) -> None:
    """Each byte arrives within the socket's time limit; the total time limit still applies."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            drip(connection, answer)

    # With a time limit for each read only, the response would be refused after 65,536 bytes as too long, or never end.
    with answering(script) as port, pytest.raises(Transient, match="did not answer \\(TimeoutError"):
        send(f"http://127.0.0.1:{port}/", POST, 0.3, local=True)


def test_large_response_is_not_read(receiver: Receiver) -> None:
    """Only the status counts."""
    receiver.body = b"x" * 1_000_000
    assert send(receiver.url, POST, HANG_S, local=True) == Reply(200)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Return a certificate authority that a test may trust."""
    return Authority()


def secured(certificate: Path) -> Callable[[socket.socket], None]:
    """Return a script that accepts one message over TLS with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def script(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            while not secure.recv(65536).endswith(POST.body):
                pass
            secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    return script


def test_certificate_is_verified_for_the_host_name_of_the_url(authority: Authority, tmp_path: Path) -> None:
    """The address that was connected to does not matter."""
    with answering(secured(authority.certificate(tmp_path, "hooks.example"))) as port:
        url = f"https://hooks.example:{port}/x"
        reply = send(url, POST, HANG_S, local=True, resolve=lambda *_: ["127.0.0.1"], context=authority.context())
    assert reply == Reply(204)


@pytest.mark.parametrize(
    ("name", "days", "trusted", "reason"),
    [
        ("other.example", 1, True, "the certificate is for another name"),
        ("hooks.example", -1, True, "certificate has expired"),
        ("hooks.example", 1, False, "unable to get local issuer certificate"),
    ],
)
def test_invalid_certificate_is_reported_without_the_host(
    authority: Authority, tmp_path: Path, name: str, days: int, trusted: bool, reason: str
) -> None:
    """Nothing is sent. The failure is transient."""
    context = authority.context() if trusted else ssl.create_default_context()
    with answering(secured(authority.certificate(tmp_path, name, days))) as port:
        url = f"https://hooks.example:{port}/{WEBHOOK_PATH}"
        with pytest.raises(Transient) as caught:
            send(url, POST, HANG_S, local=True, resolve=lambda *_: ["127.0.0.1"], context=context)
    assert caught.value.code == "notify-tls"
    assert reason in caught.value.message
    assert "example" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.remedy}"


def test_receiver_without_tls_is_reported(receiver: Receiver) -> None:
    """The URL begins with https:// and the port speaks plain HTTP."""
    url = receiver.url.replace("http://", "https://")
    with pytest.raises(Transient) as caught:
        send(url, POST, HANG_S, local=True)
    assert caught.value.code == "notify-tls"
    assert receiver.got == []


def test_unresolvable_host_is_a_transient_failure() -> None:
    """The message contains no part of the URL."""

    def fail(*_: object) -> list[str]:
        raise socket.gaierror(-2, f"Name or service not known: {URL}")

    with pytest.raises(Transient) as caught:
        send(URL, POST, HANG_S, resolve=fail)
    assert WEBHOOK_PATH not in f"{caught.value!r} {caught.value.__cause__!r}"


def waiting(*ids: str) -> StateDocument:
    """Return a state document with unsent messages."""
    document = fresh("memory")
    document.owner = "org-1"
    document.notices = Notices(START, {}, [Notice(one, START, "failure.opened", f"title {one}") for one in ids])
    return document


def test_messages_are_sent_oldest_first_and_marked_as_sent(receiver: Receiver) -> None:
    """A delivered message is not sent again."""
    document, engine = waiting("a", "b"), Recorder()
    assert deliver(document, Secret(lambda _: receiver.url, local=True), engine.run) == (2, 0)
    assert [one["id"] for one in receiver.documents()] == ["a", "b"]
    assert owed(document.notices) == []
    assert engine.events() == ["notify-sent", "notify-sent"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "notify-refused"), (406, "notify-refused"), (429, "notify-refused"), (302, "notify-redirected"),
        (308, "notify-redirected"),
    ],
)  # fmt: skip
def test_failed_message_stays_owed_and_ends_the_delivery(receiver: Receiver, status: int, code: str) -> None:
    """An unavailable webhook is called once in a run. No redirect is followed."""
    receiver.status = status
    receiver.headers = {"location": "http://169.254.169.254/latest/meta-data/"}
    document, engine = waiting("a", "b"), Recorder()
    assert deliver(document, Secret(lambda _: receiver.url, local=True), engine.run) == (0, 2)
    assert len(receiver.got) == 1
    assert [(line[0], line[2]["code"]) for line in engine.lines] == [("warning", code)]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_message_rejected_by_the_receiver_does_not_block_the_others(receiver: Receiver, status: int) -> None:
    """It stays owed. A webhook that rejects everything is called three times in a run."""
    receiver.answers = [status, 200, status, 200]
    document, engine = waiting("a", "b", "c", "d"), Recorder()
    secret = Secret(lambda _: receiver.url, local=True)
    assert deliver(document, secret, engine.run) == (2, 2)
    assert [one.id for one in owed(document.notices)] == ["a", "c"]
    assert [line[2]["code"] for line in engine.lines if line[0] == "warning"] == ["notify-refused"]
    receiver.got.clear()
    receiver.status = status
    assert deliver(waiting("a", "b", "c", "d"), secret, Recorder().run) == (0, 4)
    assert len(receiver.got) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410, 302, 500])
def test_secret_is_read_again_after_a_failure(receiver: Receiver, status: int) -> None:
    """A rotated webhook costs one additional call. An unchanged secret is not tried twice."""
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


@pytest.mark.parametrize(
    "remembered", ["", "hooks.slack.com/x", "http://a.example/x", '{"url": 7}', "https://10.0.0.1/x", "http://127.0.0.1:9/"]
)  # fmt: skip
def test_warm_instance_uses_a_corrected_secret(receiver: Receiver, remembered: str) -> None:
    """An instance may live for weeks with an invalid secret in memory."""
    document = waiting("a")
    assert deliver(document, Secret(lambda again: receiver.url if again else remembered, True), Recorder().run) == (
        1,
        0,
    )


def test_short_retry_after_is_honored_once(receiver: Receiver) -> None:
    """Slack accepts one message a second. A longer wait is left to the next run."""
    receiver.answers, receiver.headers = [200, 429, 200], {"retry-after": "2"}
    document, engine = waiting("a", "b"), Recorder()
    secret = Secret(lambda _: receiver.url, local=True)
    assert deliver(document, secret, engine.run) == (2, 0)
    assert engine.clock.now() == START + timedelta(seconds=2)
    assert [one["id"] for one in receiver.documents()] == ["a", "b", "b"]
    receiver.got.clear()
    for answers, wait, tries in (([429, 429], "2", 2), ([429], "60", 1), ([503], "2", 1)):
        receiver.answers, receiver.headers = answers, {"retry-after": wait}
        assert deliver(waiting("c"), secret, Recorder().run) == (0, 1)
        assert len(receiver.got) == tries
        receiver.got.clear()


def test_nothing_is_sent_without_time_left() -> None:
    """The end of the run is reserved for saving the state."""
    document, engine = waiting("a"), Recorder(seconds=2)
    assert deliver(document, Secret(lambda _: URL), engine.run) == (0, 1)
    assert engine.lines[0][2]["code"] == "deadline"


def test_slow_receiver_gets_one_minute_in_a_run() -> None:
    """Each message has ten seconds, and all messages of a run have a minute."""
    document, engine = waiting(*"abcdefgh"), Recorder()
    given: list[float] = []

    def slow(url: str, post: Post, timeout_s: float, *, local: bool) -> Reply:
        del url, post, local
        given.append(timeout_s)
        engine.clock.advance(9)
        return Reply(200)

    assert deliver(document, Secret(lambda _: URL), engine.run, slow) == (7, 1)
    assert given == [10, 10, 10, 10, 10, 10, 6]
    assert engine.lines[-1][2]["code"] == "deadline"


def test_unreadable_secret_is_a_warning() -> None:
    """The warning has the cloud's code. The run continues."""

    def read(_: bool) -> str:
        raise ReportedError("rights", "the secret may not be read")

    document, engine = waiting("a"), Recorder()
    assert deliver(document, Secret(read), engine.run) == (0, 1)
    assert [(line[1], line[2]["code"]) for line in engine.lines] == [("notify-failed", "rights")]


def test_defect_in_a_delivery_is_a_warning() -> None:
    """A defect after the run has ended does not fail it."""

    def fail(*_: object, **__: object) -> Reply:
        raise RuntimeError(URL)

    document, engine = waiting("a"), Recorder()
    assert deliver(document, Secret(lambda _: URL), engine.run, fail) == (0, 1)
    assert [(line[0], line[2]["code"]) for line in engine.lines] == [("warning", "internal-error")]
    assert WEBHOOK_PATH not in str(engine.lines)
