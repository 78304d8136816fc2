"""The tool's help: complete summaries on any terminal, tested examples, and completion in three shells."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.clouds import CLOUDS
from cli.main import main
from cli.terminal.command import Command, Group
from tests.cli.support.aws import account, sign_in, tailpipe
from tests.cli.support.operating import package, terraform
from tests.cli.support.processes import BIN, TAILPIPE, environment
from tests.cli.support.terraform_double import TerraformDouble, change

__all__ = ["package", "terraform"]  # fixtures, which pytest finds by name
NAME = "tailpipe-exports"
WIDTHS = (40, 45, 60, 80, 200)


def commands(group: click.Group, context: click.Context, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command and group."""
    yield path
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        assert isinstance(one, Command | Group), name
        if isinstance(one, click.Group):
            yield from commands(one, context, (*path, name))
        else:
            yield (*path, name)


def found(path: tuple[str, ...]) -> Command | Group:
    """Return the command at a path."""
    one: click.Command | None = main
    for name in path:
        assert isinstance(one, click.Group)
        one = one.get_command(click.Context(one), name)
    assert isinstance(one, Command | Group)
    return one


ALL = list(commands(main, click.Context(main)))
EXAMPLES = [(path, one) for path in ALL for one in found(path).examples]


def helped(path: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a command's help on a terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(width))
    result = CliRunner().invoke(main, [*path, "--help"], prog_name=NAME)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", [(), ("local",)], ids=["tool", "local"])
def test_summaries_are_not_shortened(path: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's first sentence is wrapped on a narrow terminal."""
    text = helped(path, width, monkeypatch)
    _, _, listed = text.partition("\nCommands:\n")
    assert "..." not in listed
    # An example is not wrapped.
    wrapped = text.partition("\nExamples:\n")[0]
    assert max(map(len, wrapped.splitlines())) <= width
    flat = " ".join(listed.split())
    group = found(path)
    assert isinstance(group, click.Group)
    for name in group.list_commands(click.Context(group)):
        one = group.get_command(click.Context(group), name)
        assert one is not None
        first = (one.help or "").partition("\n\n")[0]
        assert f"{name} {' '.join(first.split()).rstrip('.')}" in flat


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_an_example(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The help ends with examples that are not wrapped, so that they can be copied."""
    _, _, listed = helped(path, 40, monkeypatch).partition("\nExamples:\n")
    assert [line.strip() for line in listed.splitlines()] == list(found(path).examples)
    assert any(NAME in line for line in listed.splitlines())


def called(example: str) -> list[str]:
    """Return the arguments with which an example calls the tool, or [] if it does not."""
    match = re.search(rf"{NAME} ([^()|#>]*)", example)
    return shlex.split(match[1]) if match else []


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=lambda one: one if isinstance(one, str) else "")
def test_every_example_is_valid_for_its_command(path: tuple[str, ...], example: str, tmp_path: Path) -> None:
    """Names, options and values are known to the command."""
    arguments = called(example)
    if not arguments:
        assert example.startswith("source ")
        return
    assert tuple(arguments[: len(path)]) == path
    context: click.Context | None = None
    command: click.Command | None = main
    while isinstance(command, click.Group):
        context = click.Context(command, parent=context)
        name = arguments.pop(0)
        command = command.get_command(context, name)
    assert command is not None
    command.make_context(command.name, arguments, parent=context)


@pytest.mark.slow
def test_examples_of_deployment_commands_run(
    terraform: TerraformDouble, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every example works on a local deployment, in the order of the deployment's life."""
    shown = {example: called(example) for path, example in EXAMPLES if path[:1] not in [("local",), ("demo",)]}
    view = ("status", "history", "page", "logs", "explain")
    order = ("doctor", "package", "deploy", "plan", "run", "invoke", *view, "onboarding", "destroy")
    # Tests of the guides run those of tenants and of uploads, which need more than a deployment.
    elsewhere = {"--tenant", "--upload"}
    runnable = [one for one in shown.values() if one and one[0] in order and not elsewhere & {*one}]
    chosen = sorted(runnable, key=lambda one: order.index(one[0]))
    assert {one[0] for one in chosen} == set(order)
    monkeypatch.chdir(tmp_path)
    with account(accounts=2) as cloud:
        sign_in(cloud, monkeypatch)
        terraform.plan([change("terraform_data.one")])
        for arguments in chosen:
            given = list(arguments)
            if given[0] == "deploy":  # the double's plan needs no package
                given += ["--var", package, *([] if "--dry-run" in given else ["--yes"])]
            if given[0] == "deploy" and "environment=prod" not in given:
                given += ["--var", "environment=prod"]
            if given[0] == "destroy":
                given += ["--confirm", cloud.account]
            result = tailpipe(*given)
            accepted = (0, 2) if given[0] == "plan" or given[:1] + given[2:3] == ["destroy", "--dry-run"] else (0,)
            assert result.exit_code in accepted, (given, result.output)
    assert (tmp_path / "dist" / "tailpipe-exports-aws.zip").is_file()
    assert (tmp_path / "status.html").is_file()


def test_examples_of_local_clouds_run(tmp_path: Path) -> None:
    """One shell starts it, another reads its variables and plans there; at the end the file is gone."""
    start, source = found(("local", "aws")).examples
    shell = {**environment({}), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(
        ["bash", "-c", f"exec {start} --accounts 2"], cwd=tmp_path, env=shell, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            done = subprocess.run(
                ["bash", "-c", f"set -eu\n{source}\ntailpipe-exports plan aws --json"],
                cwd=tmp_path,
                env=shell,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 2, done.stderr
            assert json.loads(done.stdout)["cloud"] == "aws"
        finally:
            running.terminate()
            running.wait()
    assert list(tmp_path.iterdir()) == []


def completed(shell: str, line: str) -> set[str]:
    """Return the completions that a shell offers at the end of a line."""
    words = line.split(" ")
    if shell == "bash":
        quoted = " ".join(map(shlex.quote, words))
        script = (
            f"source <({TAILPIPE} completion bash)\n"
            f"COMP_WORDS=({quoted})\nCOMP_CWORD={len(words) - 1}\n"
            "_tailpipe_exports_completion tailpipe-exports\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
        )
        command = ["bash", "--norc", "-c", script]
    elif shell == "zsh":
        # `compadd` and `_describe` belong to zsh's line editor; here they print their array.
        script = (
            "compdef() { : }\n"
            'compadd() { print -rl -- "${(@P)argv[-1]}" }\n'
            '_describe() { for one in "${(@P)3}"; do print -r -- "${one%%:*}"; done }\n'
            f"source <({TAILPIPE} completion zsh)\n"
            f"words=({' '.join(map(shlex.quote, words))}); CURRENT={len(words)}\n"
            "_tailpipe_exports_completion || true\n"
        )
        command = ["zsh", "-f", "-c", script]
    else:
        script = f"{TAILPIPE} completion fish | source\ncomplete --do-complete {shlex.quote(line)}\n"
        command = ["fish", "--no-config", "-c", script]
    shown = {**environment({}), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, env=shown, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {one.split("\t")[0] for one in done.stdout.splitlines() if one}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completes_commands_clouds_and_options(shell: str) -> None:
    """The shell runs the script that the tool prints."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert completed(shell, f"{NAME} de") == {"deliveries", "demo", "deploy", "destroy"}
    assert completed(shell, f"{NAME} plan ") == set(CLOUDS)
    assert completed(shell, f"{NAME} local a") == {"aws", "azure"}
    assert completed(shell, f"{NAME} run gcp --dr") == {"--dry-run"}
    assert completed(shell, f"{NAME} completion z") == {"zsh"}


@pytest.mark.parametrize("line", ["plan nowhere --", "local nowhere --", "nothing ", "plan aws --nothing "])
def test_completion_of_an_invalid_line_prints_nothing(line: str) -> None:
    """An error or traceback would appear in the typed line."""
    words = f"{NAME} {line}"
    variables = {
        "_TAILPIPE_EXPORTS_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, TAILPIPE], env=environment(variables), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_matches_the_shell(shell: str) -> None:
    """It registers the command by name, even if the shell is not installed."""
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_TAILPIPE_EXPORTS_COMPLETE" in result.stdout
    assert {"bash": "complete -o", "zsh": "#compdef", "fish": "complete --no-files --command"}[shell] in result.stdout
