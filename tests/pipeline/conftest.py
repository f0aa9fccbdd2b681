"""What the tests of the pipeline share: a bucket."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

AWS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def aws() -> dict[str, str]:
    """Return the environment variables of a user of S3, without the address of a server."""
    return AWS


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Return the URI of a bucket on a real server of the protocol."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**AWS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        # This server keeps the condition of a PUT.
        patch.setattr("pipeline.output.documents.SETTLE_S", 0.02)
        boto3.client("s3").create_bucket(Bucket="overtile-test")
        yield "s3://overtile-test"
    server.stop()
