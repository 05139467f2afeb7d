"""The transport of all clients of storage: it alone tries again, and raises StorageUnavailable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, ServiceRequestError
from azure.core.pipeline.transport import RequestsTransport

from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    import requests
    from azure.core.credentials import AccessToken

# Whoever sends an event gets an answer within five seconds: three connections, or one answer, are waited for.
_CONNECT_SECONDS, _READ_SECONDS = 1.1, 3.0
_TRIES, _PAUSE_SECONDS = 3, 0.4
_DENIED, OVERLOADED = (401, 403), (408, 429, *range(500, 600))
NO_ENTRY = "storage does not let this app in; roles take some minutes to work"


class Transport(RequestsTransport):  # type: ignore[misc]
    """Sends the requests of any number of clients over one session."""

    def __init__(self, session: requests.Session) -> None:
        timeouts = {"connection_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS}
        super().__init__(session=session, session_owner=False, **timeouts)

    def send(self, request: Any, *, tries: int = _TRIES, **options: Any) -> Any:
        """
        Return an answer that is for the client to judge.

        A connection is tried so many times, and an overloaded storage asked twice. A request that is sent and not
        answered may have been done, and is not sent again. Calls with `tries=1` send theirs once.
        """
        for left in reversed(range(tries)):
            try:
                response = super().send(request, **options)
            except ServiceRequestError as error:
                if not left:
                    raise StorageUnavailable("storage is out of reach") from error
            except AzureError as error:
                raise StorageUnavailable("storage does not answer") from error
            else:
                if response.status_code in _DENIED:
                    raise StorageUnavailable(NO_ENTRY)
                if response.status_code not in OVERLOADED:
                    return response
                if left < tries - 1 or not left:
                    raise StorageUnavailable("storage is overloaded")
            self.sleep(_PAUSE_SECONDS)
        raise ValueError("tries is at least one")


class Credential:
    """The app's identity, whose service may be out of reach as storage may."""

    def __init__(self, client_id: str | None) -> None:
        from azure.identity import DefaultAzureCredential

        self._identity = DefaultAzureCredential(managed_identity_client_id=client_id)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token for storage."""
        try:
            return self._identity.get_token(*scopes, **options)
        except AzureError as error:
            raise StorageUnavailable(NO_ENTRY) from error
