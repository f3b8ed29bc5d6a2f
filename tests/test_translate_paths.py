from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import RUN_ID, path_of, run, text
from receiver_schemas import check_urn

from datahub_eventlog.config import Config
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.paths import (
    NoDataset,
    dataset_at,
    dataset_of_path,
    is_scratch,
    paths,
    without_partition,
)
from datahub_eventlog.translate.urns import InvalidUrn
from datahub_eventlog.values import Metadatum

SCRATCH = ("/home/dagster/storage", "D:\\dagster\\storage")
PARENT = "7a3f2f3e-9a76-4b6c-8a55-1f0a6a1b2c3d"


def dataset(platform: str, name: str, env: str = "PROD") -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:{platform},{name},{env})"


@pytest.mark.parametrize(
    ("path", "platform", "name"),
    [
        ("/data/orders.csv", "file", "/data/orders.csv"),
        ("/data/orders/", "file", "/data/orders"),
        ("/", "file", "/"),
        ("file:///data/orders.csv", "file", "/data/orders.csv"),
        ("C:\\data\\orders.csv", "file", "C:\\data\\orders.csv"),
        ("C:/data/orders.csv", "file", "C:/data/orders.csv"),
        ("\\\\host\\share\\orders.csv", "file", "\\\\host\\share\\orders.csv"),
        ("s3://bucket/a/b", "s3", "bucket/a/b"),
        ("s3a://bucket/a/b/", "s3", "bucket/a/b"),
        ("s3n://bucket/a/b", "s3", "bucket/a/b"),
        ("s3://bucket", "s3", "bucket"),
        ("S3://bucket/What?#", "s3", "bucket/What"),
        ("s3://bkt/k?X-Amz-Signature=ab&X-Amz-Credential=AKIA/x", "s3", "bkt/k"),
        ("s3://id:secret@bkt/k#part", "s3", "bkt/k"),
        ("gs://bkt/k?X-Goog-Signature=ab", "gcs", "bkt/k"),
        ("hdfs://bob:pw@namenode:8020/a?x", "hdfs", "/a"),
        ("file:///data/a.csv?token=x", "file", "/data/a.csv"),
        ("mysql://bob:p/w?@h/shop", "mysql", "h/shop"),
        ("gs://bucket/a/b", "gcs", "bucket/a/b"),
        ("abfss://box@account.dfs.core.windows.net/a/b", "abs", "box/a/b"),
        ("abfs://box/a/b", "abs", "box/a/b"),
        ("wasbs://box@account.blob.core.windows.net/a", "abs", "box/a"),
        ("https://account.blob.core.windows.net/box/a?sig=secret", "abs", "box/a"),
        ("hdfs://namenode:8020/a/b", "hdfs", "/a/b"),
        ("dbfs:/mnt/a", "dbfs", "/mnt/a"),
        ("https://user:word@host.com/a/b?token=secret#x", "https", "host.com/a/b"),
        ("http://host.com", "http", "host.com"),
        ("http://host.com?token=secret", "http", "host.com"),
        ("sftp://user:word@host.com/a", "sftp", "host.com/a"),
        ("  s3://bucket/a\n", "s3", "bucket/a"),
    ],
)
def test_a_path_is_a_dataset_of_its_platform(path: str, platform: str, name: str) -> None:
    assert dataset_of_path(path, run(), Context()) == dataset(platform, name)


def test_a_path_is_in_the_configured_environment_and_platform_instance() -> None:
    here = Context(Config(env="DEV", platform_instance_map={"s3": "east"}))
    assert dataset_of_path("s3://b/A", run(), here) == dataset("s3", "east.b/A", "DEV")


@pytest.mark.parametrize(
    "path",
    [
        "/home/dagster/storage/raw/orders",
        "/home/dagster/storage",
        "file:///home/dagster/storage/raw/orders",
        "D:\\dagster\\storage\\raw\\orders",
        "D:/dagster/storage/raw/orders",
        f"s3://bucket/dagster/{RUN_ID}/clean/result",
        f"/elsewhere/{PARENT}/clean/result",
        "s3://bucket/dagster/storage/12345678-1234-4234-8234-123456789012/clean/result",
    ],
)
def test_what_dagster_keeps_for_itself_is_no_dataset(path: str) -> None:
    here = Context(scratch=SCRATCH)
    assert dataset_of_path(path, run(parent_run_id=PARENT), here) is None


@pytest.mark.parametrize(
    "path", ["/home/dagster/storage2/orders", "/home/dagster", "s3://bucket/storage/orders"]
)
def test_what_only_looks_like_it_is_a_dataset(path: str) -> None:
    assert not is_scratch(path, run(), Context(scratch=SCRATCH))


@pytest.mark.parametrize(
    "path", ["data/orders.csv", "./a", "../a", "~/a", "a", "file:a", "C:a", ""]
)
def test_a_relative_path_is_no_dataset(path: str) -> None:
    assert dataset_of_path(path, run(), Context()) is None


def test_an_empty_scratch_directory_hides_nothing() -> None:
    assert dataset_of_path("/data/a", run(), Context(scratch=("", "/"))) is not None


@pytest.mark.parametrize("path", ["s3://", "file://", "file:"])
def test_a_url_without_a_name_is_no_dataset(path: str) -> None:
    assert dataset_of_path(path, None, Context()) is None


@given(st.text())
def test_any_path_makes_a_urn_that_datahub_takes_or_none_or_a_fault(path: str) -> None:
    try:
        urn = dataset_of_path(path, run(), Context(scratch=SCRATCH))
    except InvalidUrn:
        return
    assert urn is None or check_urn(urn, "") == "dataset"


def test_paths_are_distinguished_from_other_metadata() -> None:
    metadata = {
        "a": path_of("/data/a"),
        "path": text("/data/b"),
        "uri": Metadatum("url", "s3://bucket/c"),
        "other": text("/data/d"),
        "empty": path_of(" "),
        "size": Metadatum("int", 3),
    }
    assert list(paths(metadata)) == ["/data/a", "/data/b", "s3://bucket/c"]
    assert list(paths({"path": text("the main road")})) == []


def test_a_path_of_thousands_of_partitions_is_read_segment_by_segment() -> None:
    days = "2026-11-26/" * 5000
    assert without_partition(f"/data/{days}", "2026-11-26") == "/data"
    with pytest.raises(NoDataset, match="one partition's"):
        without_partition(f"/data/{days}x y", "2026-11-26")


@pytest.mark.parametrize(
    ("path", "partition"),
    [
        ("/data/2026/11/26", "26|2026-11-26"),
        ("/data/2026/11/26/26.tar.gz", "2026-11-26|26"),
        ("/data/a/b", "a/b"),
        ("/data/eu\\2026-11-26\\", "eu|2026-11-26"),
        ("/data/2026/11/26/00/00", "2026-11-26-00:00"),
    ],
)
def test_a_partition_can_be_several_segments(path: str, partition: str) -> None:
    assert without_partition(path, partition) == "/data"


@pytest.mark.parametrize(
    "path",
    [
        "s3://b/2026-11-26",
        "s3://b//2026-11-26.parquet",
        "s3://b/year=2026/month=11/day=26/o.parquet",
        "abfss://box@account.dfs.core.windows.net/2026-11-26",
        "https://account.blob.core.windows.net/box/2026-11-26?sig=secret",
        "dbfs:/2026-11-26",
        "C:\\2026-11-26.csv",
    ],
)
def test_a_whole_bucket_is_not_the_dataset_of_a_partition_in_it(path: str) -> None:
    with pytest.raises(NoDataset, match="one partition's"):
        dataset_at(path, None, Context(), "2026-11-26")
    assert dataset_of_path("s3://b", None, Context(), "2026-11-26") == dataset("s3", "b")


@pytest.mark.parametrize("time", ["20261126000000", "2026-11-26T00:00:00", "2026-11-26-00_00"])
def test_the_file_of_an_hour_can_be_named_to_the_second(time: str) -> None:
    hour = "2026-11-26-00:00"
    assert without_partition(f"/data/orders/{time}.parquet", hour) == "/data/orders"
    with pytest.raises(NoDataset, match="one partition's"):
        without_partition(f"/data/orders_{time}.parquet", hour)
