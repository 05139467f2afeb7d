"""Count the requests to storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter

from shared.storage.account import Storage

if TYPE_CHECKING:
    import requests


class Counting(HTTPAdapter):
    """Counts the requests to storage, and the bytes of their answers."""

    count = received = 0

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.count += 1
        response = super().send(request, *args, **options)
        self.received += len(response.content)
        return response


def counted(storage: Storage) -> Counting:
    """Return an adapter that counts this storage's requests from now on."""
    adapter = Counting(pool_maxsize=8)
    storage._session.mount("http://", adapter)
    return adapter
