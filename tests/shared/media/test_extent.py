"""Audio is whole when there is some, and as much of it as its container declares."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MediaNotReady
from shared.media.audio import HEAD_BYTES, kind_of
from shared.media.extent import Extent, Follower, is_whole

FILES = Path(__file__).parents[2] / "fixtures" / "audio"
BODIES = {path.name: path.read_bytes() for path in sorted(FILES.iterdir())}
NAMES = list(BODIES)
# What declares nothing of its length is whole wherever it ends; those of MPEG and AAC are nothing but frames.
FRAMES = {"frames.mp3", "loud-start.mp3", "tone.aac", "tone.mp2"}
STREAMED = {f"streamed.{kind}" for kind in ("wav", "aiff", "au", "caf", "w64", "wma", "flac")}
SECONDS = {
    "fragments.m4a": None,
    "loud-start.mp3": 20.1,
    "opus.ogg": 1.0,
    "vorbis.ogg": 1.0,
    "index-first.m4a": 1.0,
    "index-last.m4a": 1.0,
    "streamed.wav": 1.0,
    "streamed.webm": None,
    "streamed.aiff": None,
    "streamed.flac": None,
    "streamed.mka": None,
    "streamed.wma": None,
    "frames.mp3": 1.15,
    "xing.mp3": 1.15,
    "tone.aac": 1.15,
    "tone.aiff": 1.0,
    "tone.flac": 1.0,
    "tone.wav": 1.0,
    "tone.webm": 1.0,
    "tone.mka": 0.6,
}


def extent(body: bytes, label: str = "", block: int = 3 << 20) -> Extent:
    """What is said of these bytes, which come in blocks of so many."""
    follower = Follower(kind_of(body[:HEAD_BYTES], label).content_type)
    for begin in range(0, len(body), block):
        follower.add(body[begin : begin + block])
    return follower.extent()


def rounded(found: Extent) -> Extent:
    return replace(found, seconds=None if found.seconds is None else round(found.seconds, 6))


def whole(body: bytes, label: str = "") -> bool:
    return is_whole(extent(body, label), len(body))


@pytest.mark.parametrize("name", NAMES)
def test_a_real_file_is_whole(name: str) -> None:
    assert whole(BODIES[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_breaks_off_is_not_whole_where_its_container_says_so(name: str) -> None:
    body = BODIES[name]
    start = extent(body).start
    # The first frame has to be there.
    ends = range(start + (300 if name in FRAMES else 1), len(body), max(1, len(body) // 200))
    found = {end for end in ends if whole(body[:end], "audio/x-unknown")}
    if name in FRAMES | STREAMED:
        assert found == set(ends)
        return
    assert not whole(body[: len(body) * 3 // 4])
    # A last frame too few, the end between two fragments or pages, and a silent byte too few are not seen.
    assert len(found) <= max(3, len(ends) // 5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FRAMES])
def test_a_header_alone_is_no_audio(name: str) -> None:
    body = BODIES[name]
    start = extent(body).start
    assert 0 < start < len(body)
    for length in range(8, start + 1):
        assert not whole(body[:length], "audio/x-unknown"), length


@pytest.mark.parametrize("block", [1, 511, 700])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_is_seen_however_the_bytes_come(name: str, block: int) -> None:
    body = BODIES[name]
    for part in (body, body[: len(body) * 3 // 4], body + bytes(300), body[:-1]):
        assert rounded(extent(part, block=block)) == rounded(extent(part))


@pytest.mark.parametrize("name", NAMES)
def test_how_long_it_plays(name: str) -> None:
    expected = SECONDS.get(name, 0.5)
    assert extent(BODIES[name]).seconds == (None if expected is None else pytest.approx(expected, abs=0.06))


def test_half_of_it_plays_half_as_long() -> None:
    for name in ("tone.wav", "tone.au", "tone.caf", "tone.w64", "xing.mp3", "loud-start.mp3"):
        body = BODIES[name]
        seconds = extent(body).seconds
        half = extent(body[: len(body) // 2]).seconds
        assert seconds
        assert half
        assert half < seconds


def chunk(name: bytes, body: bytes, padded: bool = True) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2 and padded)


def wav(declared: int, audio: bytes, *chunks: bytes) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 7, 1, 8000, 8000, 1, 8)
    begin = b"RIFF" + struct.pack("<I", 0) + b"WAVE" + form + b"".join(chunks)
    return begin + struct.pack("<4sI", b"data", declared) + audio


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (wav(0, b""), False),
        (wav(8000, b""), False),
        (wav(8000, bytes(7999)), False),
        (wav(8000, bytes(8000)), True),
        (wav(7999, bytes(7999)), True),
        (wav(8000, bytes(8000) + b"LIST\x04\0\0\0abcd"), True),
        (wav(0, bytes(100)), True),
        (wav(0xFFFFFFFF, bytes(100)), True),
        (wav(0x7FFFFFFF, bytes(100)), True),
        (wav(0x7FFFF000, bytes(100)), True),
        (wav(0xFFFFFFFF, b""), False),
        (wav(160, bytes(160), chunk(b"LIST", b"odd")), True),
        (wav(160, bytes(160), chunk(b"LIST", b"odd", padded=False)), True),
        (wav(160, bytes(150), chunk(b"LIST", b"odd")), False),
        (wav(160, bytes(160), chunk(b"JUNK", bytes(300_000))), True),
        (wav(160, bytes(159), chunk(b"JUNK", bytes(300_000))), False),
        (wav(160, bytes(160))[:30], False),
    ],
)
def test_wav_as_recorders_write_it(body: bytes, expected: bool) -> None:
    assert whole(body) is expected


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


TYPE = box(b"ftyp", b"M4A \0\0\0\0M4A mp42")
INDEX = box(b"moov", box(b"trak", bytes(104_000)))
AUDIO = box(b"mdat", b"\x21" * 400_000)
LARGE = struct.pack(">I4sQ", 1, b"mdat", 16 + 1000) + bytes(1000)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (TYPE + AUDIO + INDEX, True),
        (TYPE + INDEX + AUDIO, True),
        (TYPE + AUDIO + INDEX[:-1], False),
        (TYPE + AUDIO + INDEX[:-90_000], False),
        (TYPE + AUDIO, False),
        (TYPE + AUDIO + INDEX[:6], False),
        (TYPE + INDEX, False),
        (TYPE + INDEX + AUDIO[:-1], False),
        (TYPE + INDEX + box(b"mdat", b""), False),
        (TYPE + INDEX + struct.pack(">I4s", 0, b"mdat") + b"\x21" * 9, True),
        (TYPE + struct.pack(">I4s", 0, b"mdat") + b"\x21" * 9, False),
        (TYPE + LARGE + INDEX, True),
        (TYPE + box(b"free", b"") + box(b"mdat", b"moov") + box(b"free", b"moov"), False),
        (TYPE + AUDIO + INDEX + b"\r\n", True),
        (TYPE + AUDIO + INDEX + bytes(500), True),
        (box(b"wide", b"") + AUDIO + INDEX, True),
        (box(b"ftyp", b"3gp5\0\0\0\0") + INDEX, False),
        (box(b"ftyp", b"3gp5\0\0\0\0") + INDEX + AUDIO[:100], False),
        (box(b"ftyp", b"qt  \0\0\0\0") + INDEX, False),
        (box(b"ftyp", b"qt  \0\0\0\0") + INDEX + AUDIO, True),
    ],
)
def test_boxes_are_followed_to_the_last_one(body: bytes, expected: bool) -> None:
    assert whole(body) is expected


AU = b".snd" + struct.pack(">5I", 24, 16_000, 1, 8000, 1)
RF64 = BODIES["rf64.wav"]
LABELS = ("audio/mpeg", "audio/mp3", "audio/wav", "audio/x-wav", "audio/ogg", "audio/mp4", "audio/webm", "audio/flac")
MORE_LABELS = ("audio/amr", "audio/amr-wb", "audio/aac", "audio/3gpp", "audio/aiff", "audio/x-ms-wma", "audio/x-caf")


@pytest.mark.parametrize("label", LABELS + MORE_LABELS)
@pytest.mark.parametrize(
    "body",
    [bytes(6000), b"File not found", b'"error"', b"[null]", b"Notice: x\n<html>", "Nav gatavs: ā".encode(), b"\xff"],
    ids=["zeros", "words", "a JSON text", "a JSON list", "a page behind words", "letters", "a byte"],
)
def test_what_is_called_a_kind_of_audio_and_is_none_is_not_there_yet(body: bytes, label: str) -> None:
    assert not whole(body, label)


@pytest.mark.parametrize(
    "label", ["audio/basic", "audio/pcma", "audio/x-own", "audio/g722", "application/octet-stream"]
)
def test_bare_samples_are_whole(label: str) -> None:
    assert whole(bytes(range(256)) * 20, label)


@pytest.mark.parametrize(
    ("body", "label"),
    [
        (AU, "audio/basic"),
        (AU + bytes(100), "audio/basic"),
        (RF64[:128], "application/octet-stream"),
        (b"#!AMR-WB\n", "audio/amr-wb"),
        (b"#!AMR\n", ""),
        (b"ID3\x03\0\0\0\0\0\x0a" + bytes(510), "audio/mpeg"),
        (b"ID3\x03\0\0\0\0\0\x0a" + bytes(10), "audio/mpeg"),
        (b"RIFF\x24\0\0\0", "audio/wav"),
    ],
    ids=["AU", "part of AU", "RF64", "AMR-WB", "AMR", "tag and zeros", "tag", "eight bytes"],
)
def test_headers_of_other_containers_are_no_audio(body: bytes, label: str) -> None:
    assert not whole(body, label)


def test_amr_is_frames() -> None:
    narrow, wide = b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50, b"#!AMR-WB\n" + (b"\x44" + bytes(60)) * 100
    assert whole(narrow)
    assert whole(wide)
    assert extent(narrow).seconds == pytest.approx(1.0)
    assert extent(wide).seconds == pytest.approx(2.0)


APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 0xA0000000)
TAG = b"TAG" + b"Artist".ljust(125, b"\0")


@pytest.mark.parametrize("behind", [TAG, APE + TAG, bytes(4000), b"\r\n"], ids=["ID3v1", "APE", "zeros", "line"])
@pytest.mark.parametrize("name", NAMES)
def test_what_others_append_takes_nothing_away(name: str, behind: bytes) -> None:
    body = BODIES[name]
    assert whole(body + behind)
    # Where samples go to the end of the file, what is appended counts as some.
    there, before = extent(body + behind).seconds, extent(body).seconds
    assert (there is None) == (before is None)
    assert there is None or there == pytest.approx(before, abs=0.06 if name not in STREAMED else 0.6)


@pytest.mark.parametrize("name", ["opus.ogg", "vorbis.ogg", "frames.mp3", "xing.mp3", "tone.aac", "loud-start.mp3"])
def test_files_one_after_the_other_are_whole_and_play_in_turn(name: str) -> None:
    body = BODIES[name]
    seconds = extent(body).seconds
    assert seconds
    for between in (b"", TAG):
        assert whole(body + between + body)
        assert extent(body + between + body).seconds == pytest.approx(2 * seconds, abs=0.1)


@pytest.mark.parametrize("name", ["frames.mp3", "xing.mp3", "tone.aac", "tone.flac", "streamed.flac"])
def test_a_tag_hides_nothing_however_long_it_is(name: str) -> None:
    body = BODIES[name]
    for size in (10, 1000, 300_000):
        low = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
        tag = b"ID3\x04\0\0" + low + bytes(size)
        assert whole(tag + body)
        assert whole(tag + tag + body)
        assert not whole(tag)
        assert not whole(tag[: size // 2])
        assert extent(tag + body).seconds == extent(body).seconds


def test_a_flac_that_lacks_its_last_frame_or_a_part_of_it_is_not_whole() -> None:
    body = BODIES["tone.flac"]
    assert not whole(body[: len(body) // 2 + 4000])
    for cut in (1, 2, 3, 100):
        assert not whole(body[:-cut])
    assert not whole(body[:-200] + bytes(200))


@pytest.mark.parametrize("size", [b"\xff", b"\x01" + b"\xff" * 7], ids=["short", "long"])
def test_a_live_webm_whose_cluster_has_no_length_is_whole(size: bytes) -> None:
    header = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm"
    segment, cluster = b"\x18\x53\x80\x67" + size, b"\x1f\x43\xb6\x75" + size
    assert whole(header + segment + cluster + random.Random(1).randbytes(5000))
    assert not whole(header + segment)
    assert not whole(header + segment + cluster)
    # One that says how long it is is taken at its word.
    assert not whole(header + segment + b"\x1f\x43\xb6\x75\x47\xd0" + bytes(1999))
    assert whole(header + segment + b"\x1f\x43\xb6\x75\x47\xd0" + bytes(2000))


def test_noise_before_and_between_frames_is_passed_over() -> None:
    body, noise = BODIES["loud-start.mp3"], random.Random(2).randbytes(3000)
    assert whole(noise + body, "audio/mpeg")
    assert extent(noise + body + noise + body, "audio/mpeg").seconds == pytest.approx(40.2, abs=0.3)
    assert not whole(noise.replace(b"\xff", b"\xfe"), "audio/mpeg")


@pytest.mark.parametrize("rate", [b"\xff\xfb\x00\x64", b"\xff\xfb\x90\x64"], ids=["a free bit rate", "one frame"])
def test_one_frame_at_the_begin_is_audio_of_which_no_more_is_known(rate: bytes) -> None:
    assert whole(rate + b"\x55" * 2000, "audio/mpeg")


@pytest.mark.parametrize("behind", [b"", bytes(5_000_000)], ids=["audio only", "zeros behind it"])
@pytest.mark.parametrize("name", ["loud-start.mp3", "frames.mp3", "tone.aac", "tone.mp2"])
def test_how_long_a_long_file_plays_is_estimated(name: str, behind: bytes) -> None:
    body = BODIES[name]
    many = 8_000_000 // len(body)
    seconds = extent(body).seconds
    assert seconds
    assert extent(body * many + behind).seconds == pytest.approx(many * seconds, rel=0.15)


def test_less_than_one_frame_is_no_audio() -> None:
    for name in ("frames.mp3", "tone.aac", "tone.mp2", "xing.mp3"):
        assert not whole(BODIES[name][:70], "audio/mpeg")


@given(body=st.binary(max_size=400), name=st.sampled_from(NAMES), cut=st.integers(0, 4000), block=st.integers(1, 5000))
def test_no_bytes_break_it(body: bytes, name: str, cut: int, block: int) -> None:
    spoilt = BODIES[name][:cut] + body
    try:
        found = extent(spoilt, "audio/x-unknown", block)
    except MediaNotReady:
        return
    assert found.start >= 0
    assert rounded(found) == rounded(extent(spoilt, "audio/x-unknown"))
    assert not is_whole(extent(b"", "audio/mpeg"), 0)
