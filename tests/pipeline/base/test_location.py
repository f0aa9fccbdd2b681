"""A location is normalised once, and no text of it, or of a value that holds it, shows a secret."""

import io
import logging
import pickle
import re
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import OutputError, OvertileError, VolumeError
from pipeline.base.location import Location
from pipeline.base.store_errors import explained
from pipeline.evaluation.request import EvaluateRequest
from pipeline.output.pyramid import LevelJob
from pipeline.segmentation.engines.block import BlockJob
from pipeline.segmentation.request import SegmentRequest
from pipeline.volume.labelled import LabelledBox
from pipeline.volume.volume import VolumeSource

SECRET = "5ecret"
WORD = st.text("abcXYZ019-_.~%!$&'()*+,;= é", min_size=1, max_size=8)
PATHS = st.lists(WORD, max_size=3).map("/".join)
USERS = st.one_of(
    st.just(SECRET),
    st.builds(f"{{}}:{{}}{SECRET}{{}}".format, WORD, WORD, WORD),
    st.builds(f"{{}}:{{}}@{SECRET}{{}}".format, WORD, WORD, WORD),
)


@st.composite
def secret_uris(draw):
    """Return a URI with a secret in its user info, in its query, or in both."""
    scheme = draw(st.sampled_from(["s3", "S3", "gs", "ftp", "memory", "abfs"]))
    user = draw(USERS)
    query = draw(st.sampled_from(["", f"?sig={SECRET}&a=b c@d/e"]))
    slash = draw(st.sampled_from(["/", ""]))
    return f"{scheme}://{user}@host.org{slash}{draw(PATHS) if slash else ''}{query}"


def source(location):
    return VolumeSource(
        store=location, path="s0", axes="zyx", shape=(4, 4, 4), dtype="uint8", channels=None,
        time=None, voxel_size=(1.0, 1.0, 1.0), unit=(None, None, None),
        translation=(0.0, 0.0, 0.0), chunk_shape_zyx=(4, 4, 4), description="{}", name=None,
    )  # fmt: skip


def holders(location):
    """Return one of every value that holds a location."""
    level = LevelJob(
        output=location, run_token="", finer_path="0", path="1", shape=(2,), factor=(2,),
        shard=(2,), chunk=(2,), reduction="mean",
    )  # fmt: skip
    volume = source(location)
    blocks = BlockJob(
        source=volume, output=location, run_token="", plan=None, predictor=None, intensity=None,
        outputs=(),
    )  # fmt: skip
    return [
        location,
        location / "labels/classes",
        SegmentRequest(input=location, output=location),
        EvaluateRequest(prediction=location, truth=location),
        volume,
        LabelledBox(raw=volume, labels=volume, box=None),
        level,
        blocks,
    ]


@given(secret_uris())
def test_no_text_of_a_location_or_of_a_value_that_holds_it_shows_a_secret(uri):
    for value in holders(Location.parse(uri)):
        for text in (str(value), repr(value), f"{value}", f"{value!r}", f"{value}"):
            assert SECRET not in text
            assert "***" in text


@given(secret_uris())
def test_neither_an_error_nor_a_log_line_shows_the_secret_of_a_location(uri):
    location = Location.parse(uri)
    stream = io.StringIO()
    logger = logging.Logger("laws")
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("reads %s, writes %r", location, [location])
    with pytest.raises(VolumeError) as caught, explained(VolumeError, location / "zarr.json"):
        raise OSError(f"the store failed at {location}")
    lines = traceback.format_exception(caught.value)
    assert SECRET not in stream.getvalue() + "".join(lines)


@given(secret_uris())
def test_the_error_of_a_rejected_uri_shows_no_secret(uri):
    with pytest.raises(OvertileError) as caught:
        Location.parse(f"https:{uri.partition(':')[2]}?sig={SECRET}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("uri", ["zip://in.zip::s3://me:5ecret@b/x", "a::https://me:5ecret@b/x"])
def test_a_uri_inside_another_is_rejected_without_showing_its_secret(uri):
    with pytest.raises(OutputError, match="holds a URI inside another") as caught:
        Location.parse(uri, kind=OutputError)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@bucket/a", "s3://***@bucket/a"),
        ("https://me:pa:ss@host/a b.zarr", "https://***@host/a b.zarr"),
        ("https://us er:pass@host/a.zarr", "https://***@host/a.zarr"),
        ("ftp://u@h/my file?sig=9", "ftp://***@h/my file?***"),
        ("s3://bucket?sig=a@b/secret", "s3://***"),
        ("s3://bucket/me@home/in.zarr", "s3://bucket/me@home/in.zarr"),
        ("/data/me@home/in.zarr?x", "/data/me@home/in.zarr?x"),
    ],
)
def test_only_user_info_and_queries_are_hidden(uri, shown):
    assert str(Location.parse(uri)) == shown


@given(st.one_of(secret_uris(), st.text(st.characters(codec="utf-8"), max_size=30)))
def test_parsing_again_changes_nothing(text):
    try:
        location = Location.parse(text)
    except VolumeError:
        return
    assert Location.parse(location) is location
    if location.uri == location.uri.strip():  # not for "a /": its name ends in a space
        assert Location.parse(location.uri) == location


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("S3://bucket//a/", "s3://bucket/a"),
        ("in.zarr/", "{cwd}/in.zarr"),
        ("./x/../in.zarr", "{cwd}/in.zarr"),
        ("~/in.zarr", "{home}/in.zarr"),
        ("file:///data/in.zarr", "/data/in.zarr"),
        ("local:///data/in.zarr", "/data/in.zarr"),
        ("memory://a/b", "memory://a/b"),
        ("precomputed://https://host/a/", "https://host/a"),
        ("n5://file:///data/a.n5", "/data/a.n5"),
    ],
)
def test_every_spelling_of_a_path_gives_the_same_location(text, uri, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    location = Location.parse(text)
    assert location.uri == uri.format(cwd=tmp_path, home=tmp_path / "home")
    assert location.is_local == (location.scheme == "file") == (not re.match(r"\w+://", uri))
    assert hash(location) == hash(Location.parse(location.uri))


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_path_is_rejected(text):
    with pytest.raises(OutputError, match="the path is empty"):
        Location.parse(text, kind=OutputError)


@given(secret_uris())
def test_a_location_survives_pickling_with_its_full_uri(uri):
    location = Location.parse(uri)
    for value in holders(location):
        assert pickle.loads(pickle.dumps(value)) == value
    assert pickle.loads(pickle.dumps(location)).uri == location.uri


@given(st.sampled_from(["s3://bucket/a", "/data", "https://h/x"]), PATHS.filter(bool))
def test_going_up_from_a_path_inside_a_location_leads_back_to_it(uri, path):
    location = Location.parse(uri)
    inside = location / path
    assert inside.name == path.rpartition("/")[2]
    for _ in path.split("/"):
        inside = inside.parent
    assert inside == location
    assert location / "" is location


@pytest.mark.parametrize(
    "uri", ["s3://key:sec/ret@bucket/a", "https://me:sec//ret@host/a", "s3://k:/secret@b"]
)
def test_a_password_with_a_slash_is_rejected_without_showing_it(uri):
    with pytest.raises(VolumeError, match="has a '/': expected %2F") as caught:
        Location.parse(uri)
    assert "ret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    ["http://host:8080/a@b", "s3://bucket/a:b/c@d", "http://[::1]:80/a@b", "http://u:p@host:1/a"],
)
def test_a_port_or_a_path_is_not_taken_for_a_password(uri):
    assert Location.parse(uri).uri == uri
