"""Runs the calls of a distillery, with asyncio (`AsyncDistillery`) or without (`Distillery`)."""

from . import _api_types as types
from ._api import Api
from ._async_api import AsyncApi
from ._blocking import Call, Distillery, Output
from ._call import AsyncCall
from ._client import AsyncDistillery, Ran
from ._files import Input
from ._messages import Message, Result, Ticket
from ._output import Output as AsyncOutput
from ._retry import Reconnect
from .errors import (
    ApiError,
    CallEndedError,
    CallFailedError,
    ConnectError,
    ConnectionLostError,
    DetachedError,
    DistilleryError,
    InputLostError,
    OutputLostError,
    ProtocolError,
)

__all__ = [
    "Api",
    "ApiError",
    "AsyncApi",
    "AsyncCall",
    "AsyncDistillery",
    "AsyncOutput",
    "Call",
    "CallEndedError",
    "CallFailedError",
    "ConnectError",
    "ConnectionLostError",
    "DetachedError",
    "Distillery",
    "DistilleryError",
    "Input",
    "InputLostError",
    "Message",
    "Output",
    "OutputLostError",
    "ProtocolError",
    "Ran",
    "Reconnect",
    "Result",
    "Ticket",
    "types",
]
