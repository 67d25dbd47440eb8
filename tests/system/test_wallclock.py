"""A stepped host clock on the events port."""

import asyncio
import json

from live import read_line


def test_a_step_of_the_wall_clock_reaches_subscribers_of_events(run, daemon_at):
    async def scene():
        async with daemon_at() as daemon:
            port = daemon.ports.streams["events"].port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await read_line(reader)
            daemon._wall_clock._stepped(0, 2_000_000_000)
            lines = []
            while not any(line["type"] == "clock" for line in lines) or lines[-1]["type"] != "data":
                lines.append(json.loads(await read_line(reader)))
            writer.close()
            return lines

    lines = run(scene())
    assert {"type": "clock", "wall_offset_ns": 2_000_000_000} in lines
    assert lines[-1]["data"]["kind"] == "clock"
    assert "+2.000 s" in lines[-1]["data"]["message"]
