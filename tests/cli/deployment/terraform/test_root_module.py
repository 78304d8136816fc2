"""The root module: values are passed in the environment, are never templates, and the folder is private."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.deployment.model import Adoption, Backend
from cli.deployment.session import guarded
from cli.deployment.terraform import root_module
from cli.deployment.terraform.variables import Variable

SECRET = 'a "quoted" secret ${file("x")} %{ if true } $${kept} %%{too} $ % \\ ü'
VARIABLES = {
    "external_id": Variable("external_id", text=True, required=True, sensitive=True),
    "tags": Variable("tags", text=False, required=False, sensitive=False),
}
BACKEND = Backend("local", {"path": "x"}, "a file")


def made(folder: Path, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Write a root module; return it with the variables of its environment."""
    environment = root_module.write(folder, "aws", BACKEND, {"aws": {"region": "x"}}, {"aws": "aws"}, VARIABLES, values)
    return json.loads((folder / "main.tf.json").read_text(encoding="utf-8")), environment


def test_values_are_in_the_environment_and_not_in_the_folder(tmp_path: Path) -> None:
    """The folder has references; secret variables and all outputs are marked as sensitive."""
    document, environment = made(tmp_path, {"external_id": SECRET, "tags": {"cost": SECRET}})
    assert document["module"]["tailpipe"] == {
        "source": str(root_module.INFRA / "aws"),
        "external_id": "${var.external_id}",
        "tags": "${var.tags}",
        "providers": {"aws": "aws"},
    }
    assert document["variable"]["external_id"]["sensitive"] is True
    assert document["variable"]["tags"]["sensitive"] is False
    assert document["output"]["deployment"]["sensitive"] is True
    assert set(environment) == {"TF_VAR_external_id", "TF_VAR_tags"}
    held = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert "quoted" not in held


def test_folder_is_private_and_removed() -> None:
    """It is removed when the command ends for any reason."""
    held: dict[Path, int] = {}

    def work() -> None:
        with root_module.working_folder() as folder:
            made(folder, {"external_id": SECRET})
            root_module.add_imports(folder, [Adoption("module.tailpipe.aws_s3_bucket.exports", "one")])
            held.update({path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert sorted(held.values()) == [0o600, 0o600, 0o700]
    assert not any(path.exists() for path in held)


def test_template_sequences_in_values_are_escaped() -> None:
    """Both sequences of HCL are doubled, also after another $ or % and in keys and lists."""
    assert root_module.expression("${a} %{b} $c %d") == '"$${a} %%{b} $c %d"'
    assert root_module.expression({"${k}": ["%{v}", 1, True, None]}) == '{"$${k}": ["%%{v}", 1, true, null]}'


def test_terraform_evaluates_expressions_to_the_given_values(tmp_path: Path) -> None:
    """A real Terraform is used if it is installed."""
    binary = shutil.which("terraform") or shutil.which("tofu")
    if binary is None:
        pytest.skip("neither terraform nor tofu is on the PATH")
    values = {"one": SECRET, "two": {"${k} %{k}": [SECRET, 1.5, True, None]}, "three": "$${x} %%{y} $$$${z}"}
    document = {
        "variable": {name: {"type": "any"} for name in values},
        "output": {name: {"value": f"${{var.{name}}}"} for name in values},
    }
    (tmp_path / "main.tf.json").write_text(json.dumps(document), encoding="utf-8")
    given = {f"TF_VAR_{name}": root_module.expression(value) for name, value in values.items()}
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CHECKPOINT_DISABLE": "1", **given}
    for arguments in (["init", "-no-color"], ["apply", "-auto-approve", "-no-color"]):
        done = subprocess.run(
            [binary, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    told = subprocess.run(
        [binary, "output", "-json"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert {name: one["value"] for name, one in json.loads(told.stdout).items()} == values


def test_each_adoption_is_an_import_block(tmp_path: Path) -> None:
    """The block has address and id."""
    root_module.add_imports(tmp_path, [Adoption("module.tailpipe.a.b", "1"), Adoption('module.tailpipe.c.d["e"]', "2")])
    assert json.loads((tmp_path / "imports.tf.json").read_text(encoding="utf-8")) == {
        "import": [{"to": "module.tailpipe.a.b", "id": "1"}, {"to": 'module.tailpipe.c.d["e"]', "id": "2"}]
    }


def test_root_module_for_a_removal_needs_no_value(tmp_path: Path) -> None:
    """It has neither module nor variables, so the configuration lacks what the state has."""
    root_module.write_empty(tmp_path, BACKEND, {"aws": {"region": "x"}})
    document = json.loads((tmp_path / "main.tf.json").read_text(encoding="utf-8"))
    assert set(document) == {"terraform", "provider"}


@pytest.mark.parametrize(("version", "locks"), [((1, 5), False), ((1, 9), False), ((1, 10), True), ((2, 0), True)])
def test_s3_lock_is_used_from_terraform_1_10_on(version: tuple[int, int], locks: bool) -> None:
    """An older version would refuse the setting."""
    backend = Backend("s3", {"bucket": "b", "encrypt": True, "use_lockfile": True}, "bucket b")
    fitted = root_module.fitting(backend, version)
    assert fitted.configuration == {"bucket": "b", "encrypt": True, **({"use_lockfile": True} if locks else {})}
    assert (fitted.type, fitted.title) == ("s3", "bucket b")


def test_local_state_is_a_file_in_the_given_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is relative to the operator's working folder."""
    monkeypatch.chdir(tmp_path)
    backend = root_module.local_backend(Path("mine"))
    assert backend.configuration == {"path": str(tmp_path / "mine" / "terraform.tfstate")}


def test_provider_cache_is_created_unless_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is below XDG_CACHE_HOME; if it cannot be created, no cache is used."""
    found = root_module.plugin_cache({"XDG_CACHE_HOME": str(tmp_path)})
    assert re.fullmatch(r".*/tailpipe-exports/providers", found["TF_PLUGIN_CACHE_DIR"])
    assert Path(found["TF_PLUGIN_CACHE_DIR"]).is_dir()
    assert root_module.plugin_cache({"TF_PLUGIN_CACHE_DIR": "/own"}) == {}
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    assert root_module.plugin_cache({"XDG_CACHE_HOME": str(blocked)}) == {}


def test_signal_removes_the_folder() -> None:
    """SIGTERM exits with 143 and Ctrl-C with 130; a saved plan contains secrets."""
    made_here: list[Path] = []

    def command() -> int:
        with root_module.working_folder() as folder:
            made_here.append(folder)
            signal.raise_signal(signal.SIGTERM)
        return 0

    with pytest.raises(SystemExit) as caught:
        guarded("title", command)
    assert caught.value.code == 143
    assert not made_here[0].exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
