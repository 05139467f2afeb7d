"""The PBX, its audio and a subscriber behind names that do not resolve, or certificates that nobody trusts."""

from __future__ import annotations

import ssl
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import requests

from dev.drill.certificates import BAD, GOOD
from dev.drill.machine import AUDIO, HOSTS, PBX, SUBSCRIBER
from dev.drill.proxy import Proxy
from dev.drill.world import FIRST_CALL, call_data
from dev.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dev.drill.world import World

_NO_NAME = "does not resolve"
WRONG = (_NO_NAME, *(f"has a certificate {kind}" for kind in BAD))
_PATIENCE = 4.0
SETTINGS: Mapping[str, str] = {
    "PYTHONPATH": "{resolver}",
    "DRILL_NAMES": "{names}",
    "DRILL_AUTHORITY": "{authority}",
    "PBX_BASE_URL": "{pbx}/api/v2/",
    "MEDIA_HOSTS": AUDIO,
}


class Tls:
    """A host of HOSTS in front of a plain server, with a name and a certificate that may be wrong."""

    def __init__(self, world: World, host: str, target: str) -> None:
        self._machine, self.host = world.machine, host
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.become(GOOD)
        self.proxy = Proxy(target, self._context, world.machine.ports[host])

    def become(self, state: str) -> None:
        """GOOD, or one of WRONG, for connections from now on."""
        self._machine.resolve(self.host, state != _NO_NAME)
        kind = next((kind for kind in BAD if state.endswith(kind)), GOOD)
        self._context.load_cert_chain(self._machine.authority.certificate(self.host, kind))


def strangers(world: World) -> None:
    """Each of the three is wrong in a way of its own while recordings are announced, and then right."""
    count = max(2, min(world.events // 10, 40))
    with ExitStack() as stack:
        listener = stack.enter_context(Listener())
        targets = zip(HOSTS, (world.pbx.url, world.pbx.url, listener.origin), strict=True)
        fronts = [Tls(world, host, target) for host, target in targets]
        for front in fronts:
            stack.enter_context(front.proxy)
        world.pbx.control("POST", "options", media_base=f"https://{AUDIO}:{world.machine.ports[AUDIO]}")
        _subscribe(world)
        for number, wrong in enumerate(([PBX, SUBSCRIBER], [AUDIO, SUBSCRIBER])):
            for front in fronts:
                state = world.random.choice(WRONG) if front.host in wrong else GOOD
                front.become(state)
                world.say(f"{front.host} {'is good' if state == GOOD else state}")
            for front in fronts:
                front.proxy.cut()
            _announce(world, range(1 + number * count, 1 + (number + 1) * count))
        for front in fronts:
            front.become(GOOD)
        _check(world, listener, 2 * count)


def _subscribe(world: World) -> None:
    endpoint = f"https://{SUBSCRIBER}:{world.machine.ports[SUBSCRIBER]}/hook"
    url = f"{world.url}/api/v2/webhooks/CallRecorded"
    requests.post(url, json={"endpoint": endpoint}, timeout=30).raise_for_status()


def _announce(world: World, ids: range) -> None:
    began = time.monotonic()
    for id in ids:
        world.pbx.control("POST", "items", resource="call_records", id=id, **call_data(FIRST_CALL + id))
        world.send("CallRecorded", callID=FIRST_CALL + id, recordingID=id)
    time.sleep(max(0.0, began + world.outage - time.monotonic()))


def _check(world: World, listener: Listener, count: int) -> None:
    def whole() -> bool:
        stored = sum(1 for _ in world.storage.container("recordings").list_blob_names())
        return stored >= count and {one.id for one in listener.received} >= world.accepted

    seconds = world.recovered(whole, world.outage * _PATIENCE + 60)
    world.check(f"audio and deliveries are all there {seconds or 0:.0f} s later", seconds is not None)
    ids = [one.id for one in listener.received]
    world.check(f"the subscriber has each event once ({len(ids)})", len(ids) == len(set(ids)))
    world.check_nothing_lost(count)
