"""Deletions of voicemails at the PBX: at any moment of a copy, killed at any step, and in every version."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from requests.adapters import HTTPAdapter

from dev.simulator import Simulator
from shared.bridge import Bridge
from shared.errors import PbxRetriable
from shared.media.blobs import MEDIA, deletion
from shared.media.copy import copy
from shared.storage.account import BLOCK_BYTES
from tests.copying import STARTED, VOICEMAIL, announced, asked, blobs, waiting
from tests.dying import is_killed
from tests.stored import dead_letters

if TYPE_CHECKING:
    import requests

WITHDRAW = asked("voicemail", "withdraw")
NAME = f"2018/04/26/{VOICEMAIL}.mp3"
MIRROR = pytest.mark.parametrize("mirror", ["true", "false"], ids=["mirrored", "marked"])


@pytest.fixture
def open_with(open_bridge: Callable[..., Bridge]) -> Callable[[str], Bridge]:
    return lambda mirror: open_bridge(MIRROR_VOICEMAIL_DELETES=mirror)


def marks(bridge: Bridge) -> dict[str, str | None]:
    """Each voicemail's blob, and when it was deleted at the PBX."""
    return {name: (blob.metadata or {}).get("deletedAtPbx") for name, blob in blobs(bridge, "voicemails").items()}


def withdrawn(name: str, mirror: str) -> dict[str, str | None]:
    return {} if mirror == "true" else {name: "2018-04-26T02:57:24Z"}


def clear(bridge: Bridge) -> None:
    for name in marks(bridge):
        bridge.storage.container("voicemails").delete_blob(name)


class Watch(HTTPAdapter):
    """Counts requests to storage; `meanwhile` runs right before each, with its number, from 0 on."""

    def __init__(self, bridge: Bridge, meanwhile: Callable[[int], None]) -> None:
        super().__init__(pool_maxsize=8)
        self.count, self._meanwhile = 0, meanwhile
        bridge.storage._session.mount("http://", self)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self._meanwhile(self.count)
        self.count += 1
        return super().send(request, *args, **options)


@pytest.mark.slow
@MIRROR
def test_a_deletion_at_any_moment_of_a_copy_is_honoured_and_a_copy_that_is_deleted_is_not_announced(
    mirror: str, open_with: Callable[[str], Bridge], bridge: Bridge, pbx: Simulator
) -> None:
    for moment in itertools.count():
        id = VOICEMAIL + moment
        pbx.add("voicemails", id, sender="27771153", callStarted=STARTED)
        pbx.file("voicemails", id).size = BLOCK_BYTES + 5000

        def delete(number: int, at: int = moment, id: int = id) -> None:
            if number == at:
                copy(open_with(mirror), asked("voicemail", "withdraw", id=id))

        copier = open_with(mirror)
        watch = Watch(copier, delete)
        copy(copier, asked("voicemail", id=id))
        if is_last := watch.count <= moment:
            delete(moment)
        assert marks(bridge) == withdrawn(f"2018/04/26/{id}.mp3", mirror), f"before request {moment}"
        if mirror == "true" and moment < 2:
            assert not announced(bridge)
        clear(bridge)
        if is_last:
            break
    assert moment > 5


@pytest.mark.slow
@MIRROR
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_a_deletion_killed_at_any_step_is_finished_by_the_next_delivery(
    after: bool, mirror: str, open_with: Callable[[str], Bridge], bridge: Bridge, pbx: Simulator
) -> None:
    for step in itertools.count(1):
        for row in list(bridge.storage.table("media").list_entities()):
            bridge.storage.table("media").delete_entity(row["PartitionKey"], row["RowKey"])
        copy(bridge, asked("voicemail"))
        assert marks(bridge) == {NAME: None}
        doomed = open_with(mirror)
        killed = is_killed(doomed.storage, step, copy, doomed, WITHDRAW, after=after)
        if killed:
            copy(open_with(mirror), WITHDRAW)
        assert marks(bridge) == withdrawn(NAME, mirror)
        clear(bridge)
        if not killed:
            break
    assert step > 3


@MIRROR
def test_a_deletion_reaches_every_copy_and_no_other_voicemail(
    mirror: str, open_with: Callable[[str], Bridge], bridge: Bridge, pbx: Simulator
) -> None:
    others = (VOICEMAIL * 10, VOICEMAIL // 10, VOICEMAIL + 1)
    for id in others:
        pbx.add("voicemails", id, sender="27771153", callStarted=STARTED)
        copy(bridge, asked("voicemail", id=id))
    copy(bridge, asked("voicemail"))
    pbx.file("voicemails", VOICEMAIL).tone += 1
    copy(bridge, asked("voicemail"))
    pbx.remove("voicemails", VOICEMAIL)
    copy(open_with(mirror), WITHDRAW)
    found = marks(bridge)
    untouched = {f"2018/04/26/{id}.mp3" for id in others}
    assert {name for name, mark in found.items() if mark is None} == untouched
    assert len(found) == len(untouched) + (0 if mirror == "true" else 2)


class Versions(HTTPAdapter):
    """A proxy of the emulator that keeps versions, as Azure does and the emulator does not."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[str] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        parts = urlsplit(str(request.url))
        query = parse_qs(parts.query)
        if request.method == "DELETE" and "voicemails" in parts.path:
            self.deleted.append(query.get("versionid", ["blob"])[0])
            if "versionid" in query:
                request.url = str(request.url).replace(parts.query, "")
                response = super().send(request, *args, **options)
                response.status_code = 202
                return response
        response = super().send(request, *args, **options)
        if "versions" in query.get("include", [""])[0]:
            kind = "<Properties><BlobType>BlockBlob</BlobType></Properties>"
            found = "".join(
                f"<Blob><Name>{NAME}</Name><VersionId>2018-0{number}</VersionId>{kind}</Blob>" for number in (1, 2)
            )
            response._content = response.content.replace(b"<Blobs/>", f"<Blobs>{found}</Blobs>".encode())
        return response


def test_a_mirrored_deletion_takes_the_blob_and_then_all_its_versions(
    open_with: Callable[[str], Bridge], bridge: Bridge
) -> None:
    mirroring, versions = open_with("true"), Versions()
    copy(mirroring, asked("voicemail"))
    mirroring.storage._session.mount("http://", versions)
    copy(mirroring, WITHDRAW)
    assert versions.deleted == ["blob", "2018-01", "2018-02"]
    assert not blobs(bridge, "voicemails")


def test_a_deletion_that_is_only_inferred_stays_so_when_the_copy_comes(
    open_with: Callable[[str], Bridge], bridge: Bridge
) -> None:
    mirroring = open_with("true")
    (voicemail,) = [row for row in MEDIA if row.name == "voicemail"]
    copy(mirroring, WITHDRAW | {"inferred": True})
    for _ in range(2):
        copy(mirroring, asked("voicemail"))
        assert marks(bridge) == withdrawn(NAME, "false")
        row = deletion(bridge.storage, voicemail, VOICEMAIL)
        assert row is not None and row["inferred"]


@pytest.mark.parametrize("said", [{"status": "error"}, {"statusCode": 404}, {"data": []}, {"statusCode": 422}], ids=str)
def test_any_answer_without_the_record_ends_the_copy_of_a_deleted_voicemail(
    said: dict[str, Any], bridge: Bridge, pbx: Simulator
) -> None:
    copy(bridge, WITHDRAW)
    pbx.faults.add("wrapper", "GetVoicemailByID", value=said)
    copy(bridge, asked("voicemail"))
    assert not waiting(bridge)
    assert not dead_letters(bridge.storage)


def test_a_pbx_out_of_reach_is_no_end_of_a_deleted_voicemail(bridge: Bridge, pbx: Simulator) -> None:
    copy(bridge, WITHDRAW)
    pbx.faults.add("status", "GetVoicemailByID")
    with pytest.raises(PbxRetriable):
        copy(bridge, asked("voicemail"))
