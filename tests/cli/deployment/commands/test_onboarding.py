"""What Tailpipe needs to connect: short and without secrets on standard output, whole in a file of the operator's."""

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
    """Stands for a cloud whose onboarding document is this one."""

    secrets = (("tailpipe", "externalId"), ("absent", "key"))

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    place = PLACE

    def onboarding(self) -> Mapping[str, Any]:
        return self.document


def session(document: Mapping[str, Any] = WHOLE) -> Session:
    """Return a command at work on a screen of its own."""
    operator: Any = Operator(document)
    return Session(CLOUDS["aws"], operator, Console(file=io.StringIO(), width=4000))


def said(at: Session) -> str:
    """Return what people see."""
    assert isinstance(at.screen.file, io.StringIO)
    return at.screen.file.getvalue()


def usual() -> Path:
    """Return the command's default file."""
    return default_file("aws", PLACE.id, os.environ)


def mode(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_and_long_lists_go_to_a_private_file_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """2,000 subscriptions are a number and examples, the secret is a hint; the file, mode 0600, has all of it."""
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
    assert str(usual()) in said(at)
    assert SECRET not in text + said(at)


@pytest.mark.parametrize(
    ("showing", "secret", "whole"),
    [(Showing(secrets=True), True, False), (Showing(everything=True), False, True)],
    ids=["show-secret", "all"],
)
def test_each_is_printed_where_it_is_asked_for(
    showing: Showing, secret: bool, whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """--show-secret shows the secret and no long list, --all the lists and no secret."""
    show_onboarding(session(), showing)
    text = capsys.readouterr().out
    assert (SECRET in text, SUBSCRIPTIONS[-1] in text) == (secret, whole)


def test_no_file_is_made_where_standard_output_has_all(capsys: pytest.CaptureFixture[str]) -> None:
    """With both flags, or where there is neither secret nor long list, nothing is written."""
    show_onboarding(session(), Showing(secrets=True, everything=True))
    assert json.loads(capsys.readouterr().out) == WHOLE
    plain = {"tenantId": "t", "tailpipe": {"externalId": None}}
    show_onboarding(session(plain), Showing())
    assert json.loads(capsys.readouterr().out) == plain
    assert not usual().exists()


def test_an_older_document_of_the_same_place_is_replaced_and_reported(tmp_path: Path) -> None:
    """The same document leaves the file alone, a changed one replaces it, and the mode is made private again."""
    file = tmp_path / "chosen.json"
    show_onboarding(session(), Showing(file=file))
    file.chmod(0o644)
    again = session()
    show_onboarding(again, Showing(file=file))
    assert mode(file) == 0o600
    unchanged = session()
    show_onboarding(unchanged, Showing(file=file))
    assert "is unchanged in" in said(unchanged)
    changed = {**WHOLE, "few": []}
    at = session(changed)
    show_onboarding(at, Showing(file=file))
    assert json.loads(file.read_text()) == changed
    assert "is new in" in said(at)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["chosen.json"]


@pytest.mark.parametrize(
    "content",
    ["", "a note", "[]", json.dumps({"awsAccountNumber": PLACE.id}), json.dumps({**WHOLE, "awsAccountNumber": "2"})],
    ids=["empty", "text", "list", "other-keys", "other-place"],
)
def test_a_file_that_holds_something_else_is_kept(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named with what to do, the document is printed all the same, and no secret is in the message."""
    file = tmp_path / "notes"
    file.write_text(content)
    with pytest.raises(OperatorError) as caught:
        show_onboarding(session(), Showing(file=file))
    assert f"{file} exists and holds other content" in str(caught.value)
    assert SECRET not in repr(caught.value.problems)
    assert file.read_text() == content
    assert json.loads(capsys.readouterr().out)["awsAccountNumber"] == PLACE.id


def test_a_link_or_a_binary_file_is_never_written_through(tmp_path: Path) -> None:
    """A symbolic link could lead anywhere, and bytes are no document: both stay as they are."""
    target, link, binary = tmp_path / "target", tmp_path / "link", tmp_path / "binary"
    target.write_text(json.dumps(WHOLE))
    link.symlink_to(target)
    binary.write_bytes(b"\xff\xfe")
    for file in (link, binary):
        with pytest.raises(OperatorError, match="holds other content"):
            show_onboarding(session(), Showing(file=file))
    assert json.loads(target.read_text()) == WHOLE


def test_a_file_that_cannot_be_written_is_shown_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is a file, or a full disk: why, what to add, and no half-written file."""
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
