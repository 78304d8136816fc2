"""The launch templates as the command prints them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from cli.main import main
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gcp",), "has no launch template. Use: tailpipe-exports deploy gcp."),
        (("azure", "--name", "tenant"), "Name one of subscription, management-group."),
        (("aws", "--link", "https://example.com"), "Use --out FILE."),
        (("azure", "--out", "/no/such/folder/one"), "cannot be written: No such file or directory."),
    ],
)
def test_what_there_is_not_is_said_with_a_remedy(arguments: tuple[str, ...], said: str) -> None:
    """One sentence, exit code 1, and nothing on standard output."""
    code, shown, problem = run(*arguments)
    assert (code, shown) == (1, "")
    assert said in problem
