"""Wheel and sdist, installed as an operator installs them: all commands work from any folder, without a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from uv import find_uv_bin

from cli.packaging import build
from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.cli.support.operating import terraform
from tests.cli.support.terraform_double import TerraformDouble, change
from tests.cli.wheels import repacked
from tests.limits import HANG_S

__all__ = ["terraform"]  # a fixture, which pytest finds by name
pytestmark = [pytest.mark.long, pytest.mark.slow]  # each environment takes half a minute

LEFT_OUT = (".git", ".venv", "node_modules", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".setup.log")
# Files that must not be packed: secrets in Terraform's files, and a module that was removed from the sources.
UNWANTED = (
    "infra/aws/terraform.tfstate",
    "infra/aws/terraform.tfstate.backup",
    "infra/aws/terraform.tfvars",
    "infra/aws/prod.auto.tfvars.json",
    "infra/aws/.terraform/modules/modules.json",
    "build/lib/cli/gone.py",
)
CLOUDS = ("aws", "azure", "gcp")
# The wheel, and the sdist that builds the same wheel, each in its own environment.
WAYS = ["tool", "base"]


def call(
    *command: str | Path, cwd: Path, check: bool = True, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command without the variables through which Python would find the test environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "GIT_"))}
    done = subprocess.run(
        [str(one) for one in command],
        cwd=cwd,
        env={**kept, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@dataclass(frozen=True)
class Built:
    """The wheel of a source tree, its sdist, the sdist's wheel, and the tree's commit."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path
    commit: str


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build from a copy of the checkout that is its own repository and contains files that must not be packed."""
    tree, out = tmp_path_factory.mktemp("built") / "tree", tmp_path_factory.mktemp("dist")
    shutil.copytree(repository, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
    who = ("-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "--all"), ("commit", "-q", "-m", "one")):
        call("git", *who, *command, cwd=tree)
    for name in UNWANTED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text('{"secret": "s3cr3t"}\n')
    offline = ("--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir")
    steady = {"SOURCE_DATE_EPOCH": "1700000000", "UV_NO_CONFIG": "1"}
    call(find_uv_bin(), "build", *offline, out, tree, cwd=out, variables=steady)
    call(find_uv_bin(), "build", "--wheel", *offline, out / "tree", tree, cwd=out, variables=steady)
    (sdist,), (of_sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl"), out.glob("tree/*.whl")
    return Built(wheel, sdist, of_sdist, call("git", "rev-parse", "HEAD", cwd=tree).stdout.strip()[:12])


def base_requirements(project: Mapping[str, Any]) -> list[str]:
    """Return the requirements of the base in addition to the clouds' extras."""
    return [one for one in project["dependencies"] if not one.startswith(f"{project['name']}[")]


@pytest.fixture(scope="module")
def wheels(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the requirements of the three clouds' extras, the only source of the installers."""
    declared = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    project = declared["project"]
    extras = [one for cloud in CLOUDS for one in project["optional-dependencies"][cloud]]
    folder = tmp_path_factory.mktemp("wheels")
    repacked(folder, [*base_requirements(project), *extras, *declared["build-system"]["requires"]])
    return folder


@dataclass(frozen=True)
class Installed:
    """An installed command, its own interpreter, and a folder that is not a checkout."""

    command: Path
    python: Path
    elsewhere: Path

    def __call__(
        self, *arguments: str, check: bool = True, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return call(self.command, *arguments, cwd=self.elsewhere, check=check, variables=variables)


def by_uv_tool(what: str, wheels: Path, folder: Path) -> Installed:
    """Install as `uv tool install` does, into an environment without pip."""
    call(
        *(find_uv_bin(), "tool", "install", "--offline", "--no-index", "--find-links", wheels),
        *("--python", sys.executable, what),
        cwd=folder,
        variables={
            "UV_TOOL_DIR": str(folder / "tools"),
            "UV_TOOL_BIN_DIR": str(folder / "bin"),
            "UV_CACHE_DIR": str(folder / "cache"),
            "UV_NO_CONFIG": "1",
        },
    )
    return Installed(
        folder / "bin" / "tailpipe-exports", folder / "tools" / "tailpipe-exports" / "bin" / "python", folder
    )


def by_pip(what: str, wheels: Path, folder: Path) -> Installed:
    """Install as `pip install` and pipx do, into a new environment."""
    if not (folder / "venv").exists():
        call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    call(
        *(folder / "venv" / "bin" / "python", "-m", "pip", "install", "-q", "--no-index", "--find-links", wheels, what),
        cwd=folder,
        variables={"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""},
    )
    return Installed(folder / "venv" / "bin" / "tailpipe-exports", folder / "venv" / "bin" / "python", folder)


@pytest.fixture(scope="module")
def tool(built: Built, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return the wheel, installed by `uv tool install`."""
    return by_uv_tool(f"tailpipe-exports @ {built.wheel.as_uri()}", wheels, tmp_path_factory.mktemp("tool"))


@pytest.fixture(scope="module")
def base(built: Built, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return the sdist, installed by `pip install`."""
    return by_pip(str(built.sdist), wheels, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the archive that this checkout packages."""
    return build("aws", tmp_path_factory.mktemp("archive")).path.read_bytes()


def test_sdist_builds_the_same_wheel_as_the_tree(built: Built) -> None:
    """The sdist has everything that a build needs: both wheels have the same bytes."""
    assert built.wheel.name == built.wheel_of_sdist.name
    assert built.wheel.read_bytes() == built.wheel_of_sdist.read_bytes()


def test_secrets_and_stale_files_are_not_packed(built: Built) -> None:
    """Terraform's state and values, and the output of an earlier build, are left out."""
    with ZipFile(built.wheel) as wheel, tarfile.open(built.sdist) as sdist:
        for names in (wheel.namelist(), sdist.getnames()):
            assert not [
                name for name in names if any(name.endswith(one.removeprefix("build/lib/")) for one in UNWANTED)
            ]
            assert not [name for name in names if "/tests/" in name or name.startswith("tests/")]
        assert not any(b"s3cr3t" in wheel.read(name) for name in wheel.namelist())


def test_wheel_contains_all_terraform_modules(built: Built, repository: Path) -> None:
    """The wheel has every file below infra/ that git tracks."""
    listed = call("git", "ls-files", "infra", cwd=repository, check=False)
    if listed.returncode:
        pytest.skip("not a git repository, so the tracked files of infra/ are unknown")
    with ZipFile(built.wheel) as wheel:
        packed = {name.removeprefix("tailpipe_exports/carried/") for name in wheel.namelist()}
    assert set(listed.stdout.split()) <= packed


@pytest.mark.parametrize("name", WAYS)
def test_help_version_and_completion_work_in_any_folder(
    name: str, built: Built, request: pytest.FixtureRequest, repository: Path
) -> None:
    """The version is that of pyproject.toml and the commit that of the build, whatever repository surrounds it."""
    installed: Installed = request.getfixturevalue(name)
    assert "Commands:" in installed("--help").stdout
    version = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    call("git", "init", "-q", cwd=installed.elsewhere)
    assert installed("--version").stdout == f"tailpipe-exports {version} (commit {built.commit})\n"
    assert "compdef tailpipe-exports" in installed("completion", "zsh").stdout


@pytest.mark.parametrize("name", WAYS)
def test_installed_command_packages_the_same_archive(name: str, archive: bytes, request: pytest.FixtureRequest) -> None:
    """The archive equals the checkout's, from the wheel and from the sdist."""
    installed: Installed = request.getfixturevalue(name)
    made = installed("package", "aws", "--out", "out").stdout.strip()
    assert (installed.elsewhere / made).read_bytes() == archive


@pytest.mark.parametrize("name", WAYS)
def test_plan_and_dry_run_of_deploy_need_no_checkout(
    name: str, request: pytest.FixtureRequest, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """Without an extra, `plan` reads the account; `deploy --dry-run` runs Terraform and creates nothing."""
    installed: Installed = request.getfixturevalue(name)
    terraform.plan([change("terraform_data.one")])
    package = tmp_path / "given.zip"
    package.write_bytes(b"PK")
    with LocalAws(accounts=2) as aws:
        variables = {**aws.environment(), "TF_VAR_external_id": EXTERNAL_ID}
        planned = installed("plan", "aws", "--without-deployment", "--json", check=False, variables=variables)
        assert planned.returncode == 2, planned.stderr
        assert json.loads(planned.stdout)["scopes"]["active"] == 2
        given = ("--var", "environment=prod", "--var", f"package={package}")
        deployed = installed("deploy", "aws", "--dry-run", *given, check=False, variables=variables)
    assert deployed.returncode == 0, deployed.stderr
    (call_of_plan,) = terraform.calls("plan")
    module = Path(call_of_plan.root["module"]["tailpipe"]["source"])
    assert module.is_relative_to(installed.python.parents[1])
    assert (module / "main.tf").is_file()
    assert terraform.calls("apply") == []


@pytest.mark.parametrize("command", ["local gcp", "local aws", "demo azure", "demo"])
def test_missing_extra_is_reported_with_the_command_that_installs_it(tool: Installed, command: str) -> None:
    """Every command that needs the extra `local` prints one sentence."""
    done = tool(*command.split(), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: `tailpipe-exports {command}` needs the module ")
    assert line.endswith(" pip install '.[local]'")


@pytest.mark.parametrize("command", ["plan azure", "doctor gcp", "deploy aws --dry-run"])
def test_every_cloud_works_without_extras(tool: Installed, command: str) -> None:
    """Without credentials, the other commands fail with a short message rather than a missing module."""
    done = tool(*command.split(), check=False)
    assert done.returncode == 1
    assert "needs the module" not in done.stdout + done.stderr
    assert "installation is incomplete" not in done.stdout + done.stderr
    assert "Credential: " not in done.stdout + done.stderr  # azure-identity's list of attempted credentials
    assert "Traceback" not in done.stdout + done.stderr


# The tests of each cloud's package prove that the lists are complete: both come from the same pins.
@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_extra_contains_all_imports_of_its_cloud(
    cloud: str, built: Built, wheels: Path, repository: Path, tmp_path: Path
) -> None:
    """With one cloud's extra, its function and all of the operator's commands can be imported."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python, offline = tmp_path / "venv" / "bin" / "python", {"UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(tmp_path / "uv")}
    call(find_uv_bin(), "venv", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path, variables=offline)
    for what in ((*base_requirements(project), *project["optional-dependencies"][cloud]), ("--no-deps", built.wheel)):
        install = ("pip", "install", "--python", python, "--offline", "--no-index", "--find-links", wheels)
        call(find_uv_bin(), *install, *what, cwd=tmp_path, variables=offline)
    script = f"from cli.clouds import CLOUDS; CLOUDS[{cloud!r}].run_once(); CLOUDS[{cloud!r}].operator()"
    call(python, "-c", script, cwd=tmp_path)
