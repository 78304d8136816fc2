"""The billing view that a tenant's export reads: AWS reports its health, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_lambda.clients import Clients
from aws_lambda.errors import observed
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import BILLING_VIEW, VIEWS_URL
from shared.errors import CloudError, NotFound, clean
from shared.model import Absent, Health, Key, ManualStep, Observation, Present, Target
from shared.resources import ReadOnly
from shared.runtime.context import RunContext

QUOTA = "billing"
# What to do for each reason. Source: BillingViewHealthStatus, AWS Billing API reference.
STEPS: Mapping[str, str] = {
    "AGGREGATE_SOURCE": "The view's source combines other views: create the view from its sources directly.",
    "CYCLIC_DEPENDENCY": "The view depends on itself through its sources: remove one of them.",
    "SOURCE_VIEW_ACCESS_DENIED": "The owner of the source view no longer shares it, or the billing transfer has ended: "
    "ask the owner, or remove the tenant from the registry.",
    "SOURCE_VIEW_DEPTH_EXCEEDED": "The view has too many levels of sources: create it from a view nearer to them.",
    "SOURCE_VIEW_NOT_FOUND": "A source view was deleted: choose another view in the registry, or remove the tenant.",
    "SOURCE_VIEW_UNHEALTHY": "A source view is unhealthy: correct that one first.",
    "SOURCE_VIEW_UPDATING": "A source view is being updated: no action is necessary unless it persists.",
    "VIEW_OWNER_NOT_MANAGEMENT_ACCOUNT": "The view's owner no longer manages an organization: use a view of "
    "the account that does.",
}
OTHER = "Open the view in the billing console of its owner, which explains this reason."
PASSING = frozenset({"CREATING", "UPDATING"})


class BillingView(ReadOnly):
    """Observes the billing view."""

    kinds = (BILLING_VIEW,)

    def __init__(self, settings: AwsSettings, clients: Clients, run: RunContext) -> None:
        self._arn = settings.billing_view
        self._clients = clients
        self._run = run

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read the view."""
        return {target.key: self.observe(target) for target in targets}

    def observe(self, target: Target) -> Observation:
        """Read the view's health."""
        try:
            view = self._run.calls(QUOTA, self._clients.billing.get_billing_view, arn=self._arn)["billingView"]
        except NotFound:
            what = target.manual_step.what if target.manual_step else ""
            return Absent(("get",), what, target.manual_step)
        except CloudError as error:
            return observed(error, f"billing view {self._arn}")
        return self._evaluated(view.get("healthStatus") or {})

    def _evaluated(self, health: Mapping[str, Any]) -> Present:
        status = clean(str(health.get("statusCode", "HEALTHY")))
        if status == "HEALTHY":
            return Present()
        reasons = [clean(str(one)) for one in health.get("statusReasons", [])] or ["no reason given"]
        what = f"AWS reports billing view {self._arn} as {status}: {', '.join(reasons)}"
        if status in PASSING:
            return Present(health=Health.PENDING, code="billing-view-pending", detail=what)
        manual_step = ManualStep(what, tuple(STEPS.get(one, OTHER) for one in reasons), VIEWS_URL)
        return Present(health=Health.MANUAL, code="billing-view-unhealthy", detail=what, manual_step=manual_step)
