"""An S3 server of the tests' own (moto's, on loopback), which can go away and come back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer


class S3Server:
    """A server with a bucket ``results``; what is in it outlives :meth:`away`."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def away(self) -> None:
        self._server.stop()

    def back(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def names(self) -> list[str]:
        bucket = boto3.resource("s3", endpoint_url=self.url).Bucket("results")
        return sorted(item.key for item in bucket.objects.all())


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server that boto3 and pyarrow find, in this process and in those that it starts."""
    made = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": made.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=made.url).create_bucket(Bucket="results")
        yield made
    made.away()
