"""Tenants: the usual run in another payer, with that payer's session, and the deployment's own state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from aws_lambda.handler import run_once
from aws_lambda.rounds import Fleet
from aws_lambda.settings import read_settings
from aws_lambda.targets import tenant_statement
from localcloud.aws.cloud import LocalAws
from localcloud.aws.iam.grants import policy
from shared.errors import RegistryError, RequestError, SettingsError
from shared.reconcile import RunResult
from shared.request import RunRequest
from tests.aws_lambda.support import action, local_aws, messages, outcome, run
from tests.aws_lambda.tenants import Provider, invoke
from tests.e2e.test_aws_reader import other_role
from tests.readers.aws import TAILPIPE_ACCOUNT, TAILPIPE_ROLE, assumed, client
from tests.shared.notify.receiver import receiving


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Return a deployment without tenants."""
    with local_aws(accounts=2) as cloud:
        yield Provider(cloud)


@pytest.fixture
def deployed(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """Return a deployment whose settings are in the environment, as in Lambda."""
    for name, value in provider.cloud.environment().items():
        monkeypatch.setenv(name, value)
    return provider


def test_run_of_a_tenant_covers_its_payer(provider: Provider) -> None:
    """Exports and bucket are the payer's; state and report are the deployment's, below the tenant's id."""
    payer = provider.add("acme")
    finished = provider.run("acme")
    assert finished.report["tenant"] == "acme"
    assert finished.report["failures"] == []
    assert provider.cloud.exports(account=payer) == {"tailpipe-dataexport": "HEALTHY"}
    assert provider.cloud.exports() == {}
    assert provider.cloud.world.buckets.owner(f"tailpipe-dataexport-{payer}") == payer
    kept = provider.stored()
    assert "state/tenants/acme/known_accounts.json" in kept
    assert finished.stored_as == f"s3://{provider.bucket}/runs/tenants/acme/{finished.report['run_id']}.json"
    assert not provider.cloud.world.buckets.keys(f"tailpipe-dataexport-{payer}", "state/")
    assert {fields.get("tenant") for _, _, fields in provider.lines.lines} == {"acme"}


def test_run_for_the_own_organization_is_as_before(provider: Provider) -> None:
    """The registry changes nothing for a run without a tenant, and its reports are listed without the tenants'."""
    provider.add("acme")
    provider.run("acme")
    finished = run(provider.cloud)
    assert "tenant" not in finished.report
    assert provider.cloud.exports() == {"tailpipe-dataexport": "HEALTHY"}
    assert "state/known_accounts.json" in provider.stored()


def test_second_run_of_a_tenant_writes_nothing(provider: Provider) -> None:
    """A tenant reaches the steady state like any organization."""
    payer = provider.add("acme")
    provider.run("acme")
    provider.cloud.deliver(account=payer)
    provider.cloud.advance(600)
    finished = provider.run("acme")
    assert finished.report["status"] == "ok"
    assert outcome(finished, "export").action.verb == "KEEP"
    assert finished.report["scopes"]["covered"] == finished.report["scopes"]["active"]


def test_member_roles_of_a_payer_are_kept_where_its_entry_asks_for_them(provider: Provider) -> None:
    """By the payer's own StackSet and its session; without the setting, the accounts get no role and are covered."""
    payer = provider.add("acme", shared=True, members=True, accounts=4)
    provider.fleet().begin()
    finished = provider.run("acme")
    assert finished.report["failures"] == finished.report["manual"] == []
    roles = [one for one in finished.outcomes if one.key.kind == "member-role"]
    assert len(roles) == 3
    assert {one.result for one in roles} <= {"done", "pending", "unchanged"}
    assert outcome(finished, "connector-role").action.verb == "SKIP"
    provider.cloud.deliver(account=payer)
    provider.cloud.advance(600)
    assert provider.run("acme").report["scopes"]["covered"] == 4


def test_requests_in_a_payer_are_signed_by_its_own_session_only(provider: Provider) -> None:
    """No request to A's resources is made by B's session, in whatever order the tenants run in one process."""
    payers = {name: provider.add(name) for name in ("acme", "bolt")}
    for name in ("acme", "bolt", "acme", "bolt"):
        provider.cloud.calls.clear()
        provider.run(name)
        principals = {call.principal for call in provider.cloud.calls}
        own = f"arn:aws:iam::{provider.cloud.account}:user/local"
        assert principals == {own, f"arn:aws:iam::{payers[name]}:role/tailpipe-exports-tenant"}
        of_own = [call for call in provider.cloud.calls if call.principal == own]
        assert {call.service for call in of_own} <= {"s3", "sts", "secretsmanager"}
        assert all(provider.bucket in call.resource for call in of_own if call.service == "s3")


def test_session_is_kept_for_a_while_and_renewed_before_it_ends(provider: Provider) -> None:
    """Runs of one tenant share a session; one with less than half an hour left is not used."""
    provider.add("acme")
    provider.run("acme")
    provider.cloud.calls.clear()
    provider.run("acme")
    assert provider.cloud.calls.count("sts", "AssumeRole") == 0
    provider.cloud.advance(1900)
    provider.run("acme")
    assert provider.cloud.calls.count("sts", "AssumeRole") == 1
    assert provider.cloud.calls.select("sts", "AssumeRole")[0].error is None


def test_external_id_and_session_never_appear(provider: Provider) -> None:
    """The log, the report and the state hold none of them, even where the cloud quotes the External ID."""
    provider.add("acme")
    provider.cloud.fault("sts", "AssumeRole", "AccessDenied", "ExternalId external-id-of-acme is wrong")
    finished = provider.run("acme")
    stored = [
        provider.cloud.client("s3").get_object(Bucket=provider.bucket, Key=key) for key in provider.stored("state")
    ]
    texts = [provider.lines.text(), json.dumps(finished.report)]
    for one in stored:
        with one["Body"] as body:
            texts.append(body.read().decode())
    assert finished.report["failures"][0]["code"] == "tenant-unreachable"
    assert not [text for text in texts if "external-id-of-acme" in text]


@pytest.mark.parametrize("broken", ["role deleted", "external id differs", "secret missing", "secret empty"])
def test_tenant_that_cannot_be_entered_is_unreachable(provider: Provider, broken: str) -> None:
    """Nothing is called in its cloud, and the message says what the tenant has to do."""
    payer = provider.add("acme")
    arn = provider.entries[0]["entry"]["external_id"]
    secrets = provider.cloud.client("secretsmanager")
    if broken == "role deleted":
        provider.cloud.delete_stack(account=payer)
    elif broken == "external id differs":
        secrets.put_secret_value(SecretId=arn, SecretString="another-one")
    elif broken == "secret missing":
        secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    else:
        secrets.put_secret_value(SecretId=arn, SecretString=" ")
    finished = provider.run("acme")
    (failure,) = finished.report["failures"]
    assert (finished.report["status"], failure["code"]) == ("failed", "tenant-unreachable")
    assert "acme" in failure["message"]
    assert failure["remedy"]
    assert not [call for call in provider.cloud.calls if call.account == payer]
    assert not [key for key in provider.stored("state/") if "known_accounts" in key]


def test_state_of_another_payer_is_not_touched(provider: Provider) -> None:
    """A tenant id whose entry names another payer than its state fails with one sentence and writes nothing."""
    provider.add("acme")
    provider.run("acme")
    other = provider.add("other")
    moved = {**provider.entries[1], "id": "acme"}
    provider.write(moved)
    before = provider.cloud.client("s3").head_object(
        Bucket=provider.bucket, Key="state/tenants/acme/known_accounts.json"
    )
    finished = provider.run("acme")
    assert [one["code"] for one in finished.report["failures"]] == ["state-foreign"]
    assert provider.cloud.exports(account=other) == {}
    after = provider.cloud.client("s3").head_object(
        Bucket=provider.bucket, Key="state/tenants/acme/known_accounts.json"
    )
    assert before["ETag"] == after["ETag"]


def test_state_of_another_billing_view_is_not_touched(provider: Provider) -> None:
    """The account that exports is the same, but an export of another customer's costs would join those of the first."""
    cloud = provider.cloud
    views = [cloud.transfer_billing(payer=cloud.add_payer(name=name)) for name in ("one", "two")]
    entries = [
        {"id": "acme", "cloud": "aws", "destination": {"billing_view": view, "bucket_owner": cloud.account}}
        for view in views
    ]
    provider.write(entries[0])
    provider.fleet().begin()
    assert provider.run("acme").report["failures"] == []
    made = cloud.exports()
    provider.write(entries[1])
    finished = provider.run("acme")
    assert [one["code"] for one in finished.report["failures"]] == ["state-foreign"]
    assert views[0] in finished.report["failures"][0]["message"]
    assert cloud.exports() == made
    provider.write(entries[0])
    assert provider.run("acme").report["status"] == "ok"


def test_payer_with_another_tenant_id_keeps_its_export(provider: Provider) -> None:
    """The entry moves to another id: the export that exists is found by its mark, and never made a second time."""
    payer = provider.add("acme")
    provider.run("acme")
    provider.write({**provider.entries[0], "id": "acme-gmbh"})
    finished = provider.run("acme-gmbh")
    assert action(finished, "export").verb == "KEEP"
    assert provider.cloud.exports(account=payer) == {"tailpipe-dataexport": "HEALTHY"}
    assert provider.cloud.calls.count("bcm-data-exports", "CreateExport") == 1


def test_tenants_share_the_bucket_of_the_deployment(provider: Provider) -> None:
    """Each delivers below its own account; the first step of a round grants exactly these accounts."""
    acme, bolt = provider.add("acme", shared=True), provider.add("bolt", shared=True)
    own = provider.add("own")
    provider.fleet().begin()
    found = provider.statement()
    assert found is not None
    assert found["Condition"]["StringEquals"]["aws:SourceAccount"] == sorted([acme, bolt])
    for name in ("acme", "bolt", "own"):
        assert provider.run(name).report["failures"] == []
    assert provider.cloud.deliver(account=acme) == {"tailpipe-dataexport": "DELIVERY_SUCCESS"}
    assert provider.cloud.deliver(account=bolt) == {"tailpipe-dataexport": "DELIVERY_SUCCESS"}
    delivered = {"/".join(key.split("/")[:3]) for key in provider.stored("dataexport/")}
    assert delivered == {f"dataexport/{acme}/acme", f"dataexport/{bolt}/bolt"}
    provider.cloud.advance(600)
    finished = provider.run("acme")
    assert finished.report["status"] == "ok"
    assert finished.report["deliveries"]["new"] == 1
    assert provider.cloud.world.buckets.owner(f"tailpipe-dataexport-{own}") == own


def test_deliveries_of_a_tenant_are_announced_beside_its_exports() -> None:
    """In the shared bucket by the deployment, in the payer's own bucket by the payer's session; the topic is one."""
    with local_aws(accounts=2, deliveries=True) as cloud:
        provider = Provider(cloud)
        payers = {"shared": provider.add("shared", shared=True), "own": provider.add("own")}
        provider.fleet().begin()
        for name, payer in payers.items():
            provider.run(name)
            cloud.deliver(account=payer)
        cloud.advance(600)
        assert [provider.run(name).report["status"] for name in payers] == ["ok", "ok"]
        assert provider.stored(f"dataexport/{payers['shared']}/shared/deliveries/")
        assert provider.stored(f"dataexport/{payers['shared']}/shared/deltas/")
        assert cloud.world.buckets.keys(f"tailpipe-dataexport-{payers['own']}", "dataexport/deltas/")
        published = cloud.calls.select("sns", "Publish")
        assert {(call.account, call.error) for call in published} == {(cloud.account, None)}
        assert len(published) == 2


def test_hostile_payer_cannot_deliver_below_the_prefix_of_another(provider: Provider) -> None:
    """An export of A whose definition names B's prefix is refused by the bucket policy."""
    acme, bolt = provider.add("acme", shared=True), provider.add("bolt", shared=True)
    provider.fleet().begin()
    provider.run("acme")
    client = provider.cloud.client("bcm-data-exports", acme)
    arn = client.list_exports()["Exports"][0]["ExportArn"]
    export = client.get_export(ExportArn=arn)["Export"]
    export["DestinationConfigurations"]["S3Destination"]["S3Prefix"] = f"dataexport/{bolt}/bolt"
    del export["DataQuery"]["TableConfigurations"]["COST_AND_USAGE_REPORT"]["BILLING_VIEW_ARN"]
    client.update_export(ExportArn=arn, Export=export)
    assert provider.cloud.deliver(account=acme) == {"tailpipe-dataexport": "DELIVERY_FAILURE"}


def test_connector_of_a_tenant_reads_its_own_prefix_only(provider: Provider) -> None:
    """Tailpipe enters each role with that tenant's External ID only, and reads nothing of another tenant or of ours."""
    cloud = provider.cloud
    prefixes = {name: f"dataexport/{provider.add(name, shared=True)}/{name}" for name in ("acme", "bolt")}
    provider.fleet().begin()
    roles = {name: tenant_connector(cloud, name, prefix) for name, prefix in prefixes.items()}
    for name in prefixes:
        provider.run(name)
        cloud.deliver(account=provider.payer(name))
    tailpipe = other_role(cloud, TAILPIPE_ACCOUNT, TAILPIPE_ROLE)
    for name, other in (("acme", "bolt"), ("bolt", "acme")):
        for wrong in (f"connector-id-of-{other}", cloud.deployment.external_id, None):
            with pytest.raises(ClientError, match="AccessDenied"):
                assumed(cloud.endpoint, cloud.region, tailpipe, roles[name], wrong)
        session = assumed(cloud.endpoint, cloud.region, tailpipe, roles[name], f"connector-id-of-{name}")
        with closing(client(cloud.endpoint, cloud.region, "s3", session)) as s3:
            listed = s3.list_objects_v2(Bucket=provider.bucket, Prefix=f"{prefixes[name]}/")["Contents"]
            with s3.get_object(Bucket=provider.bucket, Key=listed[0]["Key"])["Body"] as body:
                assert body.read()
            for prefix in (f"{prefixes[other]}/", "dataexport/", ""):
                with pytest.raises(ClientError, match="AccessDenied"):
                    s3.list_objects_v2(Bucket=provider.bucket, Prefix=prefix)
            others = [key for key in provider.stored() if not key.startswith(f"{prefixes[name]}/")]
            assert any(f"/{other}/" in key for key in others)
            for key in others:
                with pytest.raises(ClientError, match="AccessDenied"):
                    s3.get_object(Bucket=provider.bucket, Key=key)
            with pytest.raises(ClientError, match="AccessDenied"):
                s3.put_object(Bucket=provider.bucket, Key=f"{prefixes[name]}/x", Body=b"")
        with closing(client(cloud.endpoint, cloud.region, "cloudwatch", session)) as metrics:
            now = cloud.clock.now()
            asked = {"Namespace": "AWS/EC2", "MetricName": "CPUUtilization", "Period": 300, "Statistics": ["Average"]}
            with pytest.raises(ClientError, match="AccessDenied"):
                metrics.get_metric_statistics(StartTime=now, EndTime=now, **asked)


def tenant_connector(cloud: LocalAws, tenant: str, prefix: str) -> str:
    """Create the role that the module makes for a tenant of `tenant_connectors`; return its ARN."""
    iam, name = cloud.client("iam"), f"tailpipe-connector-role-{tenant}"
    trust = json.dumps(cloud.deployment.trust(f"connector-id-of-{tenant}"))
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    document = policy("tenant_connector", cloud.deployment.names() | {"tenant_prefix": prefix}, ())
    iam.put_role_policy(RoleName=name, PolicyName="tailpipe-read", PolicyDocument=document)
    return str(arn)


def test_missing_grant_is_one_sentence_with_a_remedy(provider: Provider) -> None:
    """Without the statement, the export waits for it, and a lone run or a round writes it."""
    payer = provider.add("acme", shared=True)
    finished = provider.run("acme")
    assert outcome(finished, "bucket").result == "manual"
    assert f"does not let exports of account {payer} deliver" in messages(finished)
    assert "invoke aws --all" in messages(finished)
    assert outcome(finished, "export").result == "blocked"
    assert provider.cloud.exports(account=payer) == {}
    provider.fleet().begin()
    provider.cloud.advance(600)
    assert outcome(provider.run("acme"), "export").result == "done"


def test_grants_follow_the_registry_and_touch_nothing_else(provider: Provider) -> None:
    """A removed tenant's grant goes, a paused one's stays, and with an invalid entry none is removed."""
    acme, bolt = provider.add("acme", shared=True), provider.add("bolt", shared=True)
    others = list(provider.cloud.bucket_policy()["Statement"])
    provider.fleet().begin()
    provider.write({**provider.entries[0], "paused": True}, provider.entries[1])
    provider.cloud.calls.clear()
    provider.fleet().begin()
    assert provider.cloud.calls.count("s3", "PutBucketPolicy") == 0
    provider.write({"id": "Bad", "cloud": "aws"}, provider.entries[1])
    provider.fleet().begin()
    found = provider.statement()
    assert found is not None
    assert found["Condition"]["StringEquals"]["aws:SourceAccount"] == sorted([acme, bolt])
    provider.write(provider.entries[1])
    provider.fleet().begin()
    found = provider.statement()
    assert found is not None
    assert found["Condition"]["StringEquals"]["aws:SourceAccount"] == [bolt]
    provider.write({**provider.entries[1], "destination": {}})
    provider.fleet().begin()
    assert provider.statement() is None
    assert provider.cloud.bucket_policy()["Statement"] == others


def test_policy_without_room_for_all_tenants_is_left_as_it_is(provider: Provider) -> None:
    """The round goes on; the message has the size, the limit and what to do."""
    provider.add("acme", shared=True)
    policy = provider.cloud.bucket_policy()
    filler = {**policy["Statement"][0], "Sid": "Filler", "Resource": f"arn:aws:s3:::{provider.bucket}/"}
    policy["Statement"].append(filler)
    filler["Resource"] += "x" * (20_400 - len(json.dumps(policy, separators=(",", ":"))))
    s3 = provider.cloud.client("s3")
    s3.put_bucket_policy(Bucket=provider.bucket, Policy=json.dumps(policy, separators=(",", ":")))
    assert provider.fleet().begin()["tenants"] == ["acme"]
    (said,) = [fields for _, event, fields in provider.lines.lines if event == "tenant-grants-failed"]
    assert said["code"] == "policy-too-large"
    assert "20480" in said["reason"]
    assert provider.statement() is None


def test_a_thousand_tenants_fit_in_the_policy() -> None:
    """The accounts are listed once; the ARNs do not repeat them."""
    settings = read_settings({"AWS_REGION": "eu-west-1"})
    accounts = [f"{number:012d}" for number in range(1200)]
    text = json.dumps(tenant_statement("tailpipe-dataexport-111122223333", accounts, settings), separators=(",", ":"))
    assert len(text) < 20_480 - 1500


def test_billing_view_of_the_own_account_is_a_tenant(provider: Provider) -> None:
    """One export for each view, from one account, below the tenant's own prefix; the view's health is reported."""
    payer = provider.cloud.add_payer(name="billed")
    arn = provider.cloud.transfer_billing(payer=payer, name="Billed")
    owner = {"bucket_owner": provider.cloud.account}
    provider.write({"id": "billed", "cloud": "aws", "destination": {"billing_view": arn, **owner}})
    finished = provider.run("billed")
    assert finished.report["failures"] == []
    run(provider.cloud)
    names = sorted(provider.cloud.exports())
    assert names[0] == "tailpipe-dataexport"
    assert len(names) == 2
    assert provider.cloud.deliver(name=names[1]) == {names[1]: "DELIVERY_SUCCESS"}
    export = provider.cloud.world.exports.named(provider.cloud.account, names[1])
    assert export.payer == payer
    assert export.destination["S3Prefix"] == f"dataexport/{provider.cloud.account}/billed"
    provider.cloud.advance(600)
    assert provider.run("billed").report["status"] == "ok"
    provider.cloud.end_billing_transfer(payer=payer)
    finished = provider.run("billed")
    assert outcome(finished, "billing-view").code == "billing-view-unhealthy"
    assert "the billing transfer has ended" in messages(finished)


def test_billing_view_of_another_account_is_a_tenant_with_a_role(provider: Provider) -> None:
    """The account that receives the bills is entered by its role, which may export this view only."""
    billed = provider.cloud.add_payer(name="billed")
    receiver = provider.add("receiver", shared=True, of=billed)
    provider.fleet().begin()
    assert provider.run("receiver").report["failures"] == []
    ((name, _),) = provider.cloud.exports(account=receiver).items()
    assert provider.cloud.world.exports.named(receiver, name).payer == billed
    assert provider.cloud.deliver(account=receiver) == {name: "DELIVERY_SUCCESS"}
    provider.cloud.advance(600)
    assert provider.run("receiver").report["status"] == "ok"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"entry": {}}, "role_arn is required"),
        ({"entry": {"role_arn": "arn:aws:iam::222233334444:role/x"}}, "External ID others could enter"),
        ({"entry": {"role_arn": "x", "external_id": "y"}}, "is not the ARN of a role"),
        ({"settings": {"AWS_ENDPOINT_URL": "http://evil.example"}}, "may not be set for a tenant"),
        ({"settings": {"BUCKET_NAME": "mine"}}, "may not be set for a tenant"),
        ({"settings": {"NOTIFY_URL": "arn:aws:secretsmanager:eu-west-1:1:secret:x"}}, "may not be set for a tenant"),
        ({"destination": {"bucket": "Bad_Bucket"}}, "is not a bucket's name"),
        ({"destination": {"bucket_owner": "111122223333", "prefix": "mine"}}, "cannot be chosen"),
        ({"destination": {"billing_view": "arn:aws-cn:billing::222233334444:billingview/x"}}, "several partitions"),
    ],
)
def test_invalid_entry_is_refused_before_any_call(provider: Provider, change: dict[str, Any], expected: str) -> None:
    """The fault names the field and what to do; no secret is quoted."""
    payer = provider.add("acme")
    provider.write({**provider.entries[0], **change})
    with pytest.raises(RegistryError, match=expected):
        provider.run("acme")
    assert not [call for call in provider.cloud.calls if call.account == payer]


def test_two_entries_of_one_payer_and_a_reused_external_id_are_refused(provider: Provider) -> None:
    """Both tenants are refused, since nothing says which one is right."""
    provider.add("acme")
    second = {**provider.entries[0], "id": "acme-2"}
    provider.write(provider.entries[0], second)
    with pytest.raises(RegistryError, match="enters payer"):
        provider.run("acme")
    other = json.loads(json.dumps(second))
    other["entry"]["role_arn"] = "arn:aws:iam::222233334444:role/x"
    provider.write(provider.entries[0], other)
    with pytest.raises(RegistryError, match="external_id is the same"):
        provider.run("acme-2")


def test_entry_for_the_deployments_own_account_is_refused(provider: Provider) -> None:
    """Its exports are kept by the runs without a tenant."""
    provider.add("acme")
    entry = {**provider.entries[0]["entry"], "role_arn": f"arn:aws:iam::{provider.cloud.account}:role/x"}
    provider.write({**provider.entries[0], "entry": entry})
    with pytest.raises(SettingsError, match="already keep the exports"):
        provider.run("acme")


def test_shared_bucket_of_a_third_account_is_refused(provider: Provider) -> None:
    """Only the deployment's own bucket can be shared."""
    provider.add("acme")
    provider.write({**provider.entries[0], "destination": {"bucket_owner": "999988887777"}})
    with pytest.raises(SettingsError, match="999988887777 is neither the payer nor"):
        provider.run("acme")


def test_registry_that_is_too_large_or_damaged_stops_a_round(deployed: Provider) -> None:
    """It is not read into memory, and no grant is changed by it."""
    deployed.add("acme", shared=True)
    deployed.fleet().begin()
    s3, where = deployed.cloud.client("s3"), {"Bucket": deployed.bucket, "Key": "registry/tenants.json"}
    for body, expected in ((b" " * (9 * 1024 * 1024), "has 9437184 bytes"), (b'{"version": 1, "ten', "not valid JSON")):
        s3.put_object(**where, Body=body)
        with pytest.raises(RegistryError, match=expected):
            invoke(deployed.cloud, {"round": {"step": "begin"}})
    assert deployed.statement() is not None


def test_unknown_and_paused_tenants_are_refused(provider: Provider) -> None:
    """Without a registry too."""
    with pytest.raises(RequestError, match="no tenant registry"):
        provider.run("acme")
    provider.add("acme", paused=True)
    with pytest.raises(RequestError, match="is paused"):
        provider.run("acme")
    with pytest.raises(RequestError, match="not in the registry"):
        provider.run("bolt")


def test_round_runs_each_tenant_and_ends_with_a_report(deployed: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """A dead tenant is a row among others; a task delivered twice runs once; the metrics are the round's."""
    dead = deployed.add("dead")
    for name in ("acme", "bolt"):
        deployed.add(name, shared=True)
    deployed.cloud.delete_stack(account=dead)
    begun = invoke(deployed.cloud, {"round": {"step": "begin"}})
    assert begun["tenants"] == ["acme", "bolt", "dead"]
    capsys.readouterr()
    rows = [invoke(deployed.cloud, {"tenant": name, "round": begun["round"]}) for name in begun["tenants"]]
    assert [row["status"] for row in rows] == ["ok", "ok", "unreachable"]
    assert rows[2]["failures"][0]["remedy"]
    assert not [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    deployed.cloud.calls.clear()
    assert invoke(deployed.cloud, {"tenant": "acme", "round": begun["round"]}) == rows[0]
    assert deployed.cloud.calls.by_operation() == {"s3:GetObject": 1}
    report = invoke(deployed.cloud, {"round": {"step": "end", "id": begun["round"]}})
    assert report["tenants"]["ok"] == 2
    assert report["tenants"]["unreachable"] == 1
    assert report["status"] == "degraded"
    (line,) = [json.loads(one) for one in capsys.readouterr().out.splitlines() if '"_aws"' in one]
    assert line["TenantsUnreachable"] == [1]
    assert {one["Name"] for one in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]} >= {"TenantsOk", "RoundDuration"}
    assert f"runs/rounds/{begun['round']}.json" in deployed.stored("runs/rounds/")
    deployed.cloud.advance(60)
    assert invoke(deployed.cloud, {"round": {"step": "begin"}})["tenants"] == ["acme", "bolt", "dead"]


def test_lone_run_grants_the_bucket_first(deployed: Provider) -> None:
    """A tenant that was just added runs without waiting for a round; a dry run changes no policy."""
    payer = deployed.add("acme", shared=True)
    invoke(deployed.cloud, {"tenant": "acme", "dry_run": True})
    assert deployed.statement() is None
    assert invoke(deployed.cloud, {"tenant": "acme"})["status"] == "ok"
    assert deployed.cloud.exports(account=payer) == {"tailpipe-dataexport": "HEALTHY"}
    assert "state/rows/acme.json" in deployed.stored("state/rows/")


def test_lone_run_of_an_unreachable_tenant_fails(deployed: Provider) -> None:
    """Lambda counts an error, as for any failed run."""
    payer = deployed.add("acme")
    deployed.cloud.delete_stack(account=payer)
    with pytest.raises(Exception, match="tenant-unreachable"):
        invoke(deployed.cloud, {"tenant": "acme"})


def test_round_sends_one_message_about_the_tenants_that_changed(provider: Provider) -> None:
    """A tenant's run sends none, and a round without a change neither."""
    cloud = provider.cloud
    with receiving() as receiver:
        environment = {
            **cloud.environment(),
            "NOTIFY_URL": provider.secret("webhook", f"{receiver.url}/services/secret-part"),
        }
        provider.add("acme")
        cloud.delete_stack(account=provider.add("gone"))

        def work(request: RunRequest) -> RunResult:
            return run_once(request, environment, provider.lines, cloud.clock, 900, account=cloud.account, seed=1)

        for _ in range(2):
            fleet = Fleet(environment, provider.lines, cloud.clock, 900, cloud.account)
            begun = fleet.begin()
            for tenant in begun["tenants"]:
                fleet.run_in_round(RunRequest(tenant=tenant, round=begun["round"]), work)
            fleet.end(begun["round"])
            cloud.advance(3600)
        assert receiver.titles() == ["AWS: 1 tenant changed: 1 unreachable"]
