"""Packaging without a package index: the content of an archive, its reproducibility, and all problems together."""

from __future__ import annotations

import functools
import os
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest
from click.testing import CliRunner
from packaging.tags import sys_tags

from aws_lambda.clients import RATES
from cli.clouds import CLOUDS
from cli.main import main
from cli.packaging import TARGETS, Package, PackagingError, Target, build
from cli.packaging.installer import read_lock
from cli.packaging.layouts import AWS_SERVICES, LAYOUTS
from cli.packaging.prune import shipped
from tests.cli.wheels import Checkout, checkout

NEW, OLD = Target.linux("3.13", "aarch64", 34), Target.linux("3.11", "x86_64", 28)
OURS = {
    "LICENSE",
    "aws_lambda/__init__.py",
    "aws_lambda/collector.py",
    "aws_lambda/handler.py",
    "shared/__init__.py",
    "shared/inner/__init__.py",
    "shared/inner/deep.py",
    "shared/later.py",
    "shared/used.py",
}
ALPHA = {"alpha.py", "alpha-1.0.dist-info/METADATA", "alpha-1.0.dist-info/licenses/LICENSE"}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """Return a small checkout whose wheels are the only ones that uv finds."""
    made = checkout(tmp_path / "checkout")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(made.wheels))
    return made


def packaged(small: Checkout, target: Target = NEW, out: str = "out") -> Package:
    """Build the AWS archive of a small checkout."""
    return build("aws", small.root.parent / out, target, code=small.root, files=small.root)


def problems(small: Checkout, target: Target = NEW, out: str = "out") -> str:
    """Return the problems that prevent the archive, one per line."""
    with pytest.raises(PackagingError) as error:
        packaged(small, target, out)
    assert list(small.root.parent.glob(f"{out}/*")) == []
    return "\n".join(error.value.problems)


def test_only_modules_that_the_handler_imports_are_shipped(small: Checkout) -> None:
    """Imports anywhere in a module count."""
    made = packaged(small)
    assert set(made.files) == OURS | ALPHA
    with ZipFile(made.path) as archive:
        assert archive.read("aws_lambda/handler.py") == (small.root / "aws_lambda/handler.py").read_bytes()


def test_archive_is_reproducible(small: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age, umask, working folder and time zone of the checkout do not change the bytes."""
    first = packaged(small)
    other = checkout(tmp_path / "other")
    for path in other.root.rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (other.root / "aws_lambda" / "__pycache__").mkdir()
    (other.root / "aws_lambda" / "__pycache__" / "handler.cpython-311.pyc").write_bytes(b"stale")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    mask = os.umask(0o077)
    try:
        second = build("aws", Path("relative"), NEW, code=other.root, files=other.root)
    finally:
        os.umask(mask)
    assert second.sha256 == first.sha256
    assert second.path.read_bytes() == first.path.read_bytes()
    with ZipFile(second.path) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(second.files) == list(second.files)
    written = {(entry.date_time, entry.external_attr >> 16, entry.create_system, entry.extra) for entry in entries}
    assert written == {((1980, 1, 1, 0, 0, 0), 0o100644, 3, b"")}


def test_unused_files_of_packages_are_left_out(small: Checkout) -> None:
    """This covers stubs, native sources, pages, tests, launchers and installer files; data and licenses stay."""
    small.wheel(
        "beta",
        {
            "beta/__init__.py": "",
            "beta/__init__.pyi": "",
            "beta/py.typed": "",
            "beta/native.pyx": "",
            "beta/native.c": "",
            "beta/page.js": "",
            "beta/tests/test_beta.py": "",
            "beta/testing/tests.py": "",
            "beta/table.json": "{}",
            "beta-1.0.dist-info/entry_points.txt": "[console_scripts]\nbeta = beta:main\n",
        },
    )
    small.lock(["beta==1.0"])
    assert set(packaged(small).files) - OURS == {
        "beta/__init__.py",
        "beta/testing/tests.py",
        "beta/table.json",
        "beta-1.0.dist-info/METADATA",
        "beta-1.0.dist-info/entry_points.txt",
        "beta-1.0.dist-info/licenses/LICENSE",
    }


def test_descriptions_of_unused_services_are_left_out(tmp_path: Path) -> None:
    """Of botocore's data, top-level files and the used services' folders stay."""
    data = tmp_path / "botocore" / "data"
    for name in ("s3/2006-03-01/service-2.json.gz", "ec2/2016-11-15/service-2.json.gz", "partitions.json"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("{}")
    found = shipped(tmp_path, LAYOUTS["aws"].unused)
    assert set(found) == {"botocore/data/partitions.json", "botocore/data/s3/2006-03-01/service-2.json.gz"}
    assert LAYOUTS["aws"].unused(PurePosixPath("boto3/data/s3/2006-03-01/resources-1.json"))
    assert not LAYOUTS["azure"].unused(PurePosixPath("botocore/data/ec2/2016-11-15/service-2.json.gz"))


def test_markers_are_evaluated_for_the_target(small: Checkout) -> None:
    """The Python that builds the archive does not matter."""
    small.wheel("beta")
    small.wheel("gamma")
    small.lock(["alpha==1.0", "beta==1.0 ; python_version < '3.12'", "gamma==1.0 ; platform_machine == 'aarch64'"])
    assert {"beta.py", "gamma.py"} & set(packaged(small, NEW).files) == {"gamma.py"}
    assert {"beta.py", "gamma.py"} & set(packaged(small, OLD).files) == {"beta.py"}


def test_markers_select_the_version_of_a_distribution(small: Checkout) -> None:
    """Each target gets its own version."""
    small.wheel("beta", {"beta.py": "old"})
    small.wheel("beta", {"beta.py": "new"}, version="2.0")
    small.lock(["beta==1.0 ; python_version < '3.13'", "beta==2.0 ; python_version >= '3.13'"])
    for target, content in ((NEW, b"new"), (OLD, b"old")):
        with ZipFile(packaged(small, target).path) as archive:
            assert archive.read("beta.py") == content


def test_every_missing_wheel_is_reported(small: Checkout) -> None:
    """Wheels for another machine or Python do not count; the target is named."""
    small.wheel("beta", tag="cp313-cp313-manylinux_2_28_x86_64")
    small.wheel("gamma", tag="cp312-cp312-manylinux_2_28_aarch64")
    small.wheel("delta", tag="cp313-cp313-manylinux_2_39_aarch64")
    small.wheel("epsilon", tag="cp39-abi3-manylinux_2_28_aarch64")
    names = ["alpha", "beta", "delta", "epsilon", "gamma"]
    small.lock([f"{name}==1.0" for name in names])
    found = problems(small, NEW).splitlines()
    assert sorted(line.split("wheel of ")[1].split()[0] for line in found) == ["beta==1.0", "delta==1.0", "gamma==1.0"]
    assert all("Python 3.13 on aarch64-manylinux_2_34" in line for line in found)


def test_problems_of_source_and_requirements_are_reported_together(small: Checkout) -> None:
    """One error has an import that is never shipped and a pin without a hash."""
    small.write("cli/__init__.py", "")
    small.write("shared/used.py", "import cli\n")
    small.write("requirements/aws_lambda.txt", "alpha==1.0\n")
    found = problems(small)
    assert "aws_lambda imports cli" in found
    assert "alpha==1.0 is not pinned by version and hash" in found


def test_wheel_with_a_wrong_hash_is_refused(small: Checkout) -> None:
    """Only locked wheels are installed."""
    small.lock(["alpha==1.0"], {"alpha==1.0": "0" * 64})
    found = problems(small)
    assert "Hash mismatch for `alpha==1.0`" in found


def test_unreachable_index_is_reported_once_without_its_password(
    small: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one problem, not one per pin."""
    small.wheel("beta")
    small.lock(["alpha==1.0", "beta==1.0"])
    for name in ("UV_NO_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hidden@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    found = problems(small)
    assert "reaches no package index" in found
    assert len(found.splitlines()) == 1
    assert "hidden" not in found


def test_uv_settings_of_the_operator_are_ignored(small: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target folder or another environment does not change the archive."""
    expected = packaged(small).sha256
    monkeypatch.setenv("VIRTUAL_ENV", str(small.root / "another"))
    monkeypatch.setenv("UV_TARGET", str(small.root / "elsewhere"))
    assert packaged(small).sha256 == expected
    assert not (small.root / "elsewhere").exists()


def test_failed_build_keeps_the_previous_archive(small: Checkout) -> None:
    """An archive is replaced atomically."""
    before = packaged(small).path.read_bytes()
    small.write("aws_lambda/handler.py", "def (\n")
    with pytest.raises(PackagingError, match=r"aws_lambda/handler.py:1: "):
        packaged(small)
    (left,) = (small.root.parent / "out").iterdir()
    assert left.read_bytes() == before


def test_incomplete_installation_is_reported_with_a_remedy(small: Checkout) -> None:
    """Sources or requirements are missing."""
    empty = Checkout(small.root.parent / "empty")
    empty.root.mkdir()
    found = problems(empty)
    assert found.count("reinstall tailpipe-exports") == 2


def test_command_prints_only_the_path_to_stdout(
    small: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size, files and hash are on standard error."""
    monkeypatch.setattr("cli.package.build", functools.partial(build, code=small.root, files=small.root, target=NEW))
    done = CliRunner().invoke(main, ["package", "aws", "--out", str(tmp_path / "new" / "folder")])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'new' / 'folder' / 'tailpipe-exports-aws.zip'}\n")
    assert f"{len(OURS | ALPHA)} files, sha256 {packaged(small).sha256}" in done.stderr


def test_command_exits_with_1_and_all_problems(
    small: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output is empty."""
    monkeypatch.setattr("cli.package.build", functools.partial(build, code=small.root, files=small.root, target=NEW))
    (tmp_path / "file").write_text("in the way")
    done = CliRunner().invoke(main, ["package", "aws", "--out", str(tmp_path / "file")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "tailpipe-exports-aws.zip cannot be written: " in done.stderr
    (small.root / "LICENSE").unlink()
    (small.root / "requirements" / "aws_lambda.txt").unlink()
    done = CliRunner().invoke(main, ["package", "aws", "--out", str(tmp_path / "out")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 3
    assert not (tmp_path / "out").exists()


def test_every_cloud_has_a_layout() -> None:
    """The tool's clouds are those with a layout of an archive."""
    assert LAYOUTS.keys() == TARGETS.keys() == CLOUDS.keys()


@pytest.mark.parametrize(("glibc", "fits"), [(28, True), (34, True), (35, False)])
def test_wheels_for_a_newer_glibc_do_not_match_the_target(small: Checkout, glibc: int, fits: bool) -> None:
    """Wheels for the platform's glibc and older ones match."""
    small.wheel("beta", tag=f"cp313-cp313-manylinux_2_{glibc}_aarch64")
    small.lock(["beta==1.0"])
    if fits:
        assert "beta.py" in packaged(small, NEW).files
    else:
        assert "beta==1.0" in problems(small, NEW)


def test_wheels_of_this_interpreter_match_the_host(small: Checkout) -> None:
    """A wheel for another Python does not."""
    best = next(iter(sys_tags()))
    small.wheel("beta", tag=str(best))
    small.lock(["beta==1.0"])
    assert "beta.py" in packaged(small, Target.host()).files
    assert "beta==1.0" in problems(small, Target.linux("3.14", "x86_64", 28), out="other")


def test_locks_of_the_functions_are_read_completely(repository: Path) -> None:
    """All pins and hashes are read, without the comments."""
    for layout in LAYOUTS.values():
        path = repository / "requirements" / f"{layout.folder}.txt"
        lock, text = read_lock(path), path.read_text()
        assert "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#")) == lock


def test_shipped_service_descriptions_are_those_of_the_clients() -> None:
    """Packaging must not import the AWS SDK, so it has its own list of services."""
    assert RATES.keys() | {"lambda"} == AWS_SERVICES
