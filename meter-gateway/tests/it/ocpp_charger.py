"""An ordinary charge point, played with the Python package `ocpp`, which holds every message against the standard's schemas.

It prints its meter's public key, reads the address on stdin, goes through a charging life, and prints what it was told.
Anything that is not as it must be is an exception.
"""

import asyncio
import json
import sys

import websockets
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.enums import Action

KEY = ec.generate_private_key(ec.SECP256R1())


def ocmf(page, begin, end):
    """Two readings, signed as a meter does it."""
    time = "2026-06-21T10:15:00,000+0000 S"
    rows = [
        {"TM": time, "TX": why, "RV": value, "RI": "1-0:1.8.0", "RU": "Wh", "RT": "AC", "EF": "", "ST": "G"}
        for why, value in (("B", begin), ("E", end))
    ]
    payload = json.dumps({"FV": "1.0", "PG": f"T{page}", "MS": "meter-1", "ID": "card", "RD": rows})
    signature = KEY.sign(payload.encode(), ec.ECDSA(hashes.SHA256()))
    return f"OCMF|{payload}|" + json.dumps({"SA": "ECDSA-secp256r1-SHA256", "SD": signature.hex()})


class Charger(ChargePoint):
    """Does what it is told, and remembers it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.told = []
        self.news = asyncio.Event()

    def note(self, action, **what):
        self.told.append((action, what))
        self.news.set()

    async def heard(self, action):
        """Waits for a call."""
        while not any(name == action for name, _ in self.told):
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 60)
        return next(what for name, what in self.told if name == action)

    @on(Action.change_configuration)
    def on_change(self, key, value):
        self.note("change", key=key, value=value)
        return call_result.ChangeConfiguration(status="Accepted")

    @on(Action.get_configuration)
    def on_get(self, **_):
        return call_result.GetConfiguration(configuration_key=[{"key": "NumberOfConnectors", "readonly": True, "value": "1"}])

    @on(Action.trigger_message)
    def on_trigger(self, requested_message, **_):
        self.note("trigger", message=requested_message)
        return call_result.TriggerMessage(status="Accepted")

    @on(Action.remote_start_transaction)
    def on_start(self, id_tag, **_):
        self.note("start", id_tag=id_tag)
        return call_result.RemoteStartTransaction(status="Accepted")

    @on(Action.remote_stop_transaction)
    def on_stop(self, transaction_id):
        self.note("stop", id=transaction_id)
        return call_result.RemoteStopTransaction(status="Accepted")

    @on(Action.set_charging_profile)
    def on_profile(self, connector_id, cs_charging_profiles):
        self.note("limit", profile=cs_charging_profiles)
        return call_result.SetChargingProfile(status="Accepted")

    @on(Action.clear_charging_profile)
    def on_clear(self, **_):
        self.note("clear")
        return call_result.ClearChargingProfile(status="Accepted")

    async def now(self):
        """The time, as the gateway tells it."""
        return (await self.call(call.Heartbeat())).current_time

    async def counts(self, wh, transaction=None):
        """Says what the meter shows."""
        values = [{"value": str(wh), "unit": "Wh"}, {"value": "7200", "measurand": "Power.Active.Import", "unit": "W"}]
        row = {"timestamp": await self.now(), "sampled_value": values}
        await self.call(call.MeterValues(connector_id=1, meter_value=[row], transaction_id=transaction))

    async def begin(self, tag, wh, time):
        return await self.call(call.StartTransaction(connector_id=1, id_tag=tag, meter_start=wh, timestamp=time))


async def connect(url, password):
    name = url.rsplit("/", 1)[1]
    headers = {"Authorization": "Basic " + __import__("base64").b64encode(f"{name}:{password}".encode()).decode()}
    socket = await websockets.connect(url, subprotocols=["ocpp1.6"], additional_headers=headers)
    charger = Charger(name, socket)
    task = asyncio.create_task(charger.start())
    return charger, socket, task


async def life(url, password):
    try:
        await connect(url, "wrong")
        raise AssertionError("a wrong password was let in")
    except websockets.exceptions.InvalidStatus as refused:
        assert refused.response.status_code == 401, refused
    charger, socket, task = await connect(url, password)
    boot = await charger.call(call.BootNotification(charge_point_model="M", charge_point_vendor="V", firmware_version="1"))
    assert boot.status == "Accepted", boot
    for status in ("Available", "Preparing"):
        await charger.call(call.StatusNotification(connector_id=1, error_code="NoError", status=status))
    assert (await charger.heard("change"))["key"] == "MeterValueSampleInterval"

    # A card that is welcome, one that is not.
    stranger = await charger.call(call.Authorize(id_tag="STRANGER"))
    host = await charger.call(call.Authorize(id_tag="HOST"))
    assert (stranger.id_tag_info["status"], host.id_tag_info["status"]) == ("Invalid", "Accepted")
    time = await charger.now()
    first = await charger.begin("HOST", 1000, time)
    for step in range(3):
        await charger.counts(1000 + step, first.transaction_id)
    data = [{"timestamp": await charger.now(), "sampled_value": [{"value": ocmf(1, 1000, 1002), "format": "SignedData"}]}]
    ended = call.StopTransaction(meter_stop=1002, timestamp=await charger.now(), transaction_id=first.transaction_id,
                                 reason="EVDisconnected", transaction_data=data)
    await charger.call(ended)
    print("host", flush=True)

    # The platform lets somebody in, limits the current, and ends it.
    assert (await charger.heard("start"))["id_tag"] == "commonwatt"
    second = await charger.begin("commonwatt", 1002, await charger.now())
    assert second.id_tag_info["status"] == "Accepted" and second.transaction_id != first.transaction_id
    print("charging", flush=True)
    limit = (await charger.heard("limit"))["profile"]
    assert limit["charging_schedule"]["charging_schedule_period"][0]["limit"] == 10.5, limit
    assert limit["transaction_id"] == second.transaction_id, limit
    await charger.heard("clear")
    assert (await charger.heard("stop"))["id"] == second.transaction_id
    stop = call.StopTransaction(meter_stop=1010, timestamp=await charger.now(), transaction_id=second.transaction_id, reason="Remote")
    await charger.call(stop)

    # An outage: what was said already is said again, and is the same.
    task.cancel()
    await socket.close()
    charger, socket, task = await connect(url, password)
    again = await charger.begin("HOST", 1000, time)
    assert again.transaction_id == first.transaction_id, again
    await charger.call(ended)
    await charger.call(stop)
    print("replayed", flush=True)

    # It counts until nobody wants to know any more.
    wh = 1010
    while True:
        await charger.counts(wh)
        wh += 1
        await asyncio.sleep(0.2)


key = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
print(key.hex(), flush=True)
url, password = sys.stdin.readline().split()
asyncio.run(life(url, password))
