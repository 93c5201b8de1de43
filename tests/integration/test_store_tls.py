"""The store over TLS: whose certificate is trusted, and what is said of one that is not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fairloop.errors import NotFound, Unavailable
from fairloop.patience import answering_within
from fairloop.store import ObjectStore, StoreSettings
from tests.support.certificates import DAY, Authority
from tests.support.tls_proxy import TlsProxy


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "store-authority")


def over_tls(store: ObjectStore, proxy: TlsProxy) -> ObjectStore:
    """The same bucket at the proxy's address."""
    known = store.settings
    return ObjectStore(
        StoreSettings(f"https://{proxy.address}", known.access_key, known.secret_key, known.bucket)
    )


def port(store: ObjectStore) -> int:
    found = urlsplit(store.settings.endpoint).port
    assert found is not None
    return found


def test_a_store_whose_authority_is_trusted_is_read_and_written_over_tls(
    store: ObjectStore, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    data = bytes(range(256)) * 4_096  # a megabyte: more than one record of TLS
    with TlsProxy(port(store), authority.issue("store")) as proxy:
        secured = over_tls(store, proxy)
        secured.put("over/tls", data)
        assert secured.get("over/tls") == data
        assert proxy.served > 0
    assert store.get("over/tls") == data


@pytest.mark.parametrize("wrong", ["unknown authority", "another host", "expired"])
def test_a_certificate_that_does_not_hold_is_refused_with_the_reason_and_nothing_is_sent(
    wrong: str,
    store: ObjectStore,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trusted = Authority(tmp_path, "another") if wrong == "unknown authority" else authority
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.file))
    pair = {
        "unknown authority": lambda: authority.issue("unknown"),
        "another host": lambda: authority.issue("elsewhere", host="store.example"),
        "expired": lambda: authority.issue("expired", valid=-DAY),
    }[wrong]()
    said = {
        "unknown authority": "unable to get local issuer certificate",
        "another host": "IP address mismatch",
        "expired": "certificate has expired",
    }[wrong]
    with TlsProxy(port(store), pair) as proxy, answering_within(0.1), pytest.raises(Unavailable) as caught:
        over_tls(store, proxy).put("not/sent", b"secret")
    assert said in str(caught.value)
    assert "SSL_CERT_FILE" in str(caught.value)
    with pytest.raises(NotFound):
        store.get("not/sent")
