"""Output that must not reach the terminal: HTML of proxies, lists of attempts, tracebacks, broken ids."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from localcloud.gcp.cloud import LocalGcp
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import LOADER
from tests.cli.support.operating import package, terraform
from tests.cli.support.terraform_double import TerraformDouble, change

__all__ = ["package", "terraform"]  # fixtures, which pytest finds by name
PAGE = b"<!DOCTYPE html><html><head><title>Sign in to the proxy</title></head><body>hush</body></html>"
SUBSCRIPTION = "0f8fad5b-d9cb-469f-a165-70867728950e"
NOISE = (
    "Traceback",
    "<html",
    "hush",
    "Sign in to the proxy",
    "DefaultAzureCredential",
    "EnvironmentCredential",
    'File "',
)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Answers every request with an HTML page."""

    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        """Answer any request."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(self.status)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Proxy]]:
    """Let a proxy respond instead of the three clouds."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}"
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIALOCA111122223333",
            "AWS_SECRET_ACCESS_KEY": "local-cloud-has-no-secrets",
            "ARM_ENDPOINT": url,
            "ARM_TOKEN": "a-token",
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "GOOGLE_API_ENDPOINT": url,
            "GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport",
            "GOOGLE_OAUTH_ACCESS_TOKEN": "a-token",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("botocore.session.create_loader", LOADER)
        yield Proxy
        server.shutdown()
        serving.join()


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("command", [["plan"], ["run", "--yes"], ["doctor"], ["invoke"]], ids=" ".join)
@pytest.mark.parametrize(("cloud", "status"), [("aws", 200), ("aws", 403), ("azure", 403), ("gcp", 200), ("gcp", 403)])
def test_html_of_a_proxy_is_reported_but_not_shown(
    proxy: type[Proxy], monkeypatch: pytest.MonkeyPatch, cloud: str, status: int, command: list[str]
) -> None:
    """A command exits with 1, and shows one cause and its remedy."""
    monkeypatch.setattr(proxy, "status", status)
    result = tailpipe(command[0], cloud, *command[1:])
    assert result.exit_code == 1
    assert not [one for one in NOISE if one in result.output]
    assert len(result.stderr.splitlines()) == 3, result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["aws", "--region", "nowhere-9"], ["aws", "--partition", "nowhere"], ["gcp", "--location", "nowhere-9"]],
    ids=" ".join,
)
def test_invalid_option_of_a_local_cloud_is_one_sentence(arguments: list[str]) -> None:
    """An unknown region or partition exits with 1, and shows the value without a traceback."""
    result = tailpipe("local", *arguments)
    assert result.exit_code == 1
    assert arguments[-1] in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not [one for one in NOISE if one in result.output]


@pytest.mark.parametrize(
    "cloud", ["aws", pytest.param("azure", marks=pytest.mark.slow), pytest.param("gcp", marks=pytest.mark.slow)]
)
def test_deployment_output_breaks_no_id_on_a_narrow_terminal(
    cloud: str, terraform: TerraformDouble, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 60 and 80 columns, resources, permissions and findings keep their words unbroken."""
    terraform.plan([change(f"terraform_data.one_of_a_long_name_number_{number}") for number in range(12)])
    monkeypatch.setenv("TF_VAR_external_id", EXTERNAL_ID)
    monkeypatch.setattr("botocore.session.create_loader", LOADER)
    serve = {"aws": LocalAws, "azure": LocalAzure, "gcp": LocalGcp}[cloud]
    with serve() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        given = ["environment=prod", package]
        if cloud == "azure":
            given.append("location=westeurope")
        if isinstance(running, LocalGcp):
            trusted = (
                "tenant=tenant-of-this-machine",
                f"issuer={running.world.issuer}",
                "audience=https://tailpipe.io",
            )
            given += [f"tailpipe_{one}" for one in trusted]
        values = [part for one in given for part in ("--var", one)]
        shown = {}
        for width in (4000, 80, 60):
            monkeypatch.setattr("cli.terminal.console.PLAIN_WIDTH", width)
            result = tailpipe("deploy", cloud, *values, "--dry-run")
            assert result.exit_code == 0, result.output
            shown[width] = result.stderr
            for line in result.stderr.splitlines():
                assert len(line) <= width or len(line.split()) == 1, line
    assert sorted(shown[4000].split()) == sorted(shown[80].split()) == sorted(shown[60].split())
