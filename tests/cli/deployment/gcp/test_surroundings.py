"""Obstacles to a Google Cloud deployment: issuer, policies, perimeters; and who can take the console step."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from cli.deployment.gcp.issuer import issuer_finding
from cli.deployment.gcp.operator import GcpOperator
from cli.deployment.gcp.rest import Google
from cli.deployment.gcp.surroundings import CONSTRAINTS, permits
from cli.deployment.model import Finding
from cli.main import main
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR

Answers = dict[str, tuple[int, dict[str, str], bytes]]


@pytest.fixture
def gcp(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a deployment whose function is not run, with the operator's variables set."""
    with LocalGcp(accounts=3, done=1) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        yield cloud


@pytest.fixture
def issuer() -> Iterator[tuple[str, Answers, list[str]]]:
    """Serve an issuer on loopback; return its address, its responses by path, and the requested paths."""
    answers: Answers = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's word
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", answers, asked
        server.shutdown()
        thread.join()


def around(given: dict[str, Any] | None = None) -> list[Finding]:
    """Return doctor's findings about the surroundings."""
    return GcpOperator.open({}).surroundings(given or {})


def about(found: list[Finding], words: str) -> Finding:
    """Return the only finding with these words."""
    (one,) = [one for one in found if words in one.what]
    return one


# The trusted issuer


def test_doctor_reads_the_issuer_of_the_live_provider(gcp: LocalGcp) -> None:
    """No value has to be given."""
    assert about(around(), "issuer").ok is True
    name = f"projects/{gcp.project}/locations/global/workloadIdentityPools/tailpipe-pool/providers/tailpipe-provider"
    provider = gcp.resource(name)
    other = provider["oidc"] | {"issuerUri": gcp.world.issuer + "/"}
    gcp.put_resource(name, provider | {"oidc": other})
    wrong = about(around(), "issuer")
    assert wrong.ok is False
    assert f"says that the issuer is '{gcp.world.issuer}'" in wrong.detail
    assert "Tailpipe's onboarding page" in wrong.remedy


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {}, b'{"issuer": "https://other.example.com"}'), "'https://other.example.com'"),
        ((200, {}, b"{}"), "None"),
        ((200, {}, b"[1]"), "None"),
        ((200, {}, b"<html>sign in</html>"), "not a JSON document"),
        ((200, {}, b""), "not a JSON document"),
        ((200, {}, b'{"issuer": ["ISSUER"]}'), "ISSUER"),
        ((404, {}, b"{}"), "404"),
        ((302, {"Location": "/elsewhere"}, b""), "redirects are not followed"),
        ((307, {"Location": "http://169.254.169.254/"}, b""), "redirects are not followed"),
    ],
)
def test_invalid_response_of_an_issuer_is_reported(
    gcp: LocalGcp, issuer: tuple[str, Answers, list[str]], answer: tuple[int, dict[str, str], bytes], words: str
) -> None:
    """This covers another issuer, none, an HTML page, an error and a redirect; no other URL is requested."""
    address, answers, asked = issuer
    answers["/.well-known/openid-configuration"] = answer
    answers["/elsewhere"] = (200, {}, json.dumps({"issuer": address}).encode())
    found = issuer_finding(Google(), address)
    assert (found.ok, words in found.detail) == (False, True), found
    assert asked == ["/.well-known/openid-configuration"]


def test_issuer_with_a_path_or_trailing_slash_is_read_at_the_standard_url(
    gcp: LocalGcp, issuer: tuple[str, Answers, list[str]]
) -> None:
    """The URL omits the trailing slash; the names are compared unchanged."""
    address, answers, _ = issuer
    for written in (f"{address}/realms/one", f"{address}/realms/two/"):
        path = written.removeprefix(address).rstrip("/")
        answers[f"{path}/.well-known/openid-configuration"] = (200, {}, json.dumps({"issuer": written}).encode())
        assert issuer_finding(Google(), written).ok is True


@pytest.mark.parametrize(
    "address",
    [
        "http://issuer.example.com",
        "https://user@issuer.example.com",
        "https://issuer.example.com?x=1",
        "ftp://issuer.example.com",
        "issuer.example.com",
        "https://issuer.example.com:port",
        "",
    ],
)
def test_invalid_issuer_address_is_refused_without_a_request(gcp: LocalGcp, address: str) -> None:
    """Only https without user, query and fragment is requested, and loopback only in a local cloud."""
    assert issuer_finding(Google(), address).ok is False


@pytest.mark.parametrize(
    "found", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "fd00::1", "::1", "100.64.0.1"]
)
def test_issuer_with_a_private_address_is_refused_without_a_request(
    gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    """Its DNS must not make this machine call its internal network."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    kind = socket.AF_INET6 if ":" in found else socket.AF_INET
    entry = (kind, socket.SOCK_STREAM, 6, "", (found, 443))
    google = Google()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [entry])
    refused = issuer_finding(google, "https://issuer.example.com")
    assert (refused.ok, found in refused.detail) == (False, True)


def test_deployment_with_an_invalid_issuer_ends_before_the_plan(gcp: LocalGcp) -> None:
    """The given issuer is read, unless requests are not allowed."""
    operator = GcpOperator.open({})
    wrong = operator.preflight({"tailpipe_issuer": f"{gcp.endpoint}/_local/another"})
    assert about(wrong, "issuer").ok is False
    assert about(operator.preflight({"tailpipe_issuer": gcp.world.issuer}), "issuer").ok is True
    unread = operator.preflight({"tailpipe_issuer": "https://issuer.example.com", "check_issuer": False})
    assert not [one for one in unread if "issuer" in one.what]


# Organization policies and perimeters

DENY_ALL = {"listPolicy": {"allValues": "DENY"}}
POLICIES: dict[str, tuple[dict[str, Any], bool | None, str]] = {
    "iam.disableServiceAccountCreation": ({"booleanPolicy": {"enforced": True}}, None, "service account"),
    "iam.workloadIdentityPoolProviders": (
        {"listPolicy": {"allowedValues": ["https://token.actions.githubusercontent.com"]}}, False, "signs in",
    ),
    "gcp.resourceLocations": ({"listPolicy": {"allowedValues": ["in:eu-locations"]}}, None, "dataset_location us"),
    "gcp.restrictServiceUsage": (
        {"listPolicy": {"deniedValues": ["cloudfunctions.googleapis.com"]}}, False, "cloudfunctions.googleapis.com",
    ),
    "gcp.restrictNonCmekServices": (
        {"listPolicy": {"deniedValues": ["is:bigquery.googleapis.com"]}}, False, "customer-managed key",
    ),
    "storage.retentionPolicySeconds": ({"listPolicy": {"allowedValues": ["86400"]}}, False, "neither state nor"),
    "run.allowedIngress": ({"listPolicy": {"allowedValues": ["is:all"]}}, False, "ingress internal"),
    "cloudfunctions.allowedIngressSettings": (DENY_ALL, False, "ALLOW_INTERNAL_ONLY"),
    "iam.allowedPolicyMemberDomains": (
        {"listPolicy": {"allowedValues": ["C0123abcd"]}}, None, "billing-export-bigquery@system.gserviceaccount.com",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_obstructing_policy_is_reported_with_what_it_forbids(gcp: LocalGcp, name: str) -> None:
    """Each relevant constraint is read, and the finding has a link."""
    clear = about(around({"tailpipe_issuer": gcp.world.issuer}), "organization policies")
    assert (clear.ok, str(len(CONSTRAINTS)) in clear.detail) == (True, True)
    policy, ok, words = POLICIES[name]
    gcp.set_policy(name, policy)
    found = about(around({"tailpipe_issuer": gcp.world.issuer}), name)
    assert (found.ok, words in found.detail) == (ok, True), found
    assert "console.cloud.google.com/iam-admin/orgpolicies" in found.remedy


@pytest.mark.parametrize(
    ("policy", "answer"),
    [
        ({}, True),
        ({"listPolicy": {}}, True),
        ({"listPolicy": {"allValues": "ALLOW"}}, True),
        (DENY_ALL, False),
        ({"listPolicy": {"allowedValues": ["us"]}}, True),
        ({"listPolicy": {"allowedValues": ["is:US"]}}, True),
        ({"listPolicy": {"allowedValues": ["eu"]}}, False),
        ({"listPolicy": {"allowedValues": ["in:us-locations"]}}, None),
        ({"listPolicy": {"deniedValues": ["us"]}}, False),
        ({"listPolicy": {"deniedValues": ["eu"]}}, True),
        ({"listPolicy": {"deniedValues": ["in:us-locations"]}}, None),
        ({"listPolicy": {"allowedValues": ["us"], "deniedValues": ["us"]}}, False),
    ],
)
def test_list_policy_is_evaluated(policy: dict[str, Any], answer: bool | None) -> None:
    """Allowed and denied values, all and groups are supported; values that only Google can resolve are unknown."""
    assert permits(policy, "us") is answer


def test_policies_that_cannot_be_read_are_unknown(gcp: LocalGcp) -> None:
    """The finding names the role that can read them."""
    gcp.deny("orgpolicy.policy.get", identity=OPERATOR)
    found = about(around(), "organization policies")
    assert (found.ok, "roles/orgpolicy.policyViewer" in found.remedy) == (None, True)


@pytest.mark.parametrize("service", ["bigquery", "storage"])
def test_perimeter_that_refuses_the_caller_is_reported_with_its_identifier(gcp: LocalGcp, service: str) -> None:
    """It is detected before anything is created, and no role is suggested."""
    gcp.close_perimeter([f"{service}.googleapis.com"])
    found = about(around(), "VPC Service Controls")
    assert found.ok is False
    assert "ingress or egress rule" in found.remedy


# The console step


def test_doctor_lists_the_accounts_whose_console_step_the_caller_can_take(gcp: LocalGcp) -> None:
    """With permission on all of them this is one line."""
    assert about(around(), "you can switch exports on for 3 of 3").ok is True


def test_doctor_names_others_who_can_take_the_console_step(gcp: LocalGcp) -> None:
    """The missing role and the command that grants it are shown too."""
    first, second, third = gcp.accounts()
    for account in (first, second):
        gcp.deny("billing.accounts.updateUsageExportSpec", f"billingAccounts/{account}", OPERATOR)
    gcp.grant("roles/billing.costsManager", f"billingAccounts/{first}", "finops@example.com")
    found = around()
    named, unnamed = about(found, first), about(found, second)
    assert about(found, "you can switch exports on for 1 of 3").ok is True
    assert (named.ok, "finops@example.com can" in named.detail) == (None, True)
    assert (unnamed.ok, "Ask a Billing Account Administrator" in unnamed.remedy) == (None, True)
    assert f"gcloud billing accounts add-iam-policy-binding {first} --member=user:{OPERATOR}" in named.remedy
    assert "--role=roles/billing.costsManager" in named.remedy
    assert not [one for one in found if third in one.what]


@pytest.mark.parametrize(
    ("right", "role", "words"),
    [
        ("bigquery.datasets.create", "roles/bigquery.user", "usage exports"),
        ("resourcemanager.projects.update", "roles/editor", "the pricing export"),
    ],
)
def test_doctor_checks_the_console_steps_permissions_on_the_project(
    gcp: LocalGcp, right: str, role: str, words: str
) -> None:
    """Permissions on the account are not sufficient."""
    gcp.deny(right, identity=OPERATOR)
    found = about(around(), words)
    assert (found.ok, f"--role={role}" in found.remedy) == (None, True)


def test_doctor_document_has_permissions_and_surroundings(gcp: LocalGcp) -> None:
    """An obstacle exits with 1, an unknown one does not."""
    clear = CliRunner().invoke(main, ["doctor", "gcp", "--json"])
    document = json.loads(clear.stdout)
    assert clear.exit_code == 0
    assert {one["ok"] for one in document["surroundings"]} == {True}
    gcp.set_policy("storage.retentionPolicySeconds", {"listPolicy": {"allowedValues": ["86400"]}})
    blocked = CliRunner().invoke(main, ["doctor", "gcp"])
    assert blocked.exit_code == 1
    assert "storage.retentionPolicySeconds" in blocked.stderr
