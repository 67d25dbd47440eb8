"""One tree of errors. Each has a code (WIRE.md), a message, a hint and an exit status.

An error means that somebody must change something, and the hint says what. Expected losses (a
device that went away, a slow client) are states and events, never errors.
"""

from __future__ import annotations


class PhantomError(Exception):
    """Base of all: ``code`` for control answers, ``exit_status`` for commands."""

    code = "failed"
    exit_status = 1
    default_hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(PhantomError):
    """A command line that can't be understood."""

    code = "usage"
    exit_status = 2


class NoDaemon(PhantomError):
    """Nobody answers on the control socket."""

    code = "no-daemon"
    exit_status = 3
    default_hint = "start one with `phantomd`; or name its socket: --control, $PHANTOMD_CONTROL"


# -- configuration ---------------------------------------------------------------------------------


class ConfigError(PhantomError):
    """The configuration can't be used; the daemon does not start."""

    code = "bad-config"
    exit_status = 78


class UnknownKey(ConfigError):
    """A key that no section has."""

    code = "unknown-key"


class WrongType(ConfigError):
    """A known key with a value that it can't have."""

    code = "wrong-type"


# -- the host --------------------------------------------------------------------------------------


class PortInUse(PhantomError):
    """A stream port is taken."""

    code = "port-in-use"


class PortNotAllowed(PhantomError):
    """The operating system refuses the port or the address to this user."""

    code = "port-not-allowed"


class StateUnusable(PhantomError):
    """The state directory can't be read or written."""

    code = "state-unusable"


# -- devices ---------------------------------------------------------------------------------------


class DeviceError(PhantomError):
    """Something is wrong with a device, its address, or its permissions."""

    code = "device-failed"


class BadAddress(DeviceError):
    """A device address that no driver can take."""

    code = "bad-address"


class DeviceMissing(DeviceError):
    """There is no such device (now)."""

    code = "device-missing"


class DeviceBusy(DeviceError):
    """Somebody else has the device."""

    code = "device-busy"


class DeviceNotAllowed(DeviceError):
    """The operating system refuses access."""

    code = "device-not-allowed"


class DeviceSilent(DeviceError):
    """The port opens, but what answers is not this kind of device, or nothing does."""

    code = "device-silent"


class UnknownDevice(DeviceError):
    """No open device has this id."""

    code = "unknown-device"


class UnsupportedFault(DeviceError):
    """A fault that this device can't play."""

    code = "unsupported-fault"


# -- recordings ------------------------------------------------------------------------------------


class RecordingError(PhantomError):
    """A file that can't be read as a recording."""

    code = "bad-recording"


class UnknownRecording(RecordingError):
    """No reader knows this kind of file."""

    code = "unknown-recording"


class UnsupportedRecording(RecordingError):
    """A known format, in a variant that is not read."""

    code = "unsupported-recording"


class TruncatedRecording(RecordingError):
    """The file ends before what it announces."""

    code = "truncated-recording"


class DamagedRecording(RecordingError):
    """The file contradicts itself or its format."""

    code = "damaged-recording"


# -- control and streams ---------------------------------------------------------------------------


class ControlError(PhantomError):
    """A request that is refused. ``closing``: the connection can't go on either."""

    code = "failed"
    closing = False


class BadFrame(ControlError):
    """Bytes that are no MessagePack-RPC message."""

    code = "bad-frame"
    closing = True


class TooBig(ControlError):
    """A message over 1 MiB, or deeper than 16 levels."""

    code = "too-big"
    closing = True


class UnknownMethod(ControlError):
    """No such method."""

    code = "unknown-method"


class BadParams(ControlError):
    """Known method, wrong parameters."""

    code = "bad-params"


class BadBaseline(PhantomError):
    """A rest that was none, or a baseline of another montage."""

    code = "bad-baseline"


class BadMarker(ControlError):
    """A map on the markers port that is no marker."""

    code = "bad-marker"


class NotAllowed(ControlError):
    """The peer may not do this."""

    code = "not-allowed"


class RateLimited(ControlError):
    """Too many requests."""

    code = "rate-limited"


class TooManyClients(ControlError):
    """All connections that the port or the socket can have are taken."""

    code = "too-many-clients"
    closing = True


class RecordError(PhantomError):
    """What can't be recorded, or not now."""

    code = "bad-record"


class JournalError(PhantomError):
    """An intake journal that can't be written or replayed."""

    code = "bad-journal"


# -- the gauntlet ----------------------------------------------------------------------------------


class DatasetError(PhantomError):
    """Spikes and kinematics that can't be played, or a file that they can't be read from."""

    code = "bad-dataset"


class NoUnits(DatasetError):
    """A file without sorted units."""

    code = "no-units"


class BadTimes(DatasetError):
    """Times that go back, are no numbers, or cover more than can be."""

    code = "bad-times"


class BadRagged(DatasetError):
    """A ragged column whose index contradicts its data."""

    code = "bad-ragged"


class BadTrials(DatasetError):
    """Trials that overlap, go back, or lie outside the recording."""

    code = "bad-trials"


class DatasetTooBig(DatasetError):
    """More than a dataset may have."""

    code = "dataset-too-big"


class UnknownDataset(DatasetError):
    """No dataset has this name."""

    code = "unknown-dataset"


class BadResult(PhantomError):
    """A file that is no result of the gauntlet, or results that can't be compared."""

    code = "bad-result"


class NoAnswers(PhantomError):
    """No decoder came, or it went away."""

    code = "no-answers"


class SessionError(ControlError):
    """A session can't do this."""

    code = "session-failed"


class UnknownSession(SessionError):
    """No session has this code."""

    code = "unknown-session"
    default_hint = "`phantomctl session list` names those that there are"


class SessionExists(SessionError):
    """The code is taken."""

    code = "session-exists"


class TooManySessions(SessionError):
    """All sessions that the daemon can have are taken."""

    code = "too-many-sessions"


class FilterEmpty(SessionError):
    """A filter that no trial passes."""

    code = "filter-empty"


class DecoderTaken(SessionError):
    """Another connection is the session's decoder."""

    code = "decoder-taken"


class BadAnswer(SessionError):
    """A decoder's answer that can't be taken; it counts as missed."""

    code = "bad-answer"


class NeverSent(BadAnswer):
    """An answer to a packet that was not sent."""

    code = "never-sent"


class AnswerTooOld(BadAnswer):
    """An answer to a packet of more than two seconds ago."""

    code = "too-old"


class AnsweredTwice(BadAnswer):
    """A second answer to the same packet."""

    code = "answered-twice"


# -- decoders --------------------------------------------------------------------------------------


class DecoderError(PhantomError):
    """A decoder that can't be made, fitted, saved or loaded."""

    code = "bad-decoder"


class NotFitted(DecoderError):
    """It is asked before it has learned anything."""

    code = "not-fitted"


class WrongUnits(DecoderError):
    """Another number of units than it was fitted to."""

    code = "wrong-units"
