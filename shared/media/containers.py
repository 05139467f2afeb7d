"""The containers of audio: how each is known, what its elements are, and how it says how much there is of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.media import elements, flac, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from shared.media.elements import Element, Length

# What recorders write that do not know a length yet is this or more, in 32 bits and in 64.
_ENDLESS, _ENDLESS_64 = 0x7F000000, 1 << 62


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """
    How a container is read: `lead` bytes, then elements, each read by `read`; or frames only, gone through by `frames`.

    `audio` are the elements that hold it, and `needed` those without which it cannot be played. What stands `inside`
    an element is elements too; elsewhere they have one of the `names`, where those are given: others append what looks
    like one. Behind the audio the file may end where `last` says so, and a length of the audio of
    none or at least `endless` is one that was not known yet. `notes` read how long it plays, and `whole` looks at a
    file's last bytes where its elements do not say that all is there. `sync` is looked for where no element stands.
    """

    lead: int = 0
    read: Callable[[bytes, int], Element] | None = None
    frames: Callable[[], frames.Frames] | None = None
    audio: Collection[bytes] = ()
    needed: Collection[bytes] = ()
    inside: Collection[bytes] = ()
    names: Collection[bytes] = ()
    last: bool = False
    endless: int | None = None
    notes: Mapping[bytes, Callable[[Length, bytes, int], None]] = field(default_factory=dict)
    whole: Callable[[Length, bytes], bool] | None = None
    sync: bytes = b""


@dataclass(frozen=True, slots=True)
class Container:
    """A kind of file: what its first bytes look like (an empty pattern where it has no signature), and its layout."""

    content_type: str
    extension: str
    signature: bytes
    layout: Layout

    def is_signed(self, head: bytes) -> bool:
        """Whether a file with these first bytes has its signature."""
        return bool(self.signature and re.match(self.signature, head, re.DOTALL))


def _none(data: bytes, at: int) -> Element:
    raise elements.NoElement


_UNKNOWN = Layout()
_NOTHING = Layout(read=_none)
_WAV = Layout(
    lead=12,
    read=elements.riff,
    audio=(b"data",),
    last=True,
    endless=_ENDLESS,
    notes={b"fmt ": elements.wave_format, b"ds64": elements.wave_sizes},
)
_W64 = Layout(
    lead=40,
    read=elements.w64,
    audio=(b"data",),
    last=True,
    endless=_ENDLESS_64,
    notes={b"fmt ": elements.wave_format},
)
_AIFF = Layout(
    lead=12,
    read=elements.aiff,
    audio=(b"SSND",),
    needed=(b"COMM",),
    names=elements.AIFF_NAMES,
    endless=_ENDLESS,
    notes={b"COMM": elements.aiff_format},
)
_CAF = Layout(
    lead=8,
    read=elements.caf,
    audio=(b"data",),
    names=elements.CAF_NAMES,
    endless=_ENDLESS_64,
    notes={b"desc": elements.caf_format},
)
_AU = Layout(read=elements.au, audio=(b".snd",), last=True, endless=_ENDLESS, notes={b".snd": elements.au_format})
_ASF = Layout(
    read=elements.asf,
    audio=(elements.ASF_DATA,),
    inside=(elements.ASF_HEADER,),
    last=True,
    endless=_ENDLESS_64,
    notes={elements.ASF_PROPERTIES: elements.asf_properties},
)
_MP4 = Layout(
    read=elements.mp4,
    audio=(b"mdat",),
    needed=(b"moov",),
    inside=(b"moov",),
    names=elements.MP4_NAMES,
    notes={b"mvhd": elements.mp4_header},
)
_EBML = Layout(
    read=elements.ebml,
    audio=(elements.CLUSTER,),
    inside=(elements.SEGMENT, elements.INFO),
    names=elements.EBML_NAMES,
    notes={b"\x2a\xd7\xb1": elements.ebml_scale, b"\x44\x89": elements.ebml_duration},
)
_OGG = Layout(
    read=elements.ogg,
    audio=(b"page",),
    notes={b"first": elements.ogg_first, b"page": elements.ogg_page},
    sync=b"OggS",
)
_FLAC = Layout(
    lead=4,
    read=elements.flac,
    audio=frozenset(bytes([0x80 | type]) for type in range(127)),
    last=True,
    notes={b"\x00": flac.info, b"\x80": flac.info},
    whole=flac.is_whole,
)
_MPEG = Layout(frames=frames.Frames)
_MATROSKA = rb"\x1a\x45\xdf\xa3"
# Pictures stand in the same boxes.
_BOXES = rb"....(?:ftyp(?!avif|avis|heic|heix|hevc|hevx|heim|heis|mif1|msf1|crx )|styp|moov|moof|mdat|wide|pnot)"

CONTAINERS: tuple[Container, ...] = (
    Container("audio/wav", "wav", rb"(?:RIFF|RF64|BW64)....WAVE", _WAV),
    Container("audio/qcelp", "qcp", rb"RIFF....QLCM", _WAV),
    Container("audio/x-w64", "w64", rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00.{8}wave", _W64),
    Container("audio/aiff", "aiff", rb"FORM....AIF[FC]", _AIFF),
    Container("audio/x-caf", "caf", rb"caff\x00[\x01\x02]", _CAF),
    Container("audio/basic", "au", rb"\.snd\x00", _AU),
    Container("audio/x-ms-wma", "wma", re.escape(elements.ASF_HEADER), _ASF),
    Container("audio/ogg", "ogg", rb"OggS\x00", _OGG),
    Container("audio/flac", "flac", rb"fLaC", _FLAC),
    Container("audio/amr", "amr", rb"#!AMR\n", Layout(lead=6, frames=frames.AmrFrames)),
    Container("audio/amr-wb", "awb", rb"#!AMR-WB\n", Layout(lead=9, frames=frames.WideAmrFrames)),
    Container("audio/webm", "webm", _MATROSKA + rb".{1,60}?\x42\x82.webm", _EBML),
    Container("audio/x-matroska", "mka", _MATROSKA, _EBML),
    Container("audio/3gpp", "3gp", rb"....ftyp3g[p2sregh]", _MP4),
    Container("video/quicktime", "mov", rb"....ftypqt  ", _MP4),
    Container("audio/mp4", "m4a", _BOXES, _MP4),
    Container("audio/mpeg", "mp3", b"", _MPEG),
    Container("audio/aac", "aac", b"", _MPEG),
)
_BY_TYPE = {row.content_type: row for row in reversed(CONTAINERS)}


def container_of(head: bytes) -> Container | None:
    """The container that a file with these first bytes is, by its signature."""
    return next((row for row in CONTAINERS if row.is_signed(head)), None)


# How the signatures begin.
_MARKS = re.compile(
    rb"RIFF|RF64|BW64|riff|FORM|caff|\.snd|OggS|fLaC|#!AMR|ID3|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75|....ftyp", re.DOTALL
)
_LONGEST_SIGNATURE = 64


def layout_of(head: bytes, content_type: str) -> Layout:
    """
    How a file is read: by its first bytes, tags aside, or else by its type.

    One that has the type of a container without its signature, or breaks off in one, holds nothing of that kind; of
    other types nothing is known.
    """
    row = container_of(head) or _BY_TYPE.get(content_type)
    if row is None:
        return _NOTHING if len(head) < _LONGEST_SIGNATURE and _MARKS.match(head) else _UNKNOWN
    if not row.signature or row.is_signed(head):
        return row.layout
    # Bare samples, by that type's own definition.
    return _UNKNOWN if content_type == "audio/basic" else _NOTHING
