"""The house rules of a module are held, one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.support import module, said, schemas
from tools.infra import shape

GOOD = """\
terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 7.0"
    }
  }
}
variable "environment" {
  description = "Which Tailpipe."
  type        = string
  nullable    = false
  validation {
    condition     = contains(["prod", "uat"], var.environment)
    error_message = "Write environment as prod or uat."
  }
}
variable "schedule" {
  description = "When."
  type        = string
  default     = "0 * * * *"
  nullable    = false
  validation {
    condition     = length(var.schedule) > 8
    error_message = "Write schedule as five fields."
  }
}
variable "external_id" {
  description = "A secret."
  type        = string
  sensitive   = true
  default     = null
  validation {
    condition     = var.external_id == null || length(var.external_id) > 8
    error_message = "Write external_id as you got it."
  }
}
variable "labels" {
  description = "Labels."
  type        = map(string)
  default     = {}
  nullable    = false
}
locals {
  labels = merge(var.labels, { managed-by = "tailpipe-exports" })
  hashed = sha256(var.external_id)
}
resource "google_shelf" "a" {
  name   = "n"
  labels = local.labels
}
resource "google_alert" "a" {
  labels      = { email = "x" }
  user_labels = local.labels
}
output "hash" {
  description = "A hash."
  sensitive   = true
  value       = local.hashed
}
"""


def test_a_good_module_breaks_no_rule(tmp_path: Path) -> None:
    """The rules leave a module alone that keeps them."""
    assert said(shape.faults(module(tmp_path, GOOD), schemas(tmp_path))) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param('  description = "When."\n', "", "variable schedule has no description", id="description"),
        pytest.param("  type        = map(string)\n", "", "variable labels says no type", id="type"),
        pytest.param(
            "= map(string)\n  default     = {}\n",
            "= any\n  default     = {}\n",
            "variable labels says no type",
            id="any",
        ),
        pytest.param(
            'variable "labels" {\n', 'variable "shelves" {\n', "variable shelves has no validation", id="validation"
        ),
        pytest.param('"Write schedule as five fields."', '"Wrong!"', "the message is no sentence", id="message"),
        pytest.param("length(var.schedule) > 8", "true", "the validation does not look at it", id="condition"),
        pytest.param(
            "  default     = {}\n  nullable    = false\n", "  default     = {}\n", "lacks nullable", id="nullable"
        ),
        pytest.param(
            "  default     = null\n",
            "  default     = null\n  nullable    = false\n",
            "has null as its default",
            id="null",
        ),
        pytest.param(
            "  sensitive   = true\n  default     = null\n", "  default     = null\n", "holds a secret", id="secret"
        ),
        pytest.param("  sensitive   = true\n  value", "  value", "output hash shows a sensitive value", id="leak"),
        pytest.param('  description = "A hash."\n', "", "output hash has no description", id="output"),
        pytest.param(
            '  description = "Which Tailpipe."\n',
            '  description = "Which Tailpipe."\n  default     = "prod"\n',
            "variable environment has a default",
            id="environment's default",
        ),
        pytest.param('["prod", "uat"]', '["prod"]', "validated against something else", id="environment's values"),
        pytest.param('"0 * * * *"', '"0 6 * * *"', "variable schedule is not hourly by default", id="daily"),
        pytest.param('">= 1.5"', '">= 1.9"', 'not ">= 1.5"', id="newer Terraform"),
        pytest.param('  required_version = ">= 1.5"\n', "", "required_version is missing", id="no version"),
        pytest.param('">= 6.0, < 7.0"', '"~> 6.0"', "a lower and an upper bound", id="one bound in disguise"),
        pytest.param('">= 6.0, < 7.0"', '">= 6.0"', "a lower and an upper bound", id="no upper bound"),
        pytest.param(
            "  required_version", '  backend "gcs" {\n  }\n  required_version', "no backend block", id="backend"
        ),
        pytest.param(
            'variable "labels"', 'provider "google" {\n}\nvariable "labels"', "no provider block", id="provider"
        ),
        pytest.param("    google = {", "    random = {", "provider google is used and not in", id="provider missing"),
        pytest.param("    google = {", "    random = {", "provider random is required and never", id="provider unused"),
        pytest.param("  labels = local.labels\n", "", "google_shelf.a takes labels and has none", id="no labels"),
        pytest.param(
            '  name   = "n"\n  labels = local.labels',
            '  name   = "n"\n  labels = {}',
            "are not the module's own",
            id="others",
        ),
        pytest.param("  user_labels = local.labels\n", "", "google_alert.a takes user_labels", id="no user labels"),
        pytest.param("managed-by", "owner", "does not add managed-by", id="not marked as ours"),
    ],
)
def test_each_departure_is_told(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Whatever one thing is changed in a good module, the rule it breaks is named."""
    assert old in GOOD
    found = said(shape.faults(module(tmp_path, GOOD.replace(old, new, 1)), schemas(tmp_path)))

    assert [fault for fault in found if expected in fault], found


@pytest.mark.parametrize(
    ("written", "hourly"),
    [
        ("rate(1 hour)", True),
        ("cron(15 * * * ? *)", True),
        ("0 17 * * * *", True),
        ("7 * * * *", True),
        ("rate(2 hours)", False),
        ("cron(0 6 * * ? *)", False),
        ("0 0 6 * * *", False),
        ("*/5 * * * *", False),
    ],
)
def test_hourly_is_known_in_each_clouds_words(tmp_path: Path, written: str, hourly: bool) -> None:
    """Once an hour at any minute is hourly, in the syntax of all three schedulers."""
    found = said(shape.faults(module(tmp_path, GOOD.replace("0 * * * *", written)), schemas(tmp_path)))

    assert ("hourly" not in " ".join(found)) is hourly
