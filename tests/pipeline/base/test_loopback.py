"""Proxies of an environment: none stands before this machine's own servers, all others stay."""

import os

import httpx
import pytest
from botocore.utils import get_environ_proxies
from s3fs import S3FileSystem

from pipeline.base.location import Location
from pipeline.base.loopback import bypass_proxies, drop_unusable_proxies
from pipeline.base.stores import read_node

PROXY = "http://proxy.site.org:3128"
OWN = ("http://127.0.0.1:4200/api", "http://localhost:9000", "http://[::1]:8787/status")
OTHER = ("http://login1:4200/api", "http://s3.example.org/bucket", "http://10.0.0.127:9000")
ENVIRONMENTS = {
    "lower case": {"http_proxy": PROXY},
    "upper case": {"HTTP_PROXY": PROXY},
    "all": {"ALL_PROXY": PROXY, "http_proxy": PROXY},
    "localhost only": {"http_proxy": PROXY, "no_proxy": "localhost"},
    "both lists": {"http_proxy": PROXY, "no_proxy": "localhost", "NO_PROXY": ".site.org"},
    "empty list": {"http_proxy": PROXY, "no_proxy": "", "NO_PROXY": ".site.org"},
}


@pytest.fixture(params=ENVIRONMENTS)
def environment(request, monkeypatch):
    """Set proxies as a login node does; then exempt loopback."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in ENVIRONMENTS[request.param].items():
        monkeypatch.setenv(name, value)
    changed = dict(os.environ)
    bypass_proxies(changed)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, changed[name])
    return ENVIRONMENTS[request.param]


def proxied_by_httpx(url):
    """Return whether Prefect's client would ask a proxy."""
    with httpx.Client() as client:
        return client._transport_for_url(httpx.URL(url)) is not client._transport


@pytest.mark.parametrize("url", OWN)
def test_loopback_is_never_asked_of_a_proxy(environment, url):
    assert not proxied_by_httpx(url)
    if "[" not in url:  # httpx fails on the [::1] in no_proxy that botocore would need
        assert get_environ_proxies(url) == {}


@pytest.mark.parametrize("url", OTHER)
def test_other_hosts_are_asked_of_the_proxy(environment, url):
    assert proxied_by_httpx(url)
    assert get_environ_proxies(url)["http"] == PROXY


def test_hosts_that_the_site_exempts_stay_exempt(environment):
    site = environment.get("no_proxy") or environment.get("NO_PROXY")
    assert site is None or os.environ["no_proxy"].startswith(site)


def test_an_environment_without_proxies_stays_unchanged():
    environment = {"HOME": "/home/ada", "no_proxy": "login1"}
    bypass_proxies(environment)
    assert environment == {"HOME": "/home/ada", "no_proxy": "login1"}


def test_a_socks_proxy_that_httpx_would_refuse_is_dropped_and_http_proxies_are_kept():
    environment = {"ALL_PROXY": "socks5h://proxy:1080", "http_proxy": PROXY}
    drop_unusable_proxies(environment)
    assert environment == {"http_proxy": PROXY}


def test_a_store_on_this_machine_is_read_without_the_proxy(s3, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    S3FileSystem.clear_instance_cache()
    assert read_node(Location.parse(f"{s3}/nothing.zarr")) is None
