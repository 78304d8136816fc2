"""The onboarding document: short and without secrets on standard output, complete in a private file."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.clouds import CLOUDS
from cli.deployment.commands import onboarding as module
from cli.deployment.commands.onboarding import EXAMPLES, HIDDEN, LONGEST_LIST, default_file, show_onboarding
from cli.deployment.model import OperatorError, Place, Showing
from cli.deployment.session import Session

SECRET = "external-id-4711"
PLACE = Place("aws", "111122223333", "management account", "me", "eu-west-1")
SUBSCRIPTIONS = [f"00000000-0000-0000-0000-{number:012}" for number in range(2000)]
WHOLE: dict[str, Any] = {
    "awsAccountNumber": PLACE.id,
    "tailpipe": {"externalId": SECRET, "connectorRoleArn": None},
    "paths": {"subscriptions": SUBSCRIPTIONS},
    "few": SUBSCRIPTIONS[:LONGEST_LIST],
}


class Operator:
    """A cloud with a given onboarding document."""

    secrets = (("tailpipe", "externalId"), ("absent", "key"))

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    place = PLACE

    def onboarding(self) -> Mapping[str, Any]:
        return self.document


def session(document: Mapping[str, Any] = WHOLE) -> Session:
    """Return a session with its own screen."""
    operator: Any = Operator(document)
    return Session(CLOUDS["aws"], operator, Console(file=io.StringIO(), width=4000))


def output_of(at: Session) -> str:
    """Return what is shown to the operator."""
    assert isinstance(at.screen.file, io.StringIO)
    return at.screen.file.getvalue()


def usual() -> Path:
    """Return the command's default file."""
    return default_file("aws", PLACE.id, os.environ)


def mode(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_and_long_lists_are_only_in_a_private_file(capsys: pytest.CaptureFixture[str]) -> None:
    """The output has a count with examples and a hint; the file, mode 0600, has everything."""
    at = session()
    show_onboarding(at, Showing())
    text = capsys.readouterr().out
    printed = json.loads(text)
    assert printed["tailpipe"] == {"externalId": HIDDEN, "connectorRoleArn": None}
    assert printed["paths"]["subscriptions"] == {"count": 2000, "first": SUBSCRIPTIONS[:EXAMPLES]}
    assert printed["few"] == WHOLE["few"]
    assert len(text.splitlines()) < 40
    assert json.loads(usual().read_text()) == WHOLE
    assert (mode(usual()), mode(usual().parent)) == (0o600, 0o700)
    assert str(usual()) in output_of(at)
    assert SECRET not in text + output_of(at)


@pytest.mark.parametrize(
    ("showing", "secret", "whole"),
    [(Showing(secrets=True), True, False), (Showing(everything=True), False, True)],
    ids=["show-secret", "all"],
)
def test_flags_show_the_secret_or_the_lists(
    showing: Showing, secret: bool, whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """--show-secret shows only the secret, --all only the lists."""
    show_onboarding(session(), showing)
    text = capsys.readouterr().out
    assert (SECRET in text, SUBSCRIPTIONS[-1] in text) == (secret, whole)


def test_no_file_is_written_if_the_output_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """This is the case with both flags, and without secrets and long lists."""
    show_onboarding(session(), Showing(secrets=True, everything=True))
    assert json.loads(capsys.readouterr().out) == WHOLE
    plain = {"tenantId": "t", "tailpipe": {"externalId": None}}
    show_onboarding(session(plain), Showing())
    assert json.loads(capsys.readouterr().out) == plain
    assert not usual().exists()


def test_changed_document_replaces_the_file(tmp_path: Path) -> None:
    """An equal one leaves the file unchanged; the mode becomes private."""
    file = tmp_path / "chosen.json"
    show_onboarding(session(), Showing(file=file))
    file.chmod(0o644)
    again = session()
    show_onboarding(again, Showing(file=file))
    assert mode(file) == 0o600
    unchanged = session()
    show_onboarding(unchanged, Showing(file=file))
    assert "is unchanged in" in output_of(unchanged)
    changed = {**WHOLE, "few": []}
    at = session(changed)
    show_onboarding(at, Showing(file=file))
    assert json.loads(file.read_text()) == changed
    assert "is new in" in output_of(at)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["chosen.json"]


@pytest.mark.parametrize(
    "content",
    ["", "a note", "[]", json.dumps({"awsAccountNumber": PLACE.id}), json.dumps({**WHOLE, "awsAccountNumber": "2"})],
    ids=["empty", "text", "list", "other-keys", "other-place"],
)
def test_foreign_file_is_not_replaced(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named with a remedy, and the document is printed without secrets."""
    file = tmp_path / "notes"
    file.write_text(content)
    with pytest.raises(OperatorError) as caught:
        show_onboarding(session(), Showing(file=file))
    assert f"{file} exists and holds other content" in str(caught.value)
    assert SECRET not in repr(caught.value.problems)
    assert file.read_text() == content
    assert json.loads(capsys.readouterr().out)["awsAccountNumber"] == PLACE.id


def test_link_or_binary_file_is_not_replaced(tmp_path: Path) -> None:
    """A symbolic link could lead to another file."""
    target, link, binary = tmp_path / "target", tmp_path / "link", tmp_path / "binary"
    target.write_text(json.dumps(WHOLE))
    link.symlink_to(target)
    binary.write_bytes(b"\xff\xfe")
    for file in (link, binary):
        with pytest.raises(OperatorError, match="holds other content"):
            show_onboarding(session(), Showing(file=file))
    assert json.loads(target.read_text()) == WHOLE


def test_failed_write_of_the_file_has_reason_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No partial file is left."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    with pytest.raises(OperatorError) as caught:
        show_onboarding(session(), Showing(file=blocked / "x.json"))
    assert "--show-secret --all" in caught.value.problems[0].remedy

    def full(_path: Path, _text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_private", full)
    with pytest.raises(OperatorError, match="No space left on device"):
        show_onboarding(session(), Showing())
    assert capsys.readouterr().out.count(PLACE.id) == 2
    assert not usual().exists()
