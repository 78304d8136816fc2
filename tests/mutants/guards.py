"""The guards of the product, and documented answers of the local clouds, each with the change that breaks it.

Each entry names the text in the source, which stands there exactly once, the text that replaces it, and the tests that
have to fail. `tests/mutants/test_mutants.py` holds that each entry still applies to the source; `make mutants` expects
each to be killed. Unlike the other mutants, none may survive.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.mutants.groups import ROOT


class Guard(NamedTuple):
    """A guard and the change that removes it, or an answer and the change that makes it wrong."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def source(self) -> str:
        """Return the changed source. Raises ValueError unless `old` stands in it exactly once."""
        text = (ROOT / self.path).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.path} holds {text.count(self.old)} times: {self.old}")
        return text.replace(self.old, self.new)


S, A, Z, G = "tests/shared", "tests/aws_lambda", "tests/azure_function", "tests/gcp_function"
L = "tests/localcloud"

GUARDS = (
    # --- the engine
    Guard(
        "completeness: an incomplete enumeration forgets nothing",
        "shared/state/update.py",
        "    if not enumeration.complete:\n",
        "    if False:\n",
        (f"{S}/state/test_update.py",),
    ),
    Guard(
        "completeness: an invalid id makes the enumeration incomplete",
        "shared/reconcile.py",
        "complete=enumeration.complete and not invalid",
        "complete=enumeration.complete",
        (f"{S}/test_reconcile.py",),
    ),
    Guard(
        "grace: what was just created is not created again",
        "shared/rules.py",
        "abs(case.now - created) < case.target.kind.grace",
        "False",
        (f"{S}/test_plan.py", f"{S}/test_reconcile.py"),
    ),
    Guard(
        "grace: two proofs of absence end it",
        "shared/rules.py",
        "len(seen.proof) < 2",
        "True",
        (f"{S}/test_plan.py",),
    ),
    Guard(
        "create only on Absent: a failed read is Unknown",
        "shared/observe.py",
        "            return Unknown(error.code, error.message, remedy=error.remedy)\n",
        "            return Absent()\n",
        (f"{S}/test_observe.py",),
    ),
    Guard(
        "create only on Absent: what was not looked at is not absent",
        "shared/rules.py",
        "return UNSEEN if seen is NOT_LOOKED_AT else UNKNOWN",
        "return ABSENT",
        (f"{S}/test_plan.py",),
    ),
    Guard(
        "not-before: a target waits",
        "shared/case.py",
        "state.not_before > now and not requested",
        "False",
        (f"{S}/test_plan.py",),
    ),
    Guard(
        "foreign: what belongs to the customer is not written",
        "shared/rules.py",
        "case.seen.ownership is Ownership.FOREIGN",
        "False",
        (f"{S}/test_plan.py",),
    ),
    Guard(
        "scope not active: nothing is written",
        "shared/rules.py",
        "case.scope is None or case.scope.state is not ScopeState.ACTIVE",
        "False",
        (f"{S}/test_plan.py",),
    ),
    Guard(
        "kind not writable: a person creates it",
        "shared/rules.py",
        '        (ABSENT,),\n        "kind not writable",\n        "MANUAL (its code)",\n'
        "        lambda case: not case.target.kind.writable,",
        '        (ABSENT,),\n        "kind not writable",\n        "MANUAL (its code)",\n        lambda case: False,',
        (f"{S}/test_plan.py",),
    ),
    Guard(
        "vanished: too many at once are not recreated",
        "shared/guard.py",
        "refusal = None if force else _vanished",
        "refusal = None if True else _vanished",
        (f"{S}/test_guard.py",),
    ),
    Guard(
        "vanished: targets that were not looked at are no evidence",
        "shared/guard.py",
        "action.observation is NOT_LOOKED_AT or ",
        "",
        (f"{S}/test_guard.py", f"{S}/test_reconcile.py"),
    ),
    Guard(
        "write cap",
        "shared/guard.py",
        "if not most or len(writes) <= most:",
        "if True:",
        (f"{S}/test_guard.py",),
    ),
    Guard(
        "needs: a write waits for what it rests on",
        "shared/apply.py",
        "outcomes[key].result in NOT_THERE",
        "False",
        (f"{S}/test_apply.py",),
    ),
    Guard(
        "needs: a plan holds back what rests on a manual step",
        "shared/plan.py",
        "holder.verb not in (Verb.MANUAL, Verb.BLOCK, Verb.DEFER)",
        "True",
        (f"{S}/test_plan.py",),
    ),
    Guard(
        "dry run: nothing is applied",
        "shared/reconcile.py",
        "        if request.dry_run:\n            progress",
        "        if False:\n            progress",
        (f"{S}/test_reconcile.py",),
    ),
    Guard(
        "dry run: the session takes no lock",
        "shared/state/session.py",
        "            if self.read_only:\n                return\n",
        "",
        (f"{S}/state/test_session.py", f"{S}/test_reconcile.py"),
    ),
    Guard(
        "accepted plan: other writes than the accepted ones are refused",
        "shared/reconcile.py",
        'request.writes_hash not in ("", plan.writes_hash())',
        "False",
        (f"{S}/test_reconcile.py",),
    ),
    Guard(
        "compare-and-swap: a conflict is merged before the state is written",
        "shared/state/session.py",
        "                self._merge_stored()\n",
        "                self._version = self._store.load(SIZE_LIMIT).version\n",
        (f"{S}/state/test_session.py",),
    ),
    Guard(
        "compare-and-swap: a lost race for the lock is read again",
        "shared/state/session.py",
        "                self._reload()\n                continue\n",
        "                self._version = self._store.load(SIZE_LIMIT).version\n                continue\n",
        (f"{S}/state/test_session.py",),
    ),
    Guard(
        "lock: a run that holds it keeps others out",
        "shared/state/session.py",
        "            raise AnotherRun(other.run_id",
        "            AnotherRun(other.run_id",
        (f"{S}/state/test_session.py",),
    ),
    Guard(
        "owner: the state of another organization is refused",
        "shared/state/document.py",
        "if document.owner and document.owner != owner:",
        "if False:",
        (f"{S}/state/test_document.py", f"{S}/state/test_session.py"),
    ),
    Guard(
        "downgrade: the state of a newer version is refused",
        "shared/state/decoding.py",
        "if head.version > VERSION:",
        "if False:",
        (f"{S}/state/test_document.py",),
    ),
    Guard(
        "state of another cloud is refused",
        "shared/state/decoding.py",
        'if head.cloud not in ("", cloud):',
        "if False:",
        (f"{S}/state/test_document.py",),
    ),
    Guard(
        "size: a state that could not be read again is not written",
        "shared/state/session.py",
        "if len(data) > SIZE_LIMIT:",
        "if False:",
        (f"{S}/state/test_session.py",),
    ),
    Guard(
        "corrupt state is set aside before it is overwritten",
        "shared/state/session.py",
        "            self._set_aside()\n            self.document.owner",
        "            self.document.owner",
        (f"{S}/state/test_session.py",),
    ),
    Guard(
        "loopback only: endpoint overrides",
        "shared/settings.py",
        "if value and not is_loopback(value):",
        "if False:",
        (f"{S}/test_settings.py", f"{A}/test_settings.py"),
    ),
    Guard(
        "loopback only: hosts that parsers disagree about",
        "shared/settings.py",
        '    if re.search(r"[\\\\@\\s\\x00-\\x1f]", url):\n        return False\n',
        "",
        (f"{S}/test_settings.py",),
    ),
    Guard(
        "refused plan: what vanished stays known",
        "shared/state/update.py",
        "if not refused and outcome.action.reason != PENDING:",
        "if True:",
        (f"{S}/state/test_update.py", f"{S}/test_guard.py"),
    ),
    Guard(
        "distance between runs for events",
        "shared/reconcile.py",
        "        raise TooSoon(left.total_seconds())",
        "        pass",
        (f"{S}/test_hints.py", f"{S}/test_reconcile.py"),
    ),
    # --- AWS
    Guard(
        "AWS, compare-and-swap: If-Match",
        "aws_lambda/state_store.py",
        '{"IfMatch": version}',
        "{}",
        (f"{A}/test_state_store.py", "tests/contracts/test_aws.py"),
    ),
    Guard(
        "AWS, compare-and-swap: If-None-Match",
        "aws_lambda/state_store.py",
        '{"IfNoneMatch": "*"}',
        "{}",
        (f"{A}/test_state_store.py", "tests/contracts/test_aws.py"),
    ),
    Guard(
        "AWS, bucket owner: a bucket of another account is not written",
        "aws_lambda/state_store.py",
        "            ContentType=content_type,\n            ExpectedBucketOwner=self._account,\n",
        "            ContentType=content_type,\n",
        (f"{A}/test_state_store.py",),
    ),
    Guard(
        "AWS, exact names",
        "aws_lambda/resources/exports_api.py",
        'if one["ExportName"] == name',
        'if one["ExportName"].startswith(name)',
        (f"{A}/resources/test_exports_api.py",),
    ),
    Guard(
        "AWS, every page of exports",
        "aws_lambda/resources/exports_api.py",
        '            if not page.get("NextToken"):\n                return\n',
        "            return\n",
        (f"{A}/resources/test_exports_api.py",),
    ),
    Guard(
        "AWS, completeness: an empty listing of accounts is refused",
        "aws_lambda/scopes.py",
        '            raise Permanent(\n                "no-accounts",',
        "            return Enumeration(self._account, ())\n            raise Permanent(\n                '',",
        (f"{A}/test_scopes.py",),
    ),
    Guard(
        "AWS, completeness: a refused listing is incomplete",
        "aws_lambda/scopes.py",
        "            complete=False,\n            problems=(\n                Problem(\n",
        "            complete=True,\n            problems=(\n                Problem(\n",
        (f"{A}/test_scopes.py",),
    ),
    Guard(
        "AWS, a member account is refused",
        "aws_lambda/scopes.py",
        "        if management != self._account:\n",
        "        if False:\n",
        (f"{A}/test_scopes.py",),
    ),
    Guard(
        "AWS, foreign: an export with another destination is not ours",
        "aws_lambda/resources/exports.py",
        "if not ours and not same:",
        "if False:",
        (f"{A}/resources/test_exports.py",),
    ),
    Guard(
        "AWS, an ARN in the state is used only for its own name",
        "aws_lambda/resources/exports.py",
        'if answer is not None and answer["Export"]["Name"] != name:',
        "if False:",
        (f"{A}/resources/test_exports.py",),
    ),
    # --- Azure
    Guard(
        "Azure, completeness: no subscription at all ends the run",
        "azure_function/scopes.py",
        "if not shown and not ids and not requested:",
        "if False:",
        (f"{Z}/test_scopes.py",),
    ),
    Guard(
        "Azure, completeness: a problem makes the listing incomplete",
        "azure_function/scopes.py",
        "complete=not requested and not problems,",
        "complete=not requested,",
        (f"{Z}/test_scopes.py",),
    ),
    Guard(
        "Azure, wrong tenant",
        "azure_function/scopes.py",
        "if signed_in and shown and signed_in not in tenants:",
        "if False:",
        (f"{Z}/test_scopes.py", f"{Z}/test_handler.py"),
    ),
    Guard(
        "Azure, a subscription of another tenant is inactive",
        "azure_function/scopes.py",
        "if tenant and tenant != owner:",
        "if False:",
        (f"{Z}/test_guards.py",),
    ),
    Guard(
        "Azure, create only on Absent: an unseen export is looked for first",
        "azure_function/resources/export_writer.py",
        "proven = isinstance(seen, Absent) and UNSEEN not in seen.proof",
        "proven = True",
        (f"{Z}/resources/test_export_writer.py",),
    ),
    Guard(
        "Azure, foreign: an existing export of the customer is not repaired",
        "azure_function/resources/export_writer.py",
        "if seen.ownership is Ownership.FOREIGN and seen.manual_step:",
        "if False:",
        (f"{Z}/test_guards.py",),
    ),
    Guard(
        "Azure, a refused eTag: the export is read again",
        "azure_function/resources/export_writer.py",
        "if error.code not in (ETAG, PRECONDITION):",
        "if True:",
        (f"{Z}/resources/test_export_writer.py", f"{Z}/resources/test_exports.py"),
    ),
    # --- Google Cloud
    Guard(
        "Google Cloud, compare-and-swap: the state's generation",
        "gcp_function/state_store.py",
        "self._objects.write(name, data, int(version or 0), content_type=content_type)",
        "self._objects.write(name, data, content_type=content_type)",
        (f"{G}/test_state_store.py", "tests/contracts/test_gcp.py"),
    ),
    Guard(
        "Google Cloud, compare-and-swap: the manifest's generation",
        "gcp_function/resources/copy_writer.py",
        "self._objects.write(name, data, present.generation if present else 0, metadata)",
        "self._objects.write(name, data, None, metadata)",
        (f"{G}/resources/test_copies.py",),
    ),
    Guard(
        "Google Cloud, foreign: a manifest of the customer is not replaced",
        "gcp_function/resources/copy_writer.py",
        "        if manifest is None or watermark is None:\n            raise Manual",
        "        if False:\n            raise Manual",
        (f"{G}/resources/test_copies.py", f"{G}/test_obstacles.py"),
    ),
    Guard(
        "Google Cloud, only superseded files are deleted",
        "gcp_function/resources/copy_writer.py",
        " or one.name in keep:",
        ":",
        (f"{G}/resources/test_copies.py",),
    ),
    Guard(
        "Google Cloud, completeness: no account at all is incomplete",
        "gcp_function/scopes.py",
        "problems = [] if inside else [self._nothing()]",
        "problems = []",
        (f"{G}/test_scopes.py",),
    ),
    Guard(
        "Google Cloud, every page of accounts",
        "gcp_function/scopes.py",
        'if not page.get("nextPageToken"):',
        "if True:",
        (f"{G}/test_scopes.py",),
    ),
    Guard(
        "Google Cloud, a copy has as many rows as its partition",
        "gcp_function/resources/copy_writer.py",
        "sum(one.rows for one in files) == watermark.rows",
        "True",
        (f"{G}/resources/test_copies.py",),
    ),
    Guard(
        "Google Cloud, a closed account is not served",
        "gcp_function/scopes.py",
        "state=ScopeState.ACTIVE if is_open else ScopeState.INACTIVE,",
        "state=ScopeState.ACTIVE,",
        (f"{G}/test_scopes.py",),
    ),
)

ANSWERS = (
    Guard(
        "AWS: a second export of a name is refused",
        "localcloud/aws/services/exports.py",
        'if any(export.name == definition["Name"] for export in self.of(account)):',
        "if False:",
        (f"{L}/aws/services/test_exports.py",),
    ),
    Guard(
        "AWS: exports per table are limited",
        "localcloud/aws/services/exports.py",
        ">= table.quota:",
        "> table.quota:",
        (f"{L}/aws/services/test_exports.py",),
    ),
    Guard(
        "AWS: an export needs the bucket's policy",
        "localcloud/aws/services/exports.py",
        "            raise invalid(SERVICE, NO_PERMISSION)\n",
        "            pass\n",
        (f"{L}/aws/services/test_exports.py",),
    ),
    Guard(
        "AWS: an export of another account is not found",
        "localcloud/aws/services/exports.py",
        "if export is None or export.account != account:",
        "if export is None:",
        (f"{L}/aws/services/test_exports.py",),
    ),
    Guard(
        "AWS: an update does not rename",
        "localcloud/aws/services/exports.py",
        'raise invalid(SERVICE, "Export name cannot be updated")',
        "pass",
        (f"{L}/aws/services/test_exports.py",),
    ),
    Guard(
        "AWS: GetExport adds properties of the table",
        "localcloud/aws/services/exports.py",
        "configuration.setdefault(name, default)",
        "pass",
        (f"{L}/aws/services/test_exports.py",),
    ),
    Guard(
        "AWS: unknown columns are refused",
        "localcloud/aws/services/export_query.py",
        "missing = [column for column in columns if column not in existing]",
        "missing = [column for column in columns if False]",
        (f"{L}/aws/services/test_exports.py",),
    ),
    Guard(
        "AWS: StackSets skip the management account",
        "localcloud/aws/services/stackset_targets.py",
        "    chosen.pop(organization.management, None)\n",
        "",
        (f"{L}/aws/services/test_stacksets.py",),
    ),
    Guard(
        "AWS: a delivery without permission fails",
        "localcloud/aws/services/export_deliveries.py",
        'execution.status, execution.reason = "DELIVERY_FAILURE", "INSUFFICIENT_PERMISSION"',
        'execution.status, execution.reason = "DELIVERY_SUCCESS", ""',
        (f"{L}/aws/services/test_exports.py",),
    ),
    Guard(
        "Azure: the compression mode is case-sensitive",
        "localcloud/azure/services/export_rules.py",
        "if compression not in allowed:",
        "if compression.lower() not in allowed:",
        (f"{L}/azure/services/test_exports.py",),
    ),
    Guard(
        "Azure: a schedule does not begin in the past",
        "localcloud/azure/services/export_rules.py",
        "if start <= now and not unchanged:",
        "if False:",
        (f"{L}/azure/services/test_exports.py",),
    ),
    Guard(
        "Azure: an update needs the eTag",
        "localcloud/azure/services/export_rules.py",
        "if sent == current or (blind and not sent):",
        "if sent == current or not sent:",
        (f"{L}/azure/services/test_exports.py",),
    ),
    Guard(
        "Azure: a period of a run is at most a month",
        "localcloud/azure/services/export_rules.py",
        "if (start.year, start.month) != (end.year, end.month):",
        "if False:",
        (f"{L}/azure/services/test_export_deliveries.py",),
    ),
    Guard(
        "Azure: a creation answers 201",
        "localcloud/azure/services/exports_api.py",
        "return Answer(self._document(export), 200 if existing else 201)",
        "return Answer(self._document(export), 200)",
        (f"{L}/azure/services/test_exports.py",),
    ),
    Guard(
        "Azure: a destination must be registered",
        "localcloud/azure/services/exports_api.py",
        'if registration_state(owner, _PROVIDER, self._world.clock.monotonic()) == "NotRegistered":',
        "if False:",
        (f"{L}/azure/services/test_tenant.py",),
    ),
    Guard(
        "Azure: exports need a key or an identity",
        "localcloud/azure/services/exports_api.py",
        "if not account.shared_key:",
        "if False:",
        (f"{L}/azure/services/test_export_deliveries.py",),
    ),
    Guard(
        "Azure: without a billing role the list is empty, with status 200",
        "localcloud/azure/services/billing_api.py",
        "for one in self._world.billing.values()] if self._reads(request) else []",
        "for one in self._world.billing.values()]",
        (f"{L}/azure/services/test_tenant.py",),
    ),
    Guard(
        "Azure: Cost Management's quota",
        "localcloud/azure/quotas.py",
        "                if wait:\n                    raise self._refusal(name, wait)\n",
        "",
        (f"{L}/azure/test_limits.py",),
    ),
    Guard(
        "Google Cloud: a generation that does not match is refused",
        "localcloud/gcp/services/objects.py",
        "        if fails:\n            raise precondition_failed()\n",
        "",
        (f"{L}/gcp/services/test_objects.py",),
    ),
    Guard(
        "Google Cloud: a checksum that does not match is refused",
        "localcloud/gcp/services/objects.py",
        "if given and given != is_:",
        "if False:",
        (f"{L}/gcp/services/test_objects.py",),
    ),
    Guard(
        "Google Cloud: empty lists are omitted",
        "localcloud/gcp/services/billing_api.py",
        'return ({"billingAccounts": list(items)} if items else {})',
        'return {"billingAccounts": list(items)}',
        (f"{L}/gcp/services/test_billing.py",),
    ),
    Guard(
        "Google Cloud: an extract job stays in its location",
        "localcloud/gcp/services/extract.py",
        "if not colocated(dataset.location, bucket.location):",
        "if False:",
        (f"{L}/gcp/services/test_extract.py",),
    ),
    Guard(
        "Google Cloud: a dataset is found in its location only",
        "localcloud/gcp/services/extract.py",
        "dataset is None or dataset.location.upper() != location.upper()",
        "dataset is None",
        (f"{L}/gcp/services/test_extract.py",),
    ),
    Guard(
        "Google Cloud: rows that a policy hides stop an extract job",
        "localcloud/gcp/services/extract.py",
        "if not found.shows_all(self._context.identity):",
        "if False:",
        (f"{L}/gcp/control/test_obstacles.py",),
    ),
)
