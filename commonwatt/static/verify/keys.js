// How the keys of a receipt came to stand in the place of others, and whether one was revoked.

async function introducerOf(entry, newer, trust) {
  const { message: introduction, signer } = envelope(entry.signed, "introduction");
  const request = await opened(introduction.request, introduction.key, trust.community, "key-request");
  need(same(request.key, introduction.key) && same(request.key, newer.key), "another key is introduced");
  await inLog("introduction", seconds(request.madeAtMs), PUBLIC, entry.signed, entry.place, trust.ledger);
  const isHeld = request.gateway === newer.gateway && request.participant === newer.participant;
  need(isHeld && signer === hex(request.introducer), "it is another holder's, or signed by another key than it names");
  return signer;
}

async function changed([older, olderIndex], [newer, newerIndex], change, trust) {
  const [before, after] = [await keyId(older.key), await keyId(newer.key)];
  const isSame = older.gateway === newer.gateway && older.participant === newer.participant;
  need(isSame && before !== after && olderIndex < newerIndex, `key ${after} does not follow key ${before} of the same holder`);
  if (!change.introduction) return `${before} → ${after}: by the operator alone`;
  const signer = await named("its introduction", () => introducerOf(change.introduction, newer, trust));
  if (signer !== before) return `${before} → ${after}: by ${signer}, which is not shown`;
  await opened(change.introduction.signed, older.key, trust.community, "introduction");
  return `${before} → ${after}: both have signed for that`;
}

async function revoked({ word: entry, reading_before: before }, [record], reading, trust) {
  const word = await opened(entry.signed, trust.operator, trust.community, "revocation");
  await inLog("revocation", seconds(word.fromMs), PUBLIC, entry.signed, entry.place, trust.ledger);
  need(reading && hex(word.key) === (await keyId(record.key)), "the revocation is of another key");
  const message = await opened(reading.signed, record.key, trust.community, "reading");
  const covers = message.sequence >= word.fromSequence || (message.startS + message.lengthS) * 1000n > word.fromMs;
  need(covers || !before, "it is shown without need when the reading came");
  if (!covers) return `revoked (${word.reason}), which the reading is before`;
  if (!before) return `revoked (${word.reason}); that the reading had come before that was said is not shown`;
  const { note, place } = before.checkpoint;
  need(place.index < entry.place.index && before.place.index === reading.place.index, "revoked before the reading came");
  await inLog("checkpoint", 0n, PUBLIC, utf8(note), place, trust.ledger);
  const head = await checkpoint(note, `commonwatt/${trust.community}/readings`, trust.operator);
  await inLog("reading", message.startS, reading.salt, reading.signed, before.place, head);
  return `revoked (${word.reason}), which was said after the reading had come`;
}

async function historyOf(history, own, reading, trust) {
  need(history.before || history.after || history.revocations.length, "its history is empty");
  const told = [];
  for (const [change, isBefore] of [[history.before, true], [history.after, false]]) {
    if (!change) continue;
    const other = [await keyRecord(change.key, trust), change.key.place.index];
    told.push(await (isBefore ? changed(other, own, change, trust) : changed(own, other, change, trust)));
  }
  need(ascending(history.revocations.map(({ word }) => word.place.index)), "its revocations are not in the order of the log");
  for (const revocation of history.revocations) told.push(await revoked(revocation, own, reading, trust));
  return told;
}

async function keyChanges(receipt, trust) {
  const told = [];
  for (const [who, reading] of [["participant", null], ["gateway", receipt.reading]]) {
    const history = receipt[`${who}_key_history`];
    if (!history) continue;
    need(trust[who], "a gateway's key has a history, and is not there");
    const own = [trust[who], receipt[`${who}_key`].place.index];
    told.push(...(await named(who, () => historyOf(history, own, reading, trust))));
  }
  return told.join("; ") || "none is shown";
}
