"""An error of a store becomes one line: the location, the problem, the remedy."""

import errno

import aiohttp
import botocore.exceptions as boto
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pipeline.base.errors import OutputError, StorageFullError, VolumeError
from pipeline.base.location import Location
from pipeline.base.store_errors import explained, is_denied, not_written

ENDPOINT = {"endpoint_url": "http://127.0.0.1:9"}


def missing_bucket():
    """Return what s3fs raises: its own error, with the answer of S3 as the cause."""
    error = FileNotFoundError("whatever the text says")
    error.__cause__ = boto.ClientError({"Error": {"Code": "NoSuchBucket"}}, "GetObject")
    return error


def answered(status):
    headers = CIMultiDictProxy(CIMultiDict())
    request = aiohttp.RequestInfo(URL("http://host/in.zarr"), "GET", headers)
    return aiohttp.ClientResponseError(request, (), status=status)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (missing_bucket(), "no such bucket; check its name and AWS_ENDPOINT_URL"),
        (FileNotFoundError("The specified bucket does not exist"), "FileNotFoundError: The spec"),
        (boto.NoCredentialsError(), "no S3 credentials; set AWS_PROFILE"),
        (boto.ProfileNotFound(profile="me"), "no S3 credentials"),
        (PermissionError("no"), r"access is denied \(no\); check permissions and credentials"),
        (answered(403), "access is denied"),
        (answered(500), "ClientResponseError: 500"),
        (TimeoutError(), "no answer within 30 s; check AWS_ENDPOINT_URL and the network"),
        (boto.ConnectTimeoutError(**ENDPOINT), "no answer within 30 s"),
        (boto.ReadTimeoutError(**ENDPOINT), "no answer within 30 s"),
        (aiohttp.ServerTimeoutError(), "no answer within 30 s"),
        (boto.EndpointConnectionError(**ENDPOINT), "cannot be reached"),
        (ConnectionRefusedError("refused"), r"cannot be reached \(refused\); check AWS_ENDPOINT"),
        (
            ImportError("no gcsfs"),
            r"this kind of URI needs a package .* \(no gcsfs\)",
        ),
        (ValueError("bad\nchunk"), "bad chunk$"),
        (KeyError("a"), "KeyError: .a.$"),
        (ValueError(), "ValueError$"),
    ],
)
def test_each_kind_of_error_has_its_line(error, message):
    location = Location.parse("s3://me:secret@bucket/in.zarr")
    expected = rf"^s3://\*\*\*@bucket/in.zarr: {message}"
    with (
        pytest.raises(VolumeError, match=expected) as caught,
        explained(VolumeError, location),
    ):
        raise error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "where"), [(errno.ENOSPC, "on the device"), (errno.EDQUOT, "in your quota")]
)
def test_a_full_disk_and_an_exhausted_quota_are_errors_that_the_same_command_resumes(number, where):
    again = "free some, then start the same command again"
    with (
        pytest.raises(
            StorageFullError, match=f"^s3://b/a: no space left {where}; {again}: finished"
        ),
        explained(OutputError, Location.parse("s3://b/a")),
    ):
        raise OSError(number, "full")
    full = not_written("a.json", OSError(number, "full"), remedy="choose another")
    assert (type(full), str(full)) == (
        StorageFullError, f"a.json cannot be written (full): no space left; {again}"
    )  # fmt: skip
    other = not_written("a.json", OSError(errno.EROFS, "read-only"), remedy="choose another")
    assert (type(other), str(other)) == (
        OutputError, "a.json cannot be written (read-only): choose another"
    )  # fmt: skip


def test_a_foreign_error_that_quotes_the_password_is_shown_without_it():
    location = Location.parse("s3://me:secret@bucket/in.zarr")
    with pytest.raises(VolumeError) as caught, explained(VolumeError, location):
        raise boto.ParamValidationError(report='Invalid bucket name "me:secret@bucket", secret')
    assert "secret" not in str(caught.value)


def test_a_scheme_that_no_package_handles_is_named():
    with (
        pytest.raises(VolumeError, match="needs a package that is not installed"),
        explained(VolumeError, Location.parse("strange://bucket/in.zarr")),
    ):
        raise ValueError("Protocol not known: strange")


def test_an_error_of_overtile_passes_unchanged():
    with pytest.raises(VolumeError, match=r"^mine$"), explained(VolumeError, Location.parse("a")):
        raise VolumeError("mine")


@pytest.mark.parametrize(
    ("code", "is_absent_key"),
    [
        ("AccessDenied", True), ("403", True), ("ExpiredToken", False),
        ("InvalidAccessKeyId", False), ("SignatureDoesNotMatch", False),
        ("InvalidObjectState", False),
    ],
)  # fmt: skip
def test_only_a_denial_may_mean_an_absent_key(code, is_absent_key):
    error = PermissionError("denied")
    error.__cause__ = Exception()
    error.__cause__.response = {"Error": {"Code": code}}
    assert is_denied(error) == is_absent_key
