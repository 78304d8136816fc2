"""The launch templates as the command prints them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.packaging import Package, PackagingError
from cli.template import TEMPLATES
from tests.infra.planning import REPOSITORY

ALL = [(cloud, name) for cloud, known in TEMPLATES.items() for name in known]


def run(*arguments: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error."""
    done = CliRunner().invoke(main, ("template", *arguments))
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(("cloud", "name"), ALL)
def test_template_is_the_committed_one(cloud: str, name: str, tmp_path: Path) -> None:
    """On standard output, or in a file whose path is printed."""
    text = (REPOSITORY / "infra" / cloud / TEMPLATES[cloud][name].file).read_text(encoding="utf-8")
    out = tmp_path / "one"
    assert run(cloud, "--name", name) == (0, text, "")
    assert run(cloud, "--name", name, "--out", str(out)) == (0, f"{out}\n", "")
    assert out.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", TEMPLATES["azure"])
def test_link_opens_template_and_form_in_the_portal(name: str) -> None:
    """Both are read below the given address, where they exist."""
    code, link, _ = run("azure", "--name", name, "--link", "https://example.com/v1/infra/azure/")
    start, _, rest = link.strip().partition("/uri/")
    template, _, form = rest.partition("/createUIDefinitionUri/")
    assert (code, start) == (0, "https://portal.azure.com/#create/Microsoft.Template")
    for one in (template, form):
        base, _, file = unquote(one).rpartition("/")
        assert (base, (REPOSITORY / "infra/azure" / file).is_file()) == ("https://example.com/v1/infra/azure", True)
        assert "/" not in one


def test_guide_of_azure_prints_a_link() -> None:
    """Its command takes the address of the templates, and the link reads them there."""
    guide = (REPOSITORY / "docs" / "azure.md").read_text(encoding="utf-8")
    (arguments,) = re.findall(r"tailpipe-exports template (azure --link \S+)", guide)
    code, link, _ = run(*arguments.split())
    assert (code, f"/uri/{quote(arguments.split()[-1], safe='')}%2Ftemplate.json/" in link) == (0, True)


@pytest.mark.parametrize("end", ["", "/"])
def test_link_opens_the_tutorial_of_a_copy_in_cloud_shell(end: str) -> None:
    """The address of the copy is given once, and nothing is left to fill in."""
    code, link, _ = run("gcp", "--link", f"https://git.example.com/platform/exports.git{end}")
    parts = urlsplit(link.strip())
    assert (code, f"{parts.netloc}{parts.path}") == (0, "shell.cloud.google.com/cloudshell/editor")
    query = parse_qs(parts.query, strict_parsing=True)
    assert query == {
        "cloudshell_git_repo": ["https://git.example.com/platform/exports.git"],
        "cloudshell_tutorial": ["infra/gcp/tutorial.md"],
    }
    assert (REPOSITORY / "infra/gcp/tutorial.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gcp",), "is a folder with the function's package. Name it: --out DIR."),
        (("gcp", "--name", "other"), "has no launch template other. Use: tailpipe-exports deploy gcp."),
        (("azure", "--name", "tenant"), "Name one of subscription, management-group."),
        (("aws", "--link", "https://example.com"), "Use package aws --upload ADDRESS."),
        (("azure", "--link", "HOST/infra/azure"), "is not an https address. Write --link https://HOST/PATH."),
        (("gcp", "--link", "http://example.com/copy"), "is not an https address. Write --link https://HOST/PATH."),
        (("azure", "--out", "/no/such/folder/one"), "cannot be written: No such file or directory."),
    ],
)
def test_what_there_is_not_is_said_with_a_remedy(arguments: tuple[str, ...], said: str) -> None:
    """One sentence, exit code 1, and nothing on standard output."""
    code, shown, problem = run(*arguments)
    assert (code, shown) == (1, "")
    assert said in problem


def test_template_of_google_cloud_is_a_folder_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a root module, the module and the package; its path is printed."""
    package = tmp_path / "made.zip"
    package.write_bytes(b"PK")
    monkeypatch.setattr("cli.template.build", lambda *_: Package(package, "", ()))
    out = tmp_path / "new" / "blueprint"
    assert run("gcp", "--out", str(out)) == (0, f"{out}\n", "")
    assert (out / "tailpipe-exports-gcp.zip").read_bytes() == b"PK"
    assert (out / "main.tf").is_file()
    module = {path.name for path in (REPOSITORY / "infra" / "gcp").glob("*.tf")}
    assert {path.name for path in (out / "module").glob("*.tf")} == module
    code, _, problem = run("gcp", "--out", str(package))
    assert (code, "cannot be written: File exists. Name a folder" in problem) == (1, True)


def test_failed_package_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written then."""

    def fail(*_: object) -> Package:
        raise PackagingError(["no index"])

    monkeypatch.setattr("cli.template.build", fail)
    out = tmp_path / "blueprint"
    assert run("gcp", "--out", str(out)) == (1, "", "GCP's function is not packaged: no index\n")
    assert not out.exists()
