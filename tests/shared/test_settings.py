"""Settings: read once, and all that is wrong said at once."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import ConfigError
from shared.settings import SETTINGS, Settings

GOOD = {"PBX_API_KEY": "secret-key", "DataStorage": "UseDevelopmentStorage=true"}


def test_the_defaults_are_those_of_the_table() -> None:
    settings = Settings.from_env(GOOD)
    assert settings.pbx_base_url == "https://zvanuparvaldnieks.lmt.lv/api/v2/"
    assert settings.allowed_media_hosts == ("zvanuparvaldnieks.lmt.lv",)
    assert settings.default_region == "LV"
    assert settings.mirror_voicemail_deletes is False


@pytest.mark.parametrize("key", ["abc", "Bearer abc", "bearer abc", " Bearer  abc "])
def test_the_key_is_read_with_or_without_bearer(key: str) -> None:
    assert Settings.from_env({**GOOD, "PBX_API_KEY": key}).pbx_api_key == "abc"


def test_everything_wrong_is_named_in_one_error() -> None:
    wrong = {"PBX_BASE_URL": "http://pbx.example/", "DEFAULT_REGION": "Latvia", "POLL_START": "soon"}
    with pytest.raises(ConfigError) as refused:
        Settings.from_env(wrong)
    for name in (*wrong, "PBX_API_KEY", "DataStorage"):
        assert name in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PBX_BASE_URL", "ftp://pbx.example/"),
        ("PBX_BASE_URL", "https://user:pass@pbx.example/"),
        ("PBX_BASE_URL", "https://[::1"),
        ("PBX_BASE_URL", "https://pbx.example:99999/"),
        ("PBX_BASE_URL", "https://pbx.example/#api"),
        ("PBX_API_KEY", "Bearer "),
        ("PBX_API_KEY", "Authorization: Bearer abc"),
        ("MEDIA_HOSTS", "https://files.example/"),
        ("MEDIA_HOSTS", "files.example:8443"),
        ("MEDIA_HOSTS", "*.example"),
        ("DataStorage", "garbage"),
        ("DataStorage", "@Microsoft.KeyVault(SecretUri=https://v/secrets/s)"),
        ("DataStorage", "DefaultEndpointsProtocol=https;AccountName=a"),
        ("DataStorage", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=no key;EndpointSuffix=core.example"),
        ("PBX_API_KEY", "kļūda"),
        ("PBX_API_KEY", "@Microsoft.KeyVault(SecretUri=https://v/secrets/k)"),
        ("MIRROR_VOICEMAIL_DELETES", "yes"),
        ("SWEEP_LOOKBACK_HOURS", "0"),
        ("SWEEP_LOOKBACK_HOURS", "1.5"),
        ("POLL_START", "2026-99-01"),
    ],
)
def test_a_wrong_value_is_refused_without_being_repeated(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({**GOOD, name: value})
    assert name in str(refused.value)
    assert value not in str(refused.value) or value in ("0", "1.5", "yes")


def test_plain_http_is_for_this_machine_and_never_in_azure() -> None:
    local = {**GOOD, "PBX_BASE_URL": "http://127.0.0.1:8090/api/v2"}
    assert Settings.from_env(local).pbx_base_url == "http://127.0.0.1:8090/api/v2/"
    with pytest.raises(ConfigError):
        Settings.from_env({**local, "RUNS_IN_AZURE": "true"})


def test_loopback_callbacks_are_refused_in_azure() -> None:
    laptop = {**GOOD, "ALLOW_LOOPBACK_CALLBACKS": "true"}
    assert Settings.from_env(laptop).allow_loopback_callbacks
    with pytest.raises(ConfigError, match="ALLOW_LOOPBACK_CALLBACKS"):
        Settings.from_env({**laptop, "RUNS_IN_AZURE": "true"})


def test_keys_of_subscriptions_are_keys_and_in_azure_there_is_one() -> None:
    keys = ("A" * 43 + "=", "-_" * 21 + "8=")
    assert Settings.from_env({**GOOD, "SUBSCRIPTION_KEYS": ", ".join(keys)}).subscription_keys == keys
    assert Settings.from_env(GOOD).subscription_keys == ()
    for wrong in ("A" * 44, "A" * 20, "key"):
        with pytest.raises(ConfigError, match="SUBSCRIPTION_KEYS"):
            Settings.from_env({**GOOD, "SUBSCRIPTION_KEYS": wrong})
    with pytest.raises(ConfigError, match="SUBSCRIPTION_KEYS: missing"):
        Settings.from_env({**GOOD, "RUNS_IN_AZURE": "true", "PBX_WEBHOOK_KEY": "k"})


def test_the_storage_account_is_named_by_three_endpoints_and_an_identity() -> None:
    identity: dict[str, Any] = {
        "PBX_API_KEY": "k",
        "DataStorage__blobServiceUri": "https://a.blob.example/",
        "DataStorage__queueServiceUri": "https://a.queue.example/",
        "DataStorage__tableServiceUri": "https://a.table.example/",
        "DataStorage__clientId": "id",
    }
    storage = Settings.from_env(identity).storage
    assert (storage.blob, storage.client_id, storage.connection_string) == ("https://a.blob.example/", "id", None)
    for plain in ("http://a.queue.example/", "a.queue.example"):
        with pytest.raises(ConfigError, match="DataStorage__queueServiceUri"):
            Settings.from_env({**identity, "DataStorage__queueServiceUri": plain})
    del identity["DataStorage__queueServiceUri"]
    with pytest.raises(ConfigError, match="DataStorage__queueServiceUri"):
        Settings.from_env(identity)


def test_secrets_never_show_in_a_repr() -> None:
    text = repr(Settings.from_env({**GOOD, "PBX_WEBHOOK_KEY": "hidden-key"}))
    assert "secret-key" not in text
    assert "hidden-key" not in text


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_every_row_says_what_it_is_for(row: Any) -> None:
    assert row.description.endswith(".")
    assert row.required or row.default is not None
