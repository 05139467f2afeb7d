"""The storage emulator as a child process."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from azure.storage.queue import QueueServiceClient

from dev.azurite import AzuriteProcess, Ports

if TYPE_CHECKING:
    from pathlib import Path


def free_ports() -> Ports:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = Ports(*(each.getsockname()[1] for each in taken))
    for each in taken:
        each.close()
    return ports


def test_data_in_a_location_outlives_the_process(tmp_path: Path) -> None:
    ports = free_ports()
    with AzuriteProcess(location=tmp_path, ports=ports) as first:
        assert first.urls[1].endswith(f":{ports.queue}/devstoreaccount1")
        QueueServiceClient.from_connection_string(first.connection_string).create_queue("kept")
    with AzuriteProcess(location=tmp_path, ports=ports) as second:
        service = QueueServiceClient.from_connection_string(second.connection_string)
        assert [queue.name for queue in service.list_queues()] == ["kept"]
    assert second.exit_code == 0
