"""The modules and their examples are valid and formatted.

`terraform validate` uses the real provider if it is available, otherwise a stand-in with its published schema.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.infra import terraform
from tests.infra.planning import REPOSITORY, Workspace, stand_in_providers
from tests.limits import HANG_S
from tools import modules

GOOD = """\
resource "google_storage_bucket" "more" {
  name     = "n"
  location = "EU"
  labels   = {}
}

output "more" {
  value = google_storage_bucket.more.url
}
"""


@contextmanager
def with_providers(cloud: str, folder: Path) -> Iterator[Workspace]:
    """Yield a copy of a module with all its providers; skip the test if they are not available."""
    workspace = Workspace(folder, cloud)
    # The stand-in has no published schema for AWS.
    if cloud == "aws" or os.environ.get("TAILPIPE_EXPORTS_TF_NETWORK") == "1":
        terraform.binary()
        workspace.init_arguments = terraform.plugin_arguments("aws") if cloud == "aws" else []
        yield workspace
        return
    with stand_in_providers(workspace):
        yield workspace


def diagnostics(workspace: Workspace, example: Path) -> list[dict[str, Any]]:
    """Return the diagnostics of `terraform validate` for an example and the module that it calls."""
    workspace.init(example)
    done = workspace.terraform(example, "validate", "-json")
    found: list[dict[str, Any]] = json.loads(done.text)["diagnostics"]
    assert (done.code == 0) == (not [one for one in found if one["severity"] == "error"]), done
    return found


@pytest.mark.parametrize("cloud", [pytest.param("aws", marks=pytest.mark.slow), "azure", "gcp"])
def test_module_and_its_examples_are_valid(cloud: str, tmp_path: Path) -> None:
    """Names, arguments and types match the provider's schema."""
    with with_providers(cloud, tmp_path) as workspace:
        examples = sorted((workspace.module / "examples").glob("*/"))
        assert [one.name for one in examples] == ["complete", "minimal"]
        for example in examples:
            found = diagnostics(workspace, example)
            assert found == [], json.dumps(found, indent=1)


@pytest.mark.parametrize(
    ("old", "new", "line", "summary"),
    [
        ("  labels  ", "  labels_ ", 4, "Unsupported argument"),
        ("{}", '"text"', 4, "Incorrect attribute value type"),
        ('  location = "EU"\n', "", 1, "Missing required argument"),
        ('"google_storage_bucket"', '"google_storage_buckets"', 1, "Invalid resource type"),
        (".url", ".uri", 8, "Unsupported attribute"),
        ('"n"', "var.nowhere_declared", 2, "Reference to undeclared input variable"),
    ],
)
def test_schema_violation_is_reported(tmp_path: Path, old: str, new: str, line: int, summary: str) -> None:
    """An unknown name, argument or attribute, a wrong type and a missing argument are reported with their line."""
    with stand_in_providers(Workspace(tmp_path, "gcp")) as workspace:
        (workspace.module / "more.tf").write_text(GOOD.replace(old, new, 1), encoding="utf-8")
        found = diagnostics(workspace, workspace.module / "examples" / "minimal")

    assert (summary, line) in {(one["summary"], one["range"]["start"]["line"]) for one in found}, found


def unformatted(infra: Path) -> str:
    """Return the changes that `terraform fmt` would make below a folder."""
    done = subprocess.run(
        [terraform.binary(), "fmt", "-check", "-diff", "-recursive", str(infra)],
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    return done.stdout


def test_every_file_is_formatted(tmp_path: Path) -> None:
    """`terraform fmt -recursive infra` changes nothing, and an unformatted file is reported."""
    assert unformatted(REPOSITORY / "infra") == ""
    (tmp_path / "a.tf").write_text("locals {\n a=1\n}\n", encoding="utf-8")
    assert "a.tf" in unformatted(tmp_path)


def test_import_replaces_no_assignment_of_the_app() -> None:
    """Its identity is unknown until `terraform_data.identity` exists, and a new one still replaces each assignment."""
    resources = modules.read(REPOSITORY / "infra" / "azure").resources
    of_app = {
        name: body["lifecycle"]
        for name, body in resources.items()
        if body.get("principal_id") == "${terraform_data.identity.output}"
    }
    rules = [{"ignore_changes": ["principal_id"], "replace_triggered_by": ["${terraform_data.identity}"]}]
    assert of_app == dict.fromkeys(("azurerm_role_assignment.function", "azurerm_role_assignment.function_data"), rules)
