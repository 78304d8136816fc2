"""The three modules have the same common variables and outputs, each with a description."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cli.deployment.terraform.variables import parsed
from tools import modules

CLOUDS = ("aws", "azure", "gcp")
# Common variables: name → type and default (`...` if the default differs between modules).
COMMON: dict[str, tuple[str, Any]] = {
    "environment": ("string", None),
    "package": ("string", None),
    "exports": ("list(string)", ...),
    "schedule": ("string", ...),
    "function_name": ("string", "tailpipe-exports"),
    "memory_mb": ("number", ...),
    "timeout_seconds": ("number", ...),
    "call_budget": ("number", ...),
    "log_level": ("string", ...),
    "settings": ("map(string)", {}),
    "log_retention_days": ("number", 90),
    "notification_emails": ("list(string)", []),
    "delete_data_on_destroy": ("bool", False),
    "dashboard": ("bool", ...),
}
# The variable for tags, by each cloud's own term.
TAGS = {"aws": "tags", "azure": "tags", "gcp": "labels"}
OUTPUTS = {
    *("function_name", "function_id", "function_identity", "destination", "state", "schedule", "connector", "logs"),
    *("alarms", "settings", "onboarding"),
}
# Hourly at any minute, in each cloud's syntax: a rate, or cron with five fields, or with six (seconds first).
HOURLY = re.compile(r"rate\(1 hour\)|[0-5]?\d (?:[0-5]?\d )?\* \* \* \*")
SENTENCE = re.compile(r"\S+( \S+){3,}.*[.?]")
# Resource types without tags. Add a new type here if its provider has no argument for them, or too few (S3 objects).
UNTAGGED = {
    "aws": """
        aws_cloudwatch_dashboard aws_cloudwatch_event_target aws_iam_role_policies_exclusive aws_iam_role_policy
        aws_iam_role_policy_attachments_exclusive aws_lambda_event_source_mapping
        aws_lambda_function_event_invoke_config
        aws_s3_bucket_lifecycle_configuration aws_s3_bucket_notification aws_s3_bucket_ownership_controls
        aws_s3_bucket_policy
        aws_s3_bucket_public_access_block aws_s3_bucket_server_side_encryption_configuration aws_s3_bucket_versioning
        aws_s3_object aws_scheduler_schedule aws_sns_topic_policy aws_sns_topic_subscription aws_sqs_queue_policy
    """,
    "azure": """
        azuread_service_principal azurerm_eventgrid_system_topic_event_subscription
        azurerm_management_group_policy_assignment
        azurerm_management_group_policy_remediation azurerm_policy_definition azurerm_resource_provider_registration
        azurerm_role_assignment azurerm_role_definition azurerm_storage_container azurerm_storage_management_policy
    """,
    "gcp": """
        google_artifact_registry_repository_iam_member google_bigquery_dataset_iam_member
        google_billing_account_iam_member google_cloud_tasks_queue google_cloud_tasks_queue_iam_member
        google_storage_bucket_iam_member google_cloud_run_v2_service_iam_member google_cloud_scheduler_job
        google_iam_workload_identity_pool google_iam_workload_identity_pool_provider google_logging_metric
        google_logging_billing_account_sink google_logging_organization_sink google_pubsub_subscription_iam_member
        google_pubsub_topic_iam_member
        google_logging_project_bucket_config google_logging_project_sink google_organization_iam_member
        google_project_iam_custom_role google_project_iam_member google_project_service google_service_account
        google_service_account_iam_member google_storage_bucket_object
    """,
}


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> str:
    """Return each cloud in turn."""
    return str(request.param)


@pytest.fixture
def module(repository: Path, cloud: str) -> modules.Module:
    """Return the cloud's module."""
    return modules.read(repository / "infra" / cloud)


def test_every_module_has_the_common_variables_and_outputs(module: modules.Module) -> None:
    """Names, types and defaults of the common variables are equal, as the command and the documentation require."""
    found = {name: modules.type_of(module.variables.get(name, {})) for name in COMMON}
    assert found == {name: kind for name, (kind, _) in COMMON.items()}
    defaults = {name: default for name, (_, default) in COMMON.items() if default is not ...}
    assert {name: module.variables[name].get("default") for name in defaults} == defaults
    assert {name for name in COMMON if "default" not in module.variables[name]} == {"environment", "package"}
    assert set(module.outputs) >= OUTPUTS
    assert HOURLY.fullmatch(module.variables["schedule"]["default"])


def test_shared_variable_has_the_same_type_in_all_modules(repository: Path) -> None:
    """An operator of two clouds sets a variable the same way in both."""
    types: dict[str, set[str]] = {}
    for cloud in CLOUDS:
        for name, body in modules.read(repository / "infra" / cloud).variables.items():
            types.setdefault(name, set()).add(modules.type_of(body))
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


def test_every_variable_has_a_type_description_and_validation(module: modules.Module, cloud: str) -> None:
    """A validation is required unless every value of the type is valid, and its message is a sentence."""
    for name, body in module.variables.items():
        assert modules.type_of(body) != "any", name
        assert body.get("description"), name
        rules = body.get("validation", [])
        assert rules or body["type"] == "bool" or name == TAGS[cloud], f"{name} has no validation"
        for rule in rules:
            assert f"var.{name}" in rule["condition"], name
            assert SENTENCE.fullmatch(rule["error_message"]), (name, rule["error_message"])
        # Null is refused unless it has a meaning.
        tests_null = any("== null" in rule["condition"] for rule in rules)
        optional = "default" in body and body["default"] is None
        assert optional or tests_null or body.get("nullable") is False, f"{name} needs nullable = false"
        assert "external_id" not in name or body.get("sensitive") is True, name
    assert all(body.get("description") for body in module.outputs.values())


def test_every_variable_is_used(repository: Path, cloud: str, module: modules.Module) -> None:
    """An unused variable would be accepted without effect."""
    text = "".join(path.read_text(encoding="utf-8") for path in (repository / "infra" / cloud).glob("*.tf"))
    text = re.sub(r'^variable ".*?^}', "", text, flags=re.MULTILINE | re.DOTALL)
    assert {name for name in module.variables if not re.search(rf"\bvar\.{name}\b", text)} == set()
    assert {name for name in module.locals if not re.search(rf"\blocal\.{name}\b", text)} == set()


def test_every_resource_has_the_operators_tags(cloud: str, module: modules.Module) -> None:
    """Resources have the operator's tags or labels and `managed-by`, if their type supports them."""
    variable = TAGS[cloud]
    assert 'managed-by = "tailpipe-exports"' in module.locals[variable]
    without = {
        name.partition(".")[0] for name, body in module.resources.items() if f"local.{variable}" not in str(body)
    }
    assert without - {"terraform_data"} == set(UNTAGGED[cloud].split())


@pytest.mark.parametrize("cloud", CLOUDS)
def test_providers_are_bounded_and_left_to_the_caller(repository: Path, cloud: str) -> None:
    """Provider versions have an upper bound, and a module configures neither providers nor a backend."""
    blocks = [parsed(path.read_text(encoding="utf-8")) for path in sorted((repository / "infra" / cloud).glob("*.tf"))]
    settings = [one for block in blocks for one in block.get("terraform", ())]
    required = [one for each in settings for two in each.get("required_providers", ()) for one in two.items()]
    assert required
    assert [name for name, one in required if not re.fullmatch(r">= [\d.]+, < [\d.]+", one["version"])] == []
    assert [one for block in blocks for one in block.get("provider", ())] == []
    assert [one for each in settings for one in each.get("backend", ())] == []
