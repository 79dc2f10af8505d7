import base64
import os

import pytest

from graftwork.cluster import object_store
from graftwork.cluster.api import NotFoundError
from graftwork.cluster.object_store import complete_storage, take_credentials
from graftwork.spec.resources import Storage

MINIO = """
minio: {default: {endpoint: "minio-service.kubeflow:9000", disableSSL: true, region: minio,
  credentials: {secretRef: {secretName: keys}}}}
s3: {default: {region: eu-west-1}}
"""


class Namespace:
    """What the launcher reads of its namespace."""

    def __init__(self, providers=None):
        self.providers = providers

    def config_map(self, name):
        if self.providers is None:
            raise NotFoundError(name)
        return {"providers": self.providers}

    def secret(self, name):
        assert name == "keys"
        return {key: base64.b64encode(key.encode()).decode() for key in ("accesskey", "secretkey")}


@pytest.fixture
def completed(step):
    def of(root, providers=MINIO, **more):
        there = step().model_copy(update={"storage": Storage(root=root, **more)})
        return complete_storage(there, Namespace(providers)).storage

    return of


def test_kfp_s_name_for_a_server_of_its_own_becomes_s3_with_its_endpoint(completed):
    assert completed("minio://bucket/runs") == Storage(
        root="s3://bucket/runs",
        endpoint="http://minio-service.kubeflow:9000",
        region="minio",
        secret="keys",
    )


def test_amazon_s_own_buckets_take_their_region_and_no_endpoint(completed):
    assert completed("s3://bucket/runs") == Storage(root="s3://bucket/runs", region="eu-west-1")


def test_what_the_spec_says_goes_before_what_kfp_knows(completed):
    said = {"endpoint": "https://s3.example", "region": "r", "secret": "mine"}
    assert completed("minio://bucket/runs", **said) == Storage(root="s3://bucket/runs", **said)


def test_an_endpoint_without_a_scheme_is_encrypted_unless_kfp_says_otherwise(completed):
    providers = "minio: {default: {endpoint: 'store:9000'}}"
    assert completed("minio://bucket/runs", providers).endpoint == "https://store:9000"


@pytest.mark.parametrize("root", ["gs://bucket/runs", "/mnt/runs"])
def test_other_storage_is_left_as_it_is(completed, root):
    assert completed(root) == Storage(root=root)


@pytest.mark.parametrize("providers", [None, "", "gs: {}"])
@pytest.mark.parametrize("host", ["seaweedfs", "minio-service"])
def test_without_settings_the_server_that_kfp_brings_along_is_meant(
    completed, providers, host, monkeypatch
):
    def resolve(name, port):
        if name != f"{host}.kubeflow":
            raise OSError(name)

    monkeypatch.setattr(object_store.socket, "getaddrinfo", resolve)
    assert completed("minio://bucket/runs", providers) == Storage(
        root="s3://bucket/runs",
        endpoint=f"http://{host}.kubeflow:9000",
        region="us-east-1",
        secret="mlpipeline-minio-artifact",
    )


OVERRIDES = """
s3:
  default: {endpoint: s3.amazonaws.com, region: eu-west-1, credentials: {fromEnv: true}}
  overrides:
    - {bucketName: bucket, keyPrefix: other, region: nowhere}
    - bucketName: bucket
      keyPrefix: runs
      endpoint: ceph:7480
      disableSSL: true
      credentials: {secretRef: {secretName: keys, accessKeyKey: id, secretKeyKey: key}}
"""


def test_the_first_override_that_fits_bucket_and_prefix_goes_before_the_default(completed):
    assert completed("s3://bucket/runs/a", OVERRIDES) == Storage(
        root="s3://bucket/runs/a",
        endpoint="http://ceph:7480",
        region="eu-west-1",
        secret="keys",
        access_key_name="id",
        secret_key_name="key",
    )


def test_where_no_override_fits_the_default_holds(completed):
    found = completed("s3://elsewhere/runs", OVERRIDES)
    assert (found.endpoint, found.secret) == ("https://s3.amazonaws.com", None)


def test_a_secret_of_the_spec_brings_its_own_names_of_keys(completed):
    found = completed("s3://bucket/runs/a", OVERRIDES, secret="mine")
    assert found.variables == {
        "AWS_ACCESS_KEY_ID": "accesskey",
        "AWS_SECRET_ACCESS_KEY": "secretkey",
    }


@pytest.mark.parametrize("providers", [None, "", "gs: {}"])
def test_without_settings_an_s3_bucket_is_amazon_s(completed, providers):
    assert completed("s3://bucket/runs", providers) == Storage(root="s3://bucket/runs")


def test_the_keys_of_the_secret_go_into_the_environment_only(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    take_credentials(Storage(root="s3://b/r", secret="keys"), Namespace())
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "secretkey"
