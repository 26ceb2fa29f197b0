"""A Schneider iEM3000 on a pymodbus server, with faults by name on standard input.

Started with the model time in milliseconds and its speed; prints the port. Its counter truly is
1,000,000 Wh + 6 kW x time since the start, whatever it says.
"""

import asyncio
import math
import struct
import sys
import time

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

BASE_WH, POWER_W, FIRST, COUNT = 1_000_000, 6000, 2999, 240
POWER_AT, IMPORT_AT, EXPORT_AT = 0x0BF3, 0x0C83, 0x0C87
BUSY, ILLEGAL = ExcCodes.DEVICE_BUSY, ExcCodes.ILLEGAL_ADDRESS
START_MS, SPEED = int(sys.argv[1]), int(sys.argv[2])
BEGAN = time.monotonic()
fault, frozen_wh, reset_wh = "none", 0, 0


def true_wh():
    ms = int((time.monotonic() - BEGAN) * 1000 * SPEED)
    return BASE_WH + POWER_W * ms // 3_600_000


def shown():
    """Import in Wh and power in kW as the meter shows them."""
    wh, kw = true_wh() - reset_wh, POWER_W / 1000
    return {
        "zero": (0, 0.0),
        "nan": (-(1 << 63), math.nan),
        "frozen": (frozen_wh, kw),
        "step_back": (wh - 500_000, kw),
        "spike": (wh + 5_000_000, kw),
    }.get(fault, (wh, kw))


async def answer(_function, start, _address, _count, registers, _values):
    if fault == "late":
        await asyncio.sleep(1.4)
    if fault in ("busy", "illegal"):
        return BUSY if fault == "busy" else ILLEGAL
    wh, kw = shown()
    for at, words in (
        (POWER_AT, struct.unpack(">2H", struct.pack(">f", kw))),
        (IMPORT_AT, struct.unpack(">4H", struct.pack(">q", wh))),
        (EXPORT_AT, (0, 0, 0, 0)),
    ):
        registers[at - start : at - start + len(words)] = list(words)
    return None


async def listen_to_orders():
    global fault, frozen_wh, reset_wh
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        fault = line.decode().strip()
        frozen_wh = true_wh() - reset_wh
        if fault == "reset":
            reset_wh = true_wh()


async def main():
    block = SimData(FIRST, count=COUNT, values=0, datatype=DataType.REGISTERS)
    meter = SimDevice(1, simdata=[block], action=answer)
    server = ModbusTcpServer(meter, address=("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve_forever())
    while server.transport is None:
        await asyncio.sleep(0.01)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await listen_to_orders()
    serving.cancel()


asyncio.run(main())
