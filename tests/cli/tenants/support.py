"""A cloud of the tool's registry whose deployment serves tenants: its registry, rows and rounds are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from cli import clouds
from cli.deployment.model import Finding
from cli.deployment.tenants import Invitation
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from shared.state.store import Blob, Conflict
from shared.tenants.registry import Field, Rules, Tenant, encode_registry
from shared.tenants.rows import ROWS, Row
from tests.cli.support.fakes import FakeFunction, install

ROLE = "arn:aws:iam::{}:role/tailpipe-exports"
SECRET = "arn:aws:secretsmanager:eu-west-1:999988887777:secret:{}-AbCdEf"
RULES = Rules(
    "aws",
    entry={
        "role_arn": Field("TENANT_ROLE", r"arn:aws:iam::[0-9]{12}:role/[\w-]+", "the ARN of a role", required=True),
        "external_id": Field(
            "TENANT_SECRET",
            r"arn:aws:secretsmanager:[\w/:-]+",
            "the ARN of a secret in Secrets Manager",
            required=True,
            reference=True,
        ),
    },
    destination={"bucket": Field("EXPORT_BUCKET", r"[a-z0-9.-]{3,63}", "the name of a bucket")},
    settings=frozenset({"EXPORTS", "CALLS_AT_ONCE"}),
    own=frozenset({"NOTIFY_URL"}),
    identity=lambda tenant: f"account {tenant.entry.get('role_arn', '::::').split(':')[4]}",
    unique=("external_id",),
)


def entry(tenant: str, account: int, **more: Any) -> dict[str, Any]:
    """Return a valid entry as it is written."""
    given = {"role_arn": ROLE.format(f"{account:012d}"), "external_id": SECRET.format(tenant)}
    return {"id": tenant, "cloud": "aws", "entry": given, **more}


@dataclass
class MemoryRegistry:
    """A stored registry. `before_save` is called once before the next write: another operator's edit."""

    data: bytes | None = None
    version: int = 0
    before_save: Callable[[], None] | None = None
    size: int = 0
    place: str = "s3://provider/registry/tenants.json"

    def load(self, limit: int) -> Blob:
        if self.data is None:
            return Blob()
        size = self.size or len(self.data)
        return Blob(self.data if size <= limit else b"", str(self.version), size)

    def save(self, data: bytes, version: str | None) -> str:
        if self.before_save is not None:
            first, self.before_save = self.before_save, None
            first()
        if version != (None if self.data is None else str(self.version)):
            raise Conflict
        self.write(data)
        return str(self.version)

    def write(self, data: bytes) -> None:
        self.data, self.version = data, self.version + 1


@dataclass
class MemoryDocuments:
    """Rows and reports of rounds. `read` lists the names of what was loaded."""

    stored: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)

    def load(self, limit: int, document: str) -> Blob:
        self.read.append(document)
        data, _ = self.stored.get(document, (b"", None))
        return Blob(data if len(data) <= limit else b"", "1" if document in self.stored else None, len(data))

    def put(self, document: str, data: bytes, content_type: str) -> str:
        self.stored[document] = (data, datetime.now(UTC))
        return document

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        yield from ((name, at) for name, (_, at) in self.stored.items() if name.startswith(prefix))

    def add_row(self, tenant: str, status: str = "ok", at: datetime | None = None, **fields: Any) -> Row:
        """Store the row of a tenant that ended at a time, now by default."""
        ended = at or datetime.now(UTC)
        text = f"{ended:%Y-%m-%dT%H:%M:%SZ}"
        counts = {"active": 10, "covered": 10 if status == "ok" else 7}
        row = Row(tenant, status, text, text, text, scopes=fields.pop("scopes", counts), **fields)
        self.stored[f"{ROWS}{tenant}.json"] = (msgspec.json.encode(row), ended)
        return row


@dataclass
class FakeTenants:
    """The tenant port of a cloud. `findings` and `proposals` are what it returns; `checked` whom it checked."""

    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    stored: MemoryDocuments = field(default_factory=MemoryDocuments)
    findings: Sequence[Finding] = (Finding("the role can be assumed", ok=True),)
    proposals: Sequence[Tenant] = ()
    checked: list[tuple[str, list[str]]] = field(default_factory=list)
    error: Exception | None = None
    RULES: Rules = RULES

    def registry_store(self, environment: Mapping[str, str], sink: Sink, clock: Clock) -> MemoryRegistry:
        return self.registry

    def documents(self, environment: Mapping[str, str], sink: Sink, clock: Clock) -> MemoryDocuments:
        return self.stored

    def check(
        self,
        tenant: Tenant,
        others: Sequence[Tenant],
        environment: Mapping[str, str],
        sink: Sink,
        clock: Clock,
    ) -> list[Finding]:
        self.checked.append((tenant.id, [one.id for one in others]))
        if self.error is not None:
            raise self.error
        return list(self.findings)

    def invite(self, tenant: Tenant, environment: Mapping[str, str]) -> Invitation:
        link = f"https://console.aws.amazon.com/cloudformation/quickcreate?param_Tenant={tenant.id}"
        return Invitation("Open this link in the tenant's account.", link, {"role.yaml": "Resources: {}\n"})

    def remaining(self, tenant: Tenant) -> list[str]:
        return [f"the exports of {tenant.id} go on delivering; delete them in its account"]

    def discover(self, environment: Mapping[str, str], sink: Sink, clock: Clock) -> list[Tenant]:
        return list(self.proposals)


def serve(monkeypatch: pytest.MonkeyPatch, *entries: Any, function: FakeFunction | None = None) -> FakeTenants:
    """Let the tool's AWS entry serve tenants from memory, with these entries in its registry."""
    port = FakeTenants()
    if entries:
        port.registry.write(encode_registry(entries))
    install(monkeypatch, function or FakeFunction())
    served = replace(clouds.CLOUDS["aws"], tenants=lambda: cast("Any", port))
    monkeypatch.setitem(clouds.CLOUDS, "aws", served)
    return port
