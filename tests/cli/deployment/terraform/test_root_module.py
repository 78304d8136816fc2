"""The root module: values travel in the environment, are never templates, and the folder is private."""

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
    """Write a root; return it with the variables of its environment."""
    environment = root_module.write(folder, "aws", BACKEND, {"aws": {"region": "x"}}, {"aws": "aws"}, VARIABLES, values)
    return json.loads((folder / "main.tf.json").read_text(encoding="utf-8")), environment


def test_values_travel_in_the_environment_and_never_in_the_folder(tmp_path: Path) -> None:
    """The folder holds references; a secret's variable and every output are marked as sensitive."""
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


def test_only_the_operator_may_read_the_folder_and_it_goes_away() -> None:
    """The folder and its files are the operator's alone, and are gone when the command ends, whatever happens in it."""
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


def test_nothing_in_a_value_is_a_template() -> None:
    """Both openings of HCL's templates are doubled, also behind another $ or % and in keys and lists."""
    assert root_module.expression("${a} %{b} $c %d") == '"$${a} %%{b} $c %d"'
    assert root_module.expression({"${k}": ["%{v}", 1, True, None]}) == '{"$${k}": ["%%{v}", 1, true, null]}'


def test_terraform_reads_back_what_was_given(tmp_path: Path) -> None:
    """A real Terraform, where there is one, takes every expression for the very value that was given."""
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


def test_imports_stand_beside_the_root(tmp_path: Path) -> None:
    """Each adoption is one import block by address and id."""
    root_module.add_imports(tmp_path, [Adoption("module.tailpipe.a.b", "1"), Adoption('module.tailpipe.c.d["e"]', "2")])
    assert json.loads((tmp_path / "imports.tf.json").read_text(encoding="utf-8")) == {
        "import": [{"to": "module.tailpipe.a.b", "id": "1"}, {"to": 'module.tailpipe.c.d["e"]', "id": "2"}]
    }


def test_a_root_that_only_removes_needs_no_value(tmp_path: Path) -> None:
    """Without module and variables it asks for nothing: what the state holds has left the configuration."""
    root_module.write_empty(tmp_path, BACKEND, {"aws": {"region": "x"}})
    document = json.loads((tmp_path / "main.tf.json").read_text(encoding="utf-8"))
    assert set(document) == {"terraform", "provider"}


@pytest.mark.parametrize(("version", "locks"), [((1, 5), False), ((1, 9), False), ((1, 10), True), ((2, 0), True)])
def test_the_lock_in_the_bucket_is_asked_for_where_terraform_knows_it(version: tuple[int, int], locks: bool) -> None:
    """S3's own lock came with 1.10; an older one would refuse the word. Nothing else of the backend changes."""
    backend = Backend("s3", {"bucket": "b", "encrypt": True, "use_lockfile": True}, "bucket b")
    fitted = root_module.fitting(backend, version)
    assert fitted.configuration == {"bucket": "b", "encrypt": True, **({"use_lockfile": True} if locks else {})}
    assert (fitted.type, fitted.title) == ("s3", "bucket b")


def test_the_state_of_a_trial_is_a_file_in_the_folder_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder is the operator's, not that of the root, which goes away."""
    monkeypatch.chdir(tmp_path)
    backend = root_module.local_backend(Path("mine"))
    assert backend.configuration == {"path": str(tmp_path / "mine" / "terraform.tfstate")}


def test_providers_are_fetched_once_and_an_own_cache_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is made below XDG_CACHE_HOME; one that is set stays, and one that cannot be made is done without."""
    found = root_module.plugin_cache({"XDG_CACHE_HOME": str(tmp_path)})
    assert re.fullmatch(r".*/tailpipe-exports/providers", found["TF_PLUGIN_CACHE_DIR"])
    assert Path(found["TF_PLUGIN_CACHE_DIR"]).is_dir()
    assert root_module.plugin_cache({"TF_PLUGIN_CACHE_DIR": "/own"}) == {}
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    assert root_module.plugin_cache({"XDG_CACHE_HOME": str(blocked)}) == {}


def test_a_signal_that_ends_the_command_leaves_no_folder_behind() -> None:
    """SIGTERM ends it with 143, as Ctrl-C with 130: a saved plan, which holds secrets, is removed."""
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
