"""docs/data.md: its queries return each delivered cost once, whatever other files the destination contains."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from azure_function.clients import drop_clients
from localcloud.gcp.cloud import LocalGcp
from tests.aws_lambda.support import local_aws
from tests.aws_lambda.support import run as run_aws
from tests.azure_function.support import DAY, advance, local_azure
from tests.azure_function.support import run as run_azure
from tests.gcp_function.support import local_gcp
from tests.gcp_function.support import run as run_gcp

PLACE = re.compile(r"(?:s3|gs)://BUCKET|az://CONTAINER")


def query(repository: Path, title: str, folder: Path) -> list[dict[str, Any]]:
    """Run the query of a section on the files in `folder`, and return its rows."""
    text = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    (sql,) = re.findall(r"```sql\n(.+?)```", section, re.DOTALL)
    assert PLACE.search(sql)
    with duckdb.connect() as engine:
        engine.execute("SET autoinstall_known_extensions = false")
        found = engine.execute(PLACE.sub(str(folder), sql))
        names = [one[0] for one in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def put(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files below a folder."""
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_aws_query_counts_every_account_once(repository: Path, tmp_path: Path) -> None:
    """The sums equal the costs of the delivered lines."""
    with local_aws(accounts=3) as cloud:
        run_aws(cloud)
        cloud.deliver()
        cloud.advance(3 * 86_400)
        cloud.deliver()
        s3, bucket = cloud.client("s3"), cloud.deployment.bucket
        keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix="dataexport/")["Contents"]]
        put(tmp_path, ((key, s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys))
    (file,) = tmp_path.rglob("*.csv.gz")
    lines = list(csv.DictReader(io.StringIO(gzip.decompress(file.read_bytes()).decode())))
    for number, line in enumerate(lines, 1):
        line["line_item_unblended_cost"] = f"{number}.25"  # the local AWS delivers lines without costs
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    file.write_bytes(gzip.compress(text.getvalue().encode()))
    rows = query(repository, "AWS", tmp_path)
    assert {one["account"] for one in rows} == {line["line_item_usage_account_id"] for line in lines}
    assert sum(one["cost"] for one in rows) == sum(number + 0.25 for number in range(1, len(lines) + 1)) > 1
    assert {one["month"] for one in rows} == {file.parent.name.partition("=")[2]}


def test_azure_query_counts_only_the_newest_run(repository: Path, tmp_path: Path) -> None:
    """A second month-to-date delivery replaces the first, although both files exist."""
    with local_azure(subscriptions=2) as cloud:
        run_azure(cloud)
        cloud.deliver()
        put(tmp_path, azure_files(cloud))
        advance(cloud, DAY)
        cloud.deliver()
        newest = dict(azure_files(cloud))
        put(tmp_path, newest.items())
        drop_clients()
    lines = [line for name, content in newest.items() if name.endswith(".gz") for line in table(content)]
    assert len(list(tmp_path.rglob("manifest.json"))) == 4
    rows = query(repository, "Azure", tmp_path)
    assert {one["subscription"] for one in rows} == set(cloud.subscription_ids)
    assert round(sum(one["cost"] for one in rows), 2) == round(sum(float(line[5]) for line in lines), 2) > 0


def azure_files(cloud: Any) -> list[tuple[str, bytes]]:
    """Return name and content of every delivered blob."""
    with cloud.blob_client() as client:
        container = client.get_container_client("dataexport")
        return [(name, container.download_blob(name).readall()) for name in container.list_blob_names()]


def table(content: bytes) -> list[list[str]]:
    """Return the rows of a delivered file without its header."""
    return [line.split(",") for line in gzip.decompress(content).decode("utf-8-sig").splitlines()[1:]]


def test_gcp_query_counts_only_the_newest_copy(repository: Path, tmp_path: Path) -> None:
    """A file that the manifest does not name is not counted."""
    with local_gcp(accounts=2, done=2) as cloud:
        run_gcp(cloud, EXPORTS="standard,detailed")
        put(tmp_path, gcp_files(cloud))
    copies = sorted(tmp_path.rglob("*.parquet"))
    with duckdb.connect() as engine:
        detailed = [str(one) for one in copies if "detailed" in one.parts]
        found = engine.execute("SELECT cost, [one.amount for one in credits] FROM read_parquet(?)", [detailed])
        lines = [cost + sum(amounts) for cost, amounts in found.fetchall()]
    before = query(repository, "Google Cloud", tmp_path)
    assert sum(one["cost"] for one in before) == pytest.approx(sum(lines), abs=0.01 * len(before))
    assert sum(lines) > 1
    superseded = Path(detailed[0]).parent.parent / "20000101T000000.000000Z-1" / "0-000000000000.parquet"
    put(tmp_path, [(str(superseded.relative_to(tmp_path)), Path(detailed[0]).read_bytes())])
    assert query(repository, "Google Cloud", tmp_path) == before


def gcp_files(cloud: LocalGcp) -> list[tuple[str, bytes]]:
    """Return name and content of every object in the export bucket."""
    bucket = cloud.world.buckets.find(cloud.deployment.bucket)
    found = ((name, bucket.objects.get(bucket.name, name).content) for name in cloud.objects(bucket.name))
    return [(name, content.read_bytes() if isinstance(content, Path) else content) for name, content in found]


@pytest.mark.parametrize("field", ["connector=bigQuery", "type=TABLE", "projectId=", "datasetId=", "tableId="])
def test_report_link_contains_the_table(repository: Path, field: str) -> None:
    """The link has all fields that a report needs to find a BigQuery table, for one data source."""
    text = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    (link,) = re.findall(r"https://lookerstudio\.google\.com/reporting/create\?(\S+)", text)
    assert f"ds.ds0.{field}" in link
