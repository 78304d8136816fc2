"""A broken export appears in a message, in the status and on the page of each cloud, until it is fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from azure_function.clients import drop_clients
from cli.clouds import CLOUDS
from cli.main import main
from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import NOTIFY_SECRET as AZURE_SECRET
from localcloud.azure.quotas import UNLIMITED
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.names import NOTIFY_SECRET as GCP_SECRET
from shared.request import RunRequest
from shared.runtime.clock import SystemClock
from tests.aws_lambda.support import Lines
from tests.canaries import WEBHOOK_PATH
from tests.shared.notify.receiver import Receiver, receiving


class Deployed(NamedTuple):
    """A deployed function, and one of its scopes that breaks with a code."""

    environment: dict[str, str]
    secret: str
    scope: str
    code: str
    what: str
    breaks: Callable[[], object]
    fixes: Callable[[], object]
    own: Mapping[str, str] = {}  # variables of the function alone
    flags: tuple[str, ...] = ()  # of the tool


@contextmanager
def on_aws(url: str) -> Iterator[Deployed]:
    """Delete the export, and deny its creation."""
    with LocalAws(accounts=2) as cloud:
        arn = cloud.client("secretsmanager").create_secret(Name="tailpipe-webhook", SecretString=url)["ARN"]

        def breaks() -> None:
            cloud.delete_export("tailpipe-dataexport")
            cloud.deny("bcm-data-exports:CreateExport")

        fixes = lambda: cloud.allow("bcm-data-exports:CreateExport")  # noqa: E731 - the pair of `breaks`
        flags = ("--without-deployment",)
        yield Deployed(cloud.environment(), arn, cloud.account, "access-denied", "failure", breaks, fixes, flags=flags)


@contextmanager
def on_azure(url: str) -> Iterator[Deployed]:
    """Delete an export, and deny its creation by Azure Policy."""
    with LocalAzure(subscriptions=2, limits=UNLIMITED) as cloud:
        cloud.world.secrets[AZURE_SECRET] = url
        scope = cloud.subscription_ids[1]

        def breaks() -> None:
            cloud.delete_export(scope)
            cloud.deny_by_policy(scope)

        vault = cloud.world.vault.rpartition("/")[2]
        secret = f"https://{vault}.vault.azure.net/secrets/{AZURE_SECRET}"
        yield Deployed(
            cloud.environment(),
            secret,
            scope,
            "policy-denied",
            "manual",
            breaks,
            lambda: cloud.exempt_from_policy(scope),
            cloud.keyless(),
        )
    drop_clients()


@contextmanager
def on_gcp(url: str) -> Iterator[Deployed]:
    """Delete a billing account's table; Google creates it again with the next rows."""
    with LocalGcp(accounts=2, done=2, history_days=1, rows=3) as cloud:
        cloud.iam.grant(
            cloud.deployment.identity, "secretmanager.versions.access", f"projects/{cloud.project}", at_once=True
        )
        cloud.world.secrets[GCP_SECRET] = [url]
        scope = next(iter(cloud.accounts()))
        secret = f"projects/{cloud.project}/secrets/{GCP_SECRET}"
        yield Deployed(
            cloud.environment(),
            secret,
            scope,
            "table-lost",
            "manual",
            lambda: cloud.delete_table(scope),
            lambda: cloud.stream(days=1, rows=1, accounts=[scope]),
        )


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def events(receiver: Receiver) -> list[str]:
    """Return the events of the messages received since the last call, sorted."""
    found = [".".join(one["type"].split(".")[3:5]) for one in receiver.documents()]
    receiver.got.clear()
    return sorted(found)


OPENS: Mapping[str, Callable[[str], AbstractContextManager[Deployed]]] = {
    "aws": on_aws,
    "azure": on_azure,
    "gcp": on_gcp,
}


@pytest.mark.parametrize("name", OPENS)
def test_broken_export_appears_in_message_status_and_page_until_fixed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function runs, and the operator reads what it stored: before, while the export is broken, and after."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with receiving() as receiver, OPENS[name](f"{receiver.url}/services/{WEBHOOK_PATH}") as deployed:
        for variable, value in deployed.environment.items():
            monkeypatch.setenv(variable, value)
        environment = {**deployed.environment, **deployed.own, "NOTIFY_URL": deployed.secret, "PUBLISH_PAGE": "1"}
        page, said = tmp_path / "page.html", ""

        def look() -> tuple[Result, str, list[str]]:
            nonlocal said
            lines = Lines()
            CLOUDS[name].run_once()(RunRequest(verify_all=True), environment, lines, SystemClock(), 600)
            status = tailpipe("status", name, *deployed.flags)
            built = tailpipe("page", name, "--out", str(page), *deployed.flags)
            shown = page.read_text(encoding="utf-8")
            said += lines.text() + status.output + built.output + shown
            return status, shown, events(receiver)

        status, shown, sent = look()
        assert (status.exit_code, sent) == (0, []), status.output
        deployed.breaks()
        status, shown, sent = look()
        assert status.exit_code == (1 if deployed.what == "failure" else 2), status.output
        assert sent == [f"{deployed.what}.opened"]
        for text in (status.stdout, shown):
            assert deployed.code in text
            assert deployed.scope in text
        deployed.fixes()
        status, shown, sent = look()
        assert (status.exit_code, sent) == (0, [f"{deployed.what}.closed"]), status.output
        for text in (status.stdout, shown):
            assert "2 of 2 covered." in text
        assert "aVerySecretPart99" not in said
