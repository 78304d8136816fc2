"""The tutorial of Cloud Shell: its directives, its commands and the link to it.

`tests/e2e/test_gcp_native.py` deploys, invokes and removes with the account and the roles of these commands.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click
import pytest
import yaml
from click.testing import CliRunner

from cli.deployment.gcp import rights
from cli.deployment.gcp.infra_manager_rest import ACCOUNT
from cli.deployment.gcp.preflight import APIS
from cli.main import main
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.names import ORGANIZATION
from tests.infra.planning import REPOSITORY
from tests.limits import HANG_S

TUTORIAL = REPOSITORY / "infra" / "gcp" / "tutorial.md"
TEXT = TUTORIAL.read_text(encoding="utf-8")
# "Write a Cloud Shell tutorial", the directives that the tutorial uses.
DIRECTIVES = {
    "walkthrough-project-id",
    "walkthrough-project-setup",
    "walkthrough-trophy",
    "walkthrough-tutorial-duration",
}
PROJECT = "tailpipe-dataexport"


def commands() -> list[str]:
    """Return the commands of the tutorial with the project filled in, as Cloud Shell does."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    filled = "".join(blocks).replace("<walkthrough-project-id/>", PROJECT)
    return [line for line in filled.splitlines() if line]


def of(tool: str) -> list[list[str]]:
    """Return the words of each command of a tool, with the project's id in place of its variable."""
    lines = [line.replace("$GOOGLE_CLOUD_PROJECT", PROJECT) for line in commands()]
    return [shlex.split(line) for line in lines if line.startswith(f"{tool} ")]


def test_directives_are_known_and_closed() -> None:
    """Cloud Shell shows an unknown or open directive as text."""
    opened = re.findall(r"<(walkthrough-[\w-]+)[^>]*(/?)>", TEXT)
    assert {name for name, _ in opened} == DIRECTIVES
    for name in DIRECTIVES:
        single = len(re.findall(f"<{name}[^>]*/>", TEXT))
        assert len(re.findall(f"<{name}[^>/]*>", TEXT)) == TEXT.count(f"</{name}>"), name
        assert single or f"</{name}>" in TEXT


def test_tutorial_has_one_title_and_steps() -> None:
    """Each step is a heading of the second level, as Cloud Shell divides a tutorial."""
    assert re.findall(r"^# (.+)$", TEXT, re.MULTILINE) == ["Deploy Tailpipe Exports"]
    assert len(re.findall(r"^## ", TEXT, re.MULTILINE)) >= 5


def test_variables_are_set_before_they_are_used() -> None:
    """Nothing that a command reads is left to the reader."""
    known = {"PWD", "PATH"}
    for line in commands():
        assert set(re.findall(r"\$(\w+)", line)) <= known, line
        known |= set(re.findall(r"(?:^export |\s)(\w+)=", line)) if line.startswith("export ") else set()


@pytest.mark.parametrize("words", of("tailpipe-exports"), ids=" ".join)
def test_commands_of_this_tool_are_valid(words: list[str]) -> None:
    """Each is parsed by the tool with its arguments and options."""
    command = main.commands[words[1]]
    context = command.make_context(words[1], words[2:], parent=click.Context(main))
    assert context.params["cloud"].name == "gcp"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_commands_of_gcloud_are_valid(tmp_path: Path) -> None:
    """Google's tool itself checks command, arguments and flags of each, also of the one in a substitution."""
    values = {"$GOOGLE_CLOUD_PROJECT": PROJECT, "$DEPLOYER": "deployer@example.com", "$ORGANIZATION": "123456789012"}
    text = "\n".join(commands())
    for variable, value in values.items():
        text = text.replace(variable, value)
    lines = [*re.findall(r"^gcloud .+", text, re.MULTILINE), *re.findall(r"\$\((gcloud .+?) \|", text)]
    assert len(lines) == len(of("gcloud")) + 1
    wanted = [*lines, f"{lines[0]} --unknown"]
    (tmp_path / "commands.json").write_text(json.dumps([{"command_string": one} for one in wanted]))
    checked = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={tmp_path / 'commands.json'}"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    found = json.loads(checked.stdout)
    assert [one["command_string"] for one in found] == wanted
    assert [one["command_string"] for one in found if not one["success"]] == [wanted[-1]]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_commands_of_gcloud_create_the_account_that_deploys(tmp_path: Path) -> None:
    """A shell runs them in order; the account then has the operator's permissions and the role of the agent."""
    lines = [line for line in commands() if line.startswith("gcloud ") or "=$" in line or "=tailpipe-" in line]
    with LocalGcp(accounts=1, bare=True) as cloud:
        home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path)}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=REPOSITORY,
            env={**home, **cloud.environment()},
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-500:]
        account = f"tailpipe-{ACCOUNT}@{cloud.project}.iam.gserviceaccount.com"
        for scope, resource in (("project", f"projects/{cloud.project}"), ("organization", ORGANIZATION)):
            held = {name for name in rights.actions(scope) if cloud.iam.allows(account, name, (resource,))}
            assert held == {*rights.actions(scope)}
        roles = {one["role"] for one in cloud.iam.policy(f"projects/{cloud.project}")["bindings"]}
        assert "roles/config.agent" in roles


def test_account_gets_the_operators_roles_and_the_agents() -> None:
    """The account has the name that `deploy --with native` uses, and nothing else is granted."""
    (created,) = [words for words in of("gcloud") if words[1:4] == ["iam", "service-accounts", "create"]]
    assert created[4] == f"tailpipe-{ACCOUNT}"
    bound = [words for words in of("gcloud") if "add-iam-policy-binding" in words]
    assert [(words[1], words[-2].removeprefix("--role=").rpartition("/")[2]) for words in bound] == [
        ("projects", "config.agent"),
        ("projects", rights.ROLE),
        ("organizations", rights.ROLE),
    ]
    assert {words[4] for words in bound} == {"--member=serviceAccount:$DEPLOYER"}
    for words in of("gcloud"):
        if words[1:4] == ["iam", "roles", "create"]:
            file = REPOSITORY / words[-1].removeprefix("--file=")
            scope = words[5].removeprefix("--").partition("=")[0]
            assert words[4] == rights.ROLE
            permissions = yaml.safe_load(file.read_text(encoding="utf-8"))["includedPermissions"]
            assert permissions == rights.actions(scope)


def test_apis_are_those_that_an_apply_needs_first() -> None:
    """The module enables all others."""
    (line,) = [words for words in of("gcloud") if words[1:3] == ["services", "enable"]]
    enabled = {name.removesuffix(".googleapis.com") for name in line[3:]}
    assert "config" in enabled
    assert enabled - {"config"} <= set(APIS)


def test_guide_prints_the_link_to_the_tutorial() -> None:
    """Its command takes the address of a copy of the repository, and the link opens this file of it in Cloud Shell."""
    guide = (REPOSITORY / "docs" / "gcp.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"tailpipe-exports (template gcp --link \S+)", guide)
    link = CliRunner().invoke(main, command.split()).stdout.strip()
    query = parse_qs(urlsplit(link).query)
    assert set(query) == {"cloudshell_git_repo", "cloudshell_tutorial"}
    assert query["cloudshell_git_repo"] == [command.split()[-1]]
    assert REPOSITORY / query["cloudshell_tutorial"][0] == TUTORIAL
