"""Settings: read once, with all mistakes in one error."""

from __future__ import annotations

import pytest

from shared.bridge import assemble
from shared.errors import ConfigError
from shared.settings import SETTINGS, Settings, polls, schedule

IDENTITY = {
    "DataStorage__blobServiceUri": "https://a.blob.example/",
    "DataStorage__queueServiceUri": "https://a.queue.example/",
    "DataStorage__tableServiceUri": "https://a.table.example/",
    "DataStorage__clientId": "id",
}
GOOD = {"PBX_API_KEY": "secret-key", "DataStorage": "UseDevelopmentStorage=true"}


def test_the_defaults_are_those_of_the_table() -> None:
    settings = Settings.from_env(GOOD)
    assert settings.pbx_base_url == "https://zvanuparvaldnieks.lmt.lv/api/v2/"
    assert settings.allowed_media_hosts == ("zvanuparvaldnieks.lmt.lv",)
    assert settings.default_region == "LV"
    assert settings.mirror_voicemail_deletes is False
    assert Settings.from_env({"DataStorage": GOOD["DataStorage"]}).pbx_api_key == ""
    assert all(row.description.endswith(".") for row in SETTINGS)


@pytest.mark.parametrize("key", ["abc", "Bearer abc", "bearer abc", " Bearer  abc "])
def test_the_key_is_read_with_or_without_bearer(key: str) -> None:
    assert Settings.from_env({**GOOD, "PBX_API_KEY": key}).pbx_api_key == "abc"


def test_everything_wrong_is_named_in_one_error() -> None:
    wrong = {"PBX_BASE_URL": "http://pbx.example/", "DEFAULT_REGION": "Latvia", "POLL_START": "soon"}
    with pytest.raises(ConfigError) as refused:
        Settings.from_env(wrong)
    for name in (*wrong, "DataStorage"):
        assert name in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PBX_BASE_URL", "https://user:pass@pbx.example/"),
        ("PBX_BASE_URL", "https://[::1"),
        ("PBX_BASE_URL", "https://pbx.example:99999/"),
        ("PBX_API_KEY", "Authorization: Bearer abc"),
        ("PBX_API_KEY", "kļūda"),
        ("MEDIA_HOSTS", "https://files.example/"),
        ("DataStorage", "garbage"),
        ("DataStorage", "DefaultEndpointsProtocol=https;AccountName=a"),
        ("DataStorage", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=no key;EndpointSuffix=core.example"),
        ("MIRROR_VOICEMAIL_DELETES", "yes"),
        ("SWEEP_LOOKBACK_HOURS", "0"),
        ("POLL_START", "2026-99-01"),
        ("TIME_ZONE", "Riga"),
        ("TIME_ZONE", "../etc/passwd"),
        *(("DEFAULT_REGION", region) for region in ("UK", "EL", "EU", "C ", "371", "Latvia")),
        *(("DIAL_COUNTRIES", countries) for countries in ("EU", "LV,UK", "LV;LT")),
        *(("PUBLIC_BASE_URL", f"https://app.example/{path}") for path in ("api", "api/", "API/v2/", "x/api/events")),
    ],
)
def test_an_invalid_setting_is_refused_by_name_with_the_remedy(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({**GOOD, name: value})
    text = str(refused.value)
    assert text.startswith(f"Invalid settings: {name}: ")
    secret = name in ("PBX_API_KEY", "DataStorage")
    assert ("got " in text) is not secret
    assert not secret or value.strip() not in text
    assert "pass@" not in text


PLACEHOLDERS = (
    *('"abc"', "“abc”", "$(PBX_KEY)", "${PBX_KEY}", "#{PBX_KEY}#", "${{ secrets.KEY }}", "<your-key>", "[your key]"),
    *("your-api-key", "%PBX_KEY%", "$env:PBX_KEY", "__PBX_KEY__", "NULL", "None", "changeme", "https://$(host)/"),
    "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/k)",
    '"@MICROSOFT.KEYVAULT(SecretUri=https://v/secrets/k)"',
    "@microsoft.appconfiguration(endpoint=https://c.azconfig.io; key=k)",
)


@pytest.mark.parametrize("value", PLACEHOLDERS)
def test_placeholders_are_refused_in_every_setting(value: str) -> None:
    names = [row.name for row in SETTINGS if not row.read_by_host]
    with pytest.raises(ConfigError) as refused:
        Settings.from_env(dict.fromkeys([*names, "DataStorage"], value))
    assert [name for name in (*names, "DataStorage") if f"{name}: " not in str(refused.value)] == []
    with pytest.raises(ConfigError, match=r"DataStorage__clientId"):
        Settings.from_env({**IDENTITY, "DataStorage__clientId": value})


@pytest.mark.parametrize("value", ["k$e}y", "a-b_c~d", "(key)", "nullable", "#1{2}", "todo-list", "A" * 43 + "="])
def test_a_key_may_have_any_letters(value: str) -> None:
    assert Settings.from_env({**GOOD, "PBX_WEBHOOK_KEY": value}).pbx_webhook_key == value


def test_the_regions_are_those_that_have_numbers() -> None:
    import phonenumbers

    for region in phonenumbers.SUPPORTED_REGIONS:
        assert Settings.from_env({**GOOD, "DEFAULT_REGION": region.lower()}).default_region == region


def test_an_unknown_event_is_refused_with_the_known_ones() -> None:
    assert assemble(Settings.from_env({**GOOD, "PBX_EVENTS": "callcompleted, LostCallerCreated"}))
    for wrong in ("CallFinished", "CallStarted;CallCompleted", "RecordingStored"):
        with pytest.raises(ConfigError, match=r"PBX_EVENTS: got .* write some of CallStarted, "):
            assemble(Settings.from_env({**GOOD, "PBX_EVENTS": wrong}))


def test_a_schedule_is_the_setting_s_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    name = polls("contacts")
    monkeypatch.setenv(name, " 0 0 * * * * ")
    assert schedule(name) == "0 0 * * * *"
    monkeypatch.setenv(name, " ")
    assert schedule(name) == "5 0/15 * * * *"
    with pytest.raises(KeyError):
        schedule("POLL_FAXES_SCHEDULE")


@pytest.mark.parametrize(
    ("laptop", "name"),
    [
        ({"PBX_BASE_URL": "http://127.0.0.1:8090/api/v2"}, "PBX_BASE_URL"),
        ({"ALLOW_LOOPBACK_CALLBACKS": "true"}, "ALLOW_LOOPBACK_CALLBACKS"),
        ({"SUBSCRIPTION_KEYS": ""}, "SUBSCRIPTION_KEYS: missing"),
        ({"PBX_WEBHOOK_KEY": ""}, "PBX_WEBHOOK_KEY: missing"),
    ],
)
def test_settings_for_a_laptop_are_refused_in_azure(laptop: dict[str, str], name: str) -> None:
    azure = {**GOOD, "PBX_WEBHOOK_KEY": "k", "SUBSCRIPTION_KEYS": "A" * 43 + "=", "RUNS_IN_AZURE": "true"}
    assert Settings.from_env(azure).in_azure
    assert not Settings.from_env({**GOOD, **laptop}).in_azure
    with pytest.raises(ConfigError, match=name):
        Settings.from_env(azure | laptop)


def test_keys_of_subscriptions_are_keys() -> None:
    keys = ("A" * 43 + "=", "-_" * 21 + "8=")
    assert Settings.from_env({**GOOD, "SUBSCRIPTION_KEYS": ", ".join(keys)}).subscription_keys == keys
    assert Settings.from_env(GOOD).subscription_keys == ()
    for wrong in ("A" * 44, "A" * 20, "key"):
        with pytest.raises(ConfigError, match="SUBSCRIPTION_KEYS"):
            Settings.from_env({**GOOD, "SUBSCRIPTION_KEYS": wrong})


def test_the_storage_account_is_named_by_three_endpoints_and_an_identity() -> None:
    identity = dict(IDENTITY)
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
