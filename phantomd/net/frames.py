"""Where one MessagePack object ends, found without building anything of it.

A hostile object costs nothing before it is refused: a length that can't be kept, a level too many
or a value too many raises at its header byte, where msgpack's own unpacker waits for a 2 GiB
string and allocates a list for every announced array, up to 1024 deep.
"""

from __future__ import annotations

from phantomd.errors import BadFrame, TooBig

_ARRAY, _MAP, _LENGTH, _INVALID = -1, -2, -3, -4


def _table() -> tuple[list[int], list[int], list[int]]:
    """For each first byte: size of the whole object (or what it is instead), how many bytes of
    length follow, and what more than the announced length the object has."""
    size = [1] * 256
    length = [0] * 256
    extra = [0] * 256
    for byte in range(0x80, 0x90):
        size[byte] = _MAP
    for byte in range(0x90, 0xA0):
        size[byte] = _ARRAY
    for byte in range(0xA0, 0xC0):
        size[byte] = 1 + (byte & 0x1F)
    size[0xC1] = _INVALID
    for byte, width, more in (
        *((0xC4 + i, 1 << i, 0) for i in range(3)),  # bin
        *((0xC7 + i, 1 << i, 1) for i in range(3)),  # ext: a type byte
        *((0xD9 + i, 1 << i, 0) for i in range(3)),  # str
    ):
        size[byte], length[byte], extra[byte] = _LENGTH, width, more
    for byte, whole in zip(
        range(0xCA, 0xD9), (5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18), strict=True
    ):
        size[byte] = whole
    for byte, what, width in (
        (0xDC, _ARRAY, 2),
        (0xDD, _ARRAY, 4),
        (0xDE, _MAP, 2),
        (0xDF, _MAP, 4),
    ):
        size[byte], length[byte] = what, width
    return size, length, extra


_SIZE, _LENGTH_BYTES, _EXTRA = _table()
#: An empty map takes the decoder as long as some eight numbers.
_CONTAINER_VALUES = 8
_IS_STRING = [0xA0 <= byte < 0xC0 or 0xD9 <= byte <= 0xDB for byte in range(256)]


class Scanner:
    """Scans one object at the start of a buffer that grows at its end. Resumable, so that a large
    object is work for several turns of the event loop. ``reset`` before the next object.

    ``hungry`` after a scan: it can't go on before more bytes are there.
    """

    def __init__(self, max_bytes: int, max_depth: int, max_values: int) -> None:
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._max_values = max_values
        self.reset()

    def reset(self) -> None:
        self.hungry = True
        self._at = 0
        self._values = 1
        #: Values that are still to come, a level; and whether the level is a map.
        self._open: list[int] = [1]
        self._maps: list[bool] = [False]

    def scan(self, data: bytearray, budget: int) -> int | None:
        """The object's length in bytes, or None before it is complete or when ``budget`` values
        were looked at. Raises BadFrame and TooBig."""
        at, end, left, maps = self._at, len(data), self._open, self._maps
        self.hungry = False
        while left:
            if at >= end or not budget:
                break
            budget -= 1
            byte = data[at]
            if maps[-1] and not left[-1] & 1 and not _IS_STRING[byte]:
                raise BadFrame(
                    f"a map key of type byte 0x{byte:02x}", hint="the keys of a map are strings"
                )
            size = _SIZE[byte]
            if size > 0:
                at += size
                count = 0
            elif size == _INVALID:
                raise BadFrame("the byte 0xc1 begins no MessagePack object", hint=_HINT)
            else:
                width = _LENGTH_BYTES[byte]
                if at + 1 + width > end:
                    budget += 1
                    self.hungry = True
                    break
                announced = (
                    int.from_bytes(data[at + 1 : at + 1 + width], "big") if width else byte & 15
                )
                at += 1 + width
                if size == _LENGTH:
                    at += announced + _EXTRA[byte]
                    count = 0
                else:
                    count = announced << 1 if size == _MAP else announced
                    self._enter(count, at)
            if at > self._max_bytes:
                raise TooBig(f"a message of at least {at} bytes", hint=self._limits())
            left[-1] -= 1
            if count:
                left.append(count)
                maps.append(size == _MAP)
            while left and not left[-1]:
                left.pop()
                maps.pop()
        self._at = at
        if left or at > end:
            self.hungry = self.hungry or at >= end
            return None
        return at

    def _enter(self, count: int, at: int) -> None:
        """An array or a map begins: its announced values must fit into the limits."""
        self._values += count + _CONTAINER_VALUES
        if len(self._open) > self._max_depth:
            raise TooBig(f"a message deeper than {self._max_depth} levels", hint=self._limits())
        if at + count > self._max_bytes or self._values > self._max_values:
            raise TooBig(f"a message of {self._values} values", hint=self._limits())

    def _limits(self) -> str:
        return (
            f"a message has at most {self._max_bytes} bytes, {self._max_depth} levels and "
            f"{self._max_values} values; send large things as files"
        )


_HINT = "requests are MessagePack-RPC: [0, id, method, [params]]"
