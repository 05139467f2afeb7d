"""Stand-ins for the worker protocol's generated messages, as far as Microsoft's worker library touches them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class TypedData:
    """One value with its kind: the protocol's `oneof data`."""

    __slots__ = ("kind", "value")

    def __init__(self, **data: Any) -> None:
        self.kind: str | None
        self.value: Any
        # The generated class treats a field set to None as not set.
        self.kind, self.value = next(((kind, value) for kind, value in data.items() if value is not None), (None, None))

    def WhichOneof(self, _oneof: str) -> str | None:  # noqa: N802 - protobuf's name
        """The name of the field that is set."""
        return self.kind

    def __getattr__(self, name: str) -> Any:
        if name == self.kind:
            return self.value
        raise AttributeError(name)


@dataclass(slots=True, kw_only=True)
class RpcHttp:
    """An HTTP request on its way in, or a response on its way out."""

    method: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: TypedData | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    status_code: str = ""
    enable_content_negotiation: bool = False
    cookies: Sequence[RpcHttpCookie] | None = None


@dataclass(slots=True, kw_only=True)
class Nullable:
    """A value that may be absent; an absent one is None in its place."""

    value: Any = None


NullableString = NullableBool = NullableDouble = NullableTimestamp = Nullable


@dataclass(slots=True, kw_only=True)
class Timestamp:
    """Seconds since 1970, UTC."""

    seconds: int = 0


class SameSite:
    """The protocol's cookie scopes, by their spelling in a `Set-Cookie` header."""

    Lax = "Lax"
    Strict = "Strict"
    ExplicitNone = "None"


# The protocol's member for "not given" is called None, which Python's syntax cannot write.
setattr(SameSite, "None", "")


@dataclass(slots=True, kw_only=True)
class _Cookie:
    name: str
    value: str
    domain: Nullable | None = None
    path: Nullable | None = None
    expires: Nullable | None = None
    secure: Nullable | None = None
    http_only: Nullable | None = None
    same_site: str = ""
    max_age: Nullable | None = None


class RpcHttpCookie(_Cookie):
    """A cookie that a function sets."""

    __slots__ = ()
    SameSite = SameSite


@dataclass(slots=True, kw_only=True)
class ParameterBinding:
    """A function's argument, or what it left in an output binding."""

    name: str
    data: TypedData

    def WhichOneof(self, _oneof: str) -> str:  # noqa: N802 - protobuf's name
        """Always `data`: nothing is passed in shared memory here."""
        return "data"


@dataclass(slots=True, kw_only=True)
class RpcException:
    """What a function, or indexing, raised."""

    message: str = ""
    stack_trace: str = ""


@dataclass(slots=True, kw_only=True)
class _Status:
    status: int
    exception: RpcException | None = None


class StatusResult(_Status):
    """Whether a request to the worker succeeded."""

    __slots__ = ()
    Failure = 0
    Success = 1


@dataclass(slots=True, kw_only=True)
class _Binding:
    type: str
    direction: int
    data_type: int | None = None


class BindingInfo(_Binding):
    """A binding of a function."""

    __slots__ = ()
    out = 1
    inout = 2
    undefined = 0


class Message(SimpleNamespace):
    """A message that is only carried: its fields are those it is made with."""


RpcFunctionMetadata = RpcRetryOptions = WorkerMetadata = Message
WorkerInitResponse = FunctionMetadataResponse = FunctionLoadResponse = Message
FunctionEnvironmentReloadResponse = InvocationResponse = Message


_NO_TRACE = Message(trace_parent="", trace_state="", attributes={})
_NO_RETRY = Message(retry_count=0, max_retry_count=0, exception=None)


@dataclass(slots=True, kw_only=True)
class InvocationRequest:
    """One call of a function."""

    invocation_id: str
    function_id: str
    input_data: Sequence[ParameterBinding]
    trigger_metadata: Mapping[str, TypedData]
    trace_context: Message = field(default_factory=lambda: _NO_TRACE)
    retry_context: Message = field(default_factory=lambda: _NO_RETRY)
