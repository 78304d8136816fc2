"""`tailpipe-exports tenants`: the registry is edited by compare-and-swap, and never overwritten if it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.deployment.model import Finding, OperatorError, Problem
from cli.main import main
from shared.errors import Transient
from shared.tenants.registry import MAX_BYTES, Tenant, encode_registry
from tests.cli.tenants.support import ROLE, SECRET, entry, serve

ADD = (
    "add",
    "aws",
    "acme",
    "--entry",
    f"role_arn={ROLE.format('1' * 12)}",
    "--entry",
    f"external_id={SECRET.format('a')}",
)
LITERAL = "s3cret-external-id-0123456789"


def tenants(*arguments: str, stdin: str = "") -> Result:
    """Call a command of `tenants`."""
    return CliRunner().invoke(main, ["tenants", *arguments], input=stdin)


def written(data: bytes | None) -> dict[str, Any]:
    """Return the entries of a stored registry by their ids."""
    assert data is not None
    return {one["id"]: one for one in json.loads(data)["tenants"]}


def test_add_writes_the_entry_and_names_the_next_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first tenant creates the registry; labels, settings and destination are written as given."""
    port = serve(monkeypatch)
    more = ("--name", "Acme", "--label", "group=north", "--set", "EXPORTS=cur2", "--destination", "bucket=acme-exports")
    result = tenants(*ADD, *more, "--paused")
    assert result.exit_code == 0, result.output
    assert written(port.registry.data) == {
        "acme": {
            "id": "acme",
            "cloud": "aws",
            "name": "Acme",
            "entry": {"role_arn": ROLE.format("1" * 12), "external_id": SECRET.format("a")},
            "destination": {"bucket": "acme-exports"},
            "settings": {"EXPORTS": "cur2"},
            "labels": {"group": "north"},
            "paused": True,
        }
    }
    assert "tailpipe-exports tenants invite aws acme" in result.stdout
    assert "tailpipe-exports tenants check aws acme" in result.stdout


def test_add_replaces_an_entry_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --replace, the known tenant is kept as it is."""
    port = serve(monkeypatch, entry("acme", 5), entry("other", 6))
    before = port.registry.data
    assert tenants(*ADD).exit_code == 1
    assert port.registry.data == before
    assert tenants(*ADD, "--replace").exit_code == 0
    found = written(port.registry.data)
    assert list(found) == ["acme", "other"]
    assert found["acme"]["entry"]["role_arn"] == ROLE.format("1" * 12)


def test_entries_of_a_file_are_added_together_or_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A registry, a list and one entry are accepted, from a file or standard input; one wrong entry refuses all."""
    port = serve(monkeypatch)
    file = tmp_path / "new.json"
    file.write_text(json.dumps([entry("one", 1), entry("two", 2)]), encoding="utf-8")
    assert tenants("add", "aws", "--from", str(file)).exit_code == 0
    assert (
        tenants("add", "aws", "--from", "-", stdin=json.dumps({"version": 1, "tenants": [entry("three", 3)]})).exit_code
        == 0
    )
    assert tenants("add", "aws", "--from", "-", stdin=json.dumps(entry("four", 4))).exit_code == 0
    before = port.registry.data
    result = tenants("add", "aws", "--from", "-", stdin=json.dumps([entry("five", 5), entry("six", 1)]))
    assert result.exit_code == 1
    assert "six: enters account 000000000001" in result.stderr
    assert port.registry.data == before
    assert list(written(before)) == ["one", "two", "three", "four"]


# Each is a command that must write nothing, and what its message has to say.
REFUSED = {
    "literal secret": (
        ("add", "aws", "acme", "--entry", f"role_arn={ROLE.format('1' * 12)}", "--entry", f"external_id={LITERAL}"),
        "external_id: its value is not the ARN of a secret",
    ),
    "secret without a name": (
        ("add", "aws", "acme", "--entry", LITERAL),
        "--entry number 1 is not of the form NAME=VALUE",
    ),
    "value given twice": ((*ADD, "--label", "a=1", "--label", "a=2"), "--label a is given twice"),
    "unknown field": ((*ADD, "--entry", f"password={LITERAL}"), "unknown key 'password'"),
    "required field": (("add", "aws", "acme"), "role_arn is required"),
    "setting that is not a tenant's": ((*ADD, "--set", "AWS_ENDPOINT_URL=http://x"), "may not be set for a tenant"),
    "invalid id": (("add", "aws", "Acme!", *ADD[3:]), "'id' is"),
    "second entry of a payer": (
        (
            "add",
            "aws",
            "again",
            "--entry",
            f"role_arn={ROLE.format('000000000005')}",
            "--entry",
            f"external_id={SECRET.format('b')}",
        ),
        "enters account 000000000005, as another one does",
    ),
    "secret of another tenant": (
        (
            "add",
            "aws",
            "again",
            "--entry",
            f"role_arn={ROLE.format('1' * 12)}",
            "--entry",
            f"external_id={SECRET.format('known')}",
        ),
        "external_id is the same as that of another tenant",
    ),
    "known tenant": (("add", "aws", "known", *ADD[3:]), "tenant known is in the registry already"),
    "tenant of another cloud": (("pause", "aws", "elsewhere"), "is one of gcp, not of aws"),
    "unknown tenant": (("pause", "aws", "nothing"), "tenant nothing is not in the registry"),
    "two unknown tenants": (("remove", "aws", "no", "none", "--yes"), "tenant none is not in the registry"),
    "removal without a terminal": (("remove", "aws", "known"), "not running in a terminal"),
    "file that is not JSON": (("add", "aws", "--from", "-"), "is not valid JSON"),
    "no tenant": (("add", "aws"), "name one TENANT"),
    "tenant and file": (("add", "aws", "acme", "--from", "-"), "name one TENANT"),
    "options and file": (("add", "aws", "--from", "-", "--name", "x"), "remove the options of a single one"),
    "label for proposals": (("list", "aws", "--discovered", "--group-by", "x"), "cannot be combined"),
    "unknown tenant to check": (("check", "aws", "nothing"), "no tenant nothing of AWS is registered"),
    "unknown tenant to invite": (("invite", "aws", "nothing"), "no tenant nothing of AWS is registered"),
    "unknown tenant to show": (("show", "aws", "nothing"), "no tenant nothing of AWS is registered"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_without_writing(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what is wrong, a secret is never quoted, and the stored registry is the same."""
    port = serve(monkeypatch, entry("known", 5), {"id": "elsewhere", "cloud": "gcp", "entry": {}})
    before = port.registry.data
    result = tenants(*arguments, "--json")
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert LITERAL not in result.output
    assert port.registry.data == before
    assert json.loads(result.stdout)["error"]["problems"]


def test_every_fault_is_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three mistakes in one command are three problems."""
    serve(monkeypatch)
    result = tenants("add", "aws", "acme", "--entry", "role_arn=x", "--set", "NO=1", "--json")
    problems = [one["what"] for one in json.loads(result.stdout)["error"]["problems"]]
    assert len(problems) == 3
    assert all(one.startswith("acme: ") for one in problems)


# A stored document that no command may write over: its bytes, the size that the store reports, and the message.
WHOLE = {
    "damaged": (b"\xff{", 0, "is not valid JSON"),
    "no registry": (b"[]", 0, "is list, not an object"),
    "later version": (b'{"version": 2, "tenants": []}', 0, "a later release wrote it"),
    "50 MB": (b"{}", 50_000_000, f"50000000 bytes, more than {MAX_BYTES}"),
    "deep": (b"[" * 100_000, 0, "is not valid JSON"),
    "unknown key": (b'{"version": 1, "tenants": [], "more": 1}', 0, "unknown key 'more'"),
}


@pytest.mark.parametrize(
    "arguments", [ADD, ("pause", "aws", "acme"), ("remove", "aws", "acme", "--yes"), ("list", "aws")]
)
@pytest.mark.parametrize(("data", "size", "message"), WHOLE.values(), ids=WHOLE)
def test_unusable_registry_is_never_overwritten(
    data: bytes, size: int, message: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command refuses it, and says how to go on."""
    port = serve(monkeypatch)
    port.registry.write(data)
    port.registry.size = size
    result = tenants(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Correct or restore the document" in result.stderr
    assert port.registry.data == data


def edits(port: Any, entries: list[Any]) -> Callable[[], None]:
    """Return another operator's edit."""
    return lambda: port.registry.write(encode_registry(entries))


def test_concurrent_edit_of_another_tenant_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both edits are in the registry afterwards."""
    port = serve(monkeypatch, entry("known", 5))
    port.registry.before_save = edits(port, [entry("known", 5, paused=True), entry("theirs", 6)])
    assert tenants(*ADD).exit_code == 0
    found = written(port.registry.data)
    assert list(found) == ["known", "theirs", "acme"]
    assert found["known"]["paused"]


@pytest.mark.parametrize(
    ("arguments", "theirs", "message"),
    [
        (
            ("pause", "aws", "known"),
            [entry("known", 7)],
            "tenant known was changed by another operator at the same time",
        ),
        (("remove", "aws", "known", "--yes"), [], "tenant known was changed by another operator at the same time"),
        (ADD, [entry("acme", 8)], "tenant acme was changed by another operator at the same time"),
        (ADD, [entry("other", 111111111111)], "acme: enters account 111111111111, as another one does"),
    ],
)
def test_concurrent_edit_of_the_same_tenant_is_refused(
    arguments: tuple[str, ...], theirs: list[Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other operator's edit stays; one sentence says so."""
    port = serve(monkeypatch, entry("known", 5))
    port.registry.before_save = edits(port, theirs)
    result = tenants(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert port.registry.data == encode_registry(theirs)


def test_registry_that_changes_all_the_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some tries the command ends, and says to call again."""
    port = serve(monkeypatch, entry("known", 5))

    def edit() -> None:
        port.registry.write(
            encode_registry([entry("known", 5), entry(f"t{port.registry.version}", 100 + port.registry.version)])
        )
        port.registry.before_save = edit

    port.registry.before_save = edit
    result = tenants(*ADD)
    assert (result.exit_code, "was changed 5 times meanwhile" in result.stderr) == (1, True)
    assert "acme" not in written(port.registry.data)


def test_wrong_entry_of_another_tenant_stops_no_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own faults are kept with it, it can be removed, and a list shows it as refused."""
    port = serve(monkeypatch, {"id": "wrong", "cloud": "aws", "typo": 1}, 7, entry("known", 5))
    assert tenants("pause", "aws", "known").exit_code == 0
    assert tenants(*ADD).exit_code == 0
    listed = json.loads(tenants("list", "aws", "--json").stdout)["tenants"]
    assert {one["id"]: one["status"] for one in listed} == {
        "acme": "not_run",
        "known": "paused",
        "tenants[1]": "refused",
        "wrong": "refused",
    }
    assert tenants("remove", "aws", "wrong", "--yes").exit_code == 0
    assert port.registry.data is not None
    assert [one["id"] if isinstance(one, dict) else one for one in json.loads(port.registry.data)["tenants"]] == [
        7,
        "known",
        "acme",
    ]


def test_pause_and_resume_leave_the_rest_of_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the field `paused` comes and goes."""
    port = serve(monkeypatch, entry("one", 1), entry("two", 2, labels={"group": "north"}))
    assert tenants("pause", "aws", "two", "one", "two").exit_code == 0
    assert all(one["paused"] for one in written(port.registry.data).values())
    assert tenants("resume", "aws", "one", "two").exit_code == 0
    assert port.registry.data == encode_registry([entry("one", 1), entry("two", 2, labels={"group": "north"})])


def test_remove_says_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the tenant's cloud is deleted, and the command says how to do it."""
    port = serve(monkeypatch, entry("one", 1), entry("two", 2))
    result = tenants("remove", "aws", "one", "--yes")
    assert result.exit_code == 0
    assert "the exports of one go on delivering" in result.stderr
    assert list(written(port.registry.data)) == ["two"]
    document = json.loads(tenants("remove", "aws", "two", "--yes", "--json").stdout)
    assert document["remaining"]["two"] == ["the exports of two go on delivering; delete them in its account"]


def test_registry_in_a_file_needs_no_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is created, edited through a link, and never overwritten if it is wrong."""
    port = serve(monkeypatch)
    target, link = tmp_path / "tenants.json", tmp_path / "link.json"
    link.symlink_to(target)
    assert tenants(*ADD, "--registry", str(link)).exit_code == 0
    assert tenants("pause", "aws", "acme", "--registry", str(target)).exit_code == 0
    assert link.is_symlink()
    assert written(target.read_bytes())["acme"]["paused"]
    assert "paused" in tenants("list", "aws", "--registry", str(link)).stdout
    assert port.registry.data is None
    target.write_text("{", encoding="utf-8")
    assert tenants("resume", "aws", "acme", "--registry", str(target)).exit_code == 1
    assert target.read_text(encoding="utf-8") == "{"
    missing = tenants(*ADD, "--registry", str(tmp_path / "no" / "such.json"))
    assert (missing.exit_code, "No such file or directory" in missing.stderr) == (1, True)


def test_list_shows_the_newest_row_of_each_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, covered, age and the first failure; grouped by a label if asked."""
    port = serve(
        monkeypatch,
        entry("one", 1, labels={"group": "north"}, name="One Ltd"),
        entry("two", 2, labels={"group": "south"}),
        entry("new", 3),
    )
    failure = {"code": "tenant-unreachable", "message": "AccessDenied", "remedy": "Accept the invitation."}
    port.stored.add_row("one")
    port.stored.add_row("two", "unreachable", scopes={}, failures=(failure,))
    lines = tenants("list", "aws").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["new", "not_run"], ["one", "ok"], ["two", "unreachable"]]
    assert "(tenant-unreachable)" in lines[3]
    assert "10/10" in lines[2]
    assert "0 min ago" in lines[2]
    assert lines[-1] == "3 tenants on AWS: 1 not run, 1 ok, 1 unreachable"
    by_label = tenants("list", "aws", "--group-by", "group").stdout.splitlines()
    assert [line for line in by_label if line.startswith(("group", "without"))] == [
        "group = north",
        "group = south",
        "without group",
    ]


def test_show_has_entry_faults_and_last_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that stands where a reference belongs is not shown."""
    wrong = entry("wrong", 2)
    wrong["entry"]["external_id"] = LITERAL
    port = serve(monkeypatch, entry("one", 1), wrong)
    failure = {"code": "Denied", "message": "not allowed", "remedy": "Grant it."}
    port.stored.add_row("one", "degraded", failures=(failure,), run_id="r-1", calls={"sts": 2})
    result = tenants("show", "aws", "one")
    assert result.exit_code == 0
    assert all(part in result.stdout for part in (ROLE.format("000000000001"), "Denied  not allowed", "→ Grant it."))
    assert port.stored.read == ["rows/one.json"]
    result = tenants("show", "aws", "wrong")
    assert result.exit_code == 1
    assert "its value is not the ARN of a secret" in result.stdout
    assert LITERAL not in result.output + tenants("show", "aws", "wrong", "--json").output


def test_check_looks_at_every_tenant_though_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is checked against all others; errors and wrong entries are findings."""
    port = serve(monkeypatch, entry("one", 1), entry("two", 2), {"id": "wrong", "cloud": "aws"})
    assert tenants("check", "aws", "one").exit_code == 0
    assert port.checked == [("one", ["two"])]
    result = tenants("check", "aws", "--json")
    assert result.exit_code == 1
    found = {one["id"]: one["findings"] for one in json.loads(result.stdout)["tenants"]}
    assert [one["ok"] for one in found["wrong"]] == [False, False]
    assert [one["ok"] for one in found["two"]] == [True]
    for error in (OperatorError(Problem("no credentials", "Log in.")), Transient("Timeout", "no answer", "Try again.")):
        port.error = error
        document = json.loads(tenants("check", "aws", "two", "--json").stdout)
        assert [one["ok"] for one in document["tenants"][0]["findings"]] == [False]
        assert document["tenants"][0]["findings"][0]["remedy"]


def test_check_that_may_not_look_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `doctor`, unknown is not missing."""
    port = serve(monkeypatch, entry("one", 1))
    port.findings = [Finding("the role refuses another External ID", ok=None, detail="you may not read the secret")]
    assert tenants("check", "aws").exit_code == 0


def test_invite_prints_link_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are printed, or written to a folder."""
    serve(monkeypatch, entry("one", 1))
    result = tenants("invite", "aws", "one")
    assert "quickcreate?param_Tenant=one" in result.stdout
    assert "Resources: {}" in result.stdout
    result = tenants("invite", "aws", "one", "--out", str(tmp_path / "new"))
    assert "Resources: {}" not in result.stdout
    assert (tmp_path / "new" / "role.yaml").read_text(encoding="utf-8") == "Resources: {}\n"
    document = json.loads(tenants("invite", "aws", "one", "--json").stdout)
    assert sorted(document) == ["cloud", "files", "id", "link", "text"]


def test_discovered_tenants_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known one is left out, a taken id is changed, and the document is what `add --from` accepts."""
    port = serve(monkeypatch, entry("one", 1))
    given = {"role_arn": ROLE.format("000000000001"), "external_id": SECRET.format("x")}
    new = {"role_arn": ROLE.format("000000000002"), "external_id": SECRET.format("y")}
    port.proposals = [Tenant("one", "aws", entry=given), Tenant("one", "aws", "Two", entry=new)]
    result = tenants("list", "aws", "--discovered", "--json")
    assert [one["id"] for one in json.loads(result.stdout)["tenants"]] == ["one-2"]
    assert tenants("add", "aws", "--from", "-", stdin=result.stdout).exit_code == 0
    assert written(port.registry.data)["one-2"]["name"] == "Two"
    assert (
        "knows 0 tenants that the registry does not; 2 more are registered"
        in tenants("list", "aws", "--discovered").stdout
    )
