"""A file's kind comes from its bytes, then from its server's word; any audio is kept and no text is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MediaNotReady
from shared.media.audio import HEAD_BYTES, kind_of

FILES = Path(__file__).parents[2] / "fixtures" / "audio"
KINDS = {
    "frames.mp3": ("audio/mpeg", "mp3"),
    "xing.mp3": ("audio/mpeg", "mp3"),
    "tone.wav": ("audio/wav", "wav"),
    "streamed.wav": ("audio/wav", "wav"),
    "opus.ogg": ("audio/ogg", "ogg"),
    "vorbis.ogg": ("audio/ogg", "ogg"),
    "index-first.m4a": ("audio/mp4", "m4a"),
    "index-last.m4a": ("audio/mp4", "m4a"),
    "tone.webm": ("audio/webm", "webm"),
    "streamed.webm": ("audio/webm", "webm"),
    "tone.flac": ("audio/flac", "flac"),
    "tone.aiff": ("audio/aiff", "aiff"),
    "tone.aac": ("audio/aac", "aac"),
    "fragments.m4a": ("audio/mp4", "m4a"),
    "loud-start.mp3": ("audio/mpeg", "mp3"),
    "rf64.wav": ("audio/wav", "wav"),
    "speex.ogg": ("audio/ogg", "ogg"),
    "streamed.aiff": ("audio/aiff", "aiff"),
    "streamed.au": ("audio/basic", "au"),
    "streamed.caf": ("audio/x-caf", "caf"),
    "streamed.flac": ("audio/flac", "flac"),
    "streamed.mka": ("audio/x-matroska", "mka"),
    "streamed.w64": ("audio/x-w64", "w64"),
    "streamed.wma": ("audio/x-ms-wma", "wma"),
    "tone.3gp": ("audio/3gpp", "3gp"),
    "tone.au": ("audio/basic", "au"),
    "tone.caf": ("audio/x-caf", "caf"),
    "tone.mka": ("audio/x-matroska", "mka"),
    "tone.mov": ("video/quicktime", "mov"),
    "tone.mp2": ("audio/mpeg", "mp3"),
    "tone.w64": ("audio/x-w64", "w64"),
    "tone.wma": ("audio/x-ms-wma", "wma"),
}


@pytest.mark.parametrize("label", ["", "application/octet-stream", "text/plain", "audio/mpeg", "nonsense"])
@pytest.mark.parametrize("name", KINDS)
def test_real_audio_is_known_by_its_first_bytes_not_by_its_server(name: str, label: str) -> None:
    found = kind_of((FILES / name).read_bytes()[:HEAD_BYTES], label)
    assert (found.content_type, found.extension) == KINDS[name]


def test_every_fixture_is_tried() -> None:
    assert {path.name for path in FILES.iterdir()} == KINDS.keys()


@pytest.mark.parametrize(
    ("head", "label", "content_type", "extension"),
    [
        (b"\xff\xfb\x90\x64" + bytes(20), "", "audio/mpeg", "mp3"),
        (b"\xff\xe3\x18\xc4" + bytes(20), "", "audio/mpeg", "mp3"),
        (bytes([0xD5, 0x55] * 40), "audio/basic", "audio/basic", "au"),
        (bytes([0xD5, 0x55] * 40), "audio/x-gsm; rate=8000", "audio/x-gsm", "gsm"),
        (bytes([0xD5, 0x55] * 40), "", "application/octet-stream", "bin"),
        (b"plain words", "audio/x-words", "audio/x-words", "words"),
        (b"\x00\x01", "audio/../../etc", "audio/../../etc", "bin"),
    ],
    ids=["frame", "frame of MPEG 2.5", "raw", "with parameters", "unknown", "called audio", "no path"],
)
def test_what_the_bytes_do_not_say_its_server_does(head: bytes, label: str, content_type: str, extension: str) -> None:
    found = kind_of(head, label)
    assert (found.content_type, found.extension) == (content_type, extension)


TEXTS = {
    "HTML": [b"<!doctype html><html>", b"\xef\xbb\xbf <html>", b"\n<HEAD>", "<html>".encode("utf-16")],
    "XML": [b'<?xml version="1.0"?><error/>', b"<Error><Code>AccessDenied</Code></Error>"],
    "JSON": [b'{"status":"error"}', b" [ {", b"{}"],
}


@pytest.mark.parametrize("label", ["", "audio/mpeg", "text/html"])
@pytest.mark.parametrize(("word", "head"), [(word, head) for word, heads in TEXTS.items() for head in heads])
def test_a_page_is_never_audio_and_is_called_by_its_name(word: str, head: bytes, label: str) -> None:
    with pytest.raises(MediaNotReady, match=f"^{word} instead of audio$"):
        kind_of(head, label)


@pytest.mark.parametrize(
    "head",
    [b"Not ready yet", "Vēl nav gatavs".encode(), "wait".encode("utf-16"), b"ID3 tags are not supported", b"404\r\n"],
)
def test_plain_text_is_no_audio_unless_its_server_calls_it_so(head: bytes) -> None:
    with pytest.raises(MediaNotReady, match=r"^text instead of audio$"):
        kind_of(head, "application/octet-stream")
    assert kind_of(head, "audio/x-own").content_type == "audio/x-own"


@pytest.mark.parametrize(
    "head", [b"BMS error: file not found", b"MZ nothing here", b"FLV none", b"II*\tnot found", b"BZh?"]
)
@pytest.mark.parametrize("label", ["", "text/plain", "application/octet-stream"])
def test_a_text_is_no_program_or_picture_by_its_first_letters(head: bytes, label: str) -> None:
    with pytest.raises(MediaNotReady, match=r"^text instead of audio$"):
        kind_of(head, label)


@pytest.mark.parametrize(
    ("head", "content_type"),
    [(b"BM\x36\x01" + bytes(50), "image/bmp"), (b"\x1f\x8b\x08" + bytes(50), "application/gzip")],
)
def test_what_is_no_text_is_still_known_by_its_first_bytes(head: bytes, content_type: str) -> None:
    assert kind_of(head, "text/plain").content_type == content_type


@pytest.mark.parametrize(
    ("label", "content_type", "extension"),
    [
        ("audio/mp3", "audio/mpeg", "mp3"),
        ("Audio/X-WAV", "audio/wav", "wav"),
        ("audio/wave", "audio/wav", "wav"),
        ("audio/x-m4a", "audio/mp4", "m4a"),
        ("audio/opus", "audio/ogg", "ogg"),
        ("audio/amr-wb", "audio/amr-wb", "awb"),
    ],
)
def test_a_label_has_one_name_however_servers_spell_it(label: str, content_type: str, extension: str) -> None:
    found = kind_of(bytes(100), label)
    assert (found.content_type, found.extension) == (content_type, extension)


@given(head=st.binary(min_size=1, max_size=HEAD_BYTES), label=st.text(max_size=40))
def test_any_bytes_are_kept_under_a_name_of_plain_letters_or_refused_in_words(head: bytes, label: str) -> None:
    try:
        found = kind_of(head, label)
    except MediaNotReady as refused:
        assert str(refused).endswith(" instead of audio")
    else:
        assert found.extension.isalnum()
        assert found.extension.isascii()


@pytest.mark.parametrize(
    ("head", "label"),
    [
        ("Kļūda: nav".encode("cp1257"), "text/plain; charset=windows-1257"),
        ("<html>Kļūda</html>".encode("cp1257"), "text/html"),
        ("<html>Kļūda</html>".encode("cp1257"), "audio/mpeg"),
        ("<?xml version='1.0'?><kļūda/>".encode("cp1257"), ""),
        ('{"message": "Kļūda"}'.encode("cp1257"), "application/json"),
        ('{"message": "Kļūda"}'.encode("cp1257"), "audio/wav"),
        ("ошибка".encode("cp1251"), "text/plain"),
    ],
)
def test_a_text_in_an_older_encoding_is_no_audio(head: bytes, label: str) -> None:
    with pytest.raises(MediaNotReady, match="instead of audio"):
        kind_of(head, label)


@pytest.mark.parametrize("label", ["", "application/octet-stream", "audio/basic", "audio/pcma"])
def test_samples_that_look_like_letters_are_audio(label: str) -> None:
    for head in (b"\xd5" * 1024, b"\xff\x7f" * 512, b"\xd5U" * 512):
        assert kind_of(head, label)
