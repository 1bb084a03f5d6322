from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("orchestrator", "term", "hold_s", "known_json")
    ORCHESTRATOR_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    HOLD_S_FIELD_NUMBER: _ClassVar[int]
    KNOWN_JSON_FIELD_NUMBER: _ClassVar[int]
    orchestrator: str
    term: int
    hold_s: float
    known_json: bytes
    def __init__(self, orchestrator: _Optional[str] = ..., term: _Optional[int] = ..., hold_s: _Optional[float] = ..., known_json: _Optional[bytes] = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("report_json",)
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    report_json: bytes
    def __init__(self, report_json: _Optional[bytes] = ...) -> None: ...

class ConfigureRequest(_message.Message):
    __slots__ = ("term", "spec_json", "generation")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    term: int
    spec_json: bytes
    generation: int
    def __init__(self, term: _Optional[int] = ..., spec_json: _Optional[bytes] = ..., generation: _Optional[int] = ...) -> None: ...

class ConfigureReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RetireRequest(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...

class RetireReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PlacementRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PlacementReply(_message.Message):
    __slots__ = ("placement_json",)
    PLACEMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    placement_json: bytes
    def __init__(self, placement_json: _Optional[bytes] = ...) -> None: ...

class AskRequest(_message.Message):
    __slots__ = ("verb", "shard", "msgpack")
    VERB_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    MSGPACK_FIELD_NUMBER: _ClassVar[int]
    verb: str
    shard: int
    msgpack: bytes
    def __init__(self, verb: _Optional[str] = ..., shard: _Optional[int] = ..., msgpack: _Optional[bytes] = ...) -> None: ...

class AskReply(_message.Message):
    __slots__ = ("msgpack",)
    MSGPACK_FIELD_NUMBER: _ClassVar[int]
    msgpack: bytes
    def __init__(self, msgpack: _Optional[bytes] = ...) -> None: ...
