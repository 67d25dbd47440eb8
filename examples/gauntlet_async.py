"""A decoder of spikes for asyncio, without phantomd's client: msgpack alone.

    python examples/gauntlet_async.py SESSION [PORT] [PACKETS]

The model is a stand-in for yours: a leaky sum of the counts, pulled one way by even units and the
other way by odd ones.
"""

import asyncio
import sys

import msgpack


async def main(session: str, port: int = 7072, packets: int = 0) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)  # sets TCP_NODELAY
    writer.write(msgpack.packb({"attach": session}))
    unpacker = msgpack.Unpacker()
    ours, answered, vx, vy = False, 0, 0.0, 0.0
    while data := await reader.read(65536):
        unpacker.feed(data)
        for message in unpacker:
            if message["type"] == "metadata":
                ours = message["data"]["session"] == session
            elif message["type"] == "error":
                sys.exit(f"{message['message']} ({message['hint']})")
            elif message["type"] == "data" and ours:
                counts = message["data"]["spikes"]["spike_counts"]
                vx = 0.9 * vx + sum(counts[::2]) - sum(counts[1::2])
                vy = 0.9 * vy + sum(counts[: len(counts) // 2]) - sum(counts[len(counts) // 2 :])
                writer.write(msgpack.packb({"vx": vx, "vy": vy, "seq": message["seq"]}))
                answered += 1
                if answered == packets:
                    await writer.drain()
                    writer.close()
                    print(answered, "packets answered")
                    return
    print(answered, "packets answered")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *(int(argument) for argument in sys.argv[2:4])))
