// Checks receipts in this browser alone: nothing is sent anywhere, and nothing but the file and the operator's key is
// needed. Written from settlement/FORMAT.md and domain/FORMAT.md. This part: bytes, their texts, and hashes.
"use strict";
class Invalid extends Error {}
/** Stops with a reason where something does not hold. */
function need(holds, why) { if (!holds) throw new Invalid(why); }

const utf8 = (text) => new TextEncoder().encode(text);
const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function unhex(text, length) {
  need(typeof text === "string" && text.length === 2 * length && /^[0-9a-f]*$/.test(text), `not ${length} bytes in hex`);
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

function unbase64(text) {
  let raw = null;
  try { raw = atob(text); } catch { /* It is told below. */ }
  need(raw !== null && btoa(raw) === text, "not base64, or written another way");
  return Uint8Array.from(raw, (c) => c.charCodeAt(0));
}

function join(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

/** An integer in so many bytes, big-endian. */
function bigEndian(value, length) {
  let rest = BigInt.asUintN(8 * length, BigInt(value));
  const bytes = new Uint8Array(length);
  for (let i = length - 1; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 255n);
  return bytes;
}

const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));

/** D(word, part, …): SHA-256 over all, each behind its length. */
const digest = (word, ...parts) => sha256(...[utf8(word), ...parts].flatMap((part) => [bigEndian(part.length, 8), part]));

/** The first half of an id says when and what, the second is a digest. */
async function timedId(startS, tag, word, ...parts) {
  const end = (await digest(word, ...parts)).slice(0, 8);
  return hex(join(bigEndian(startS * 1000n, 6), bigEndian(tag, 2), end));
}

const fits64 = (value) => BigInt.asIntN(64, value) === value;
/** An amount, which must fit 64 bits. */
function exact(value) { need(fits64(value), "an amount does not fit 64 bits"); return value; }
const floorDivide = (a, b) => a / b - (a % b < 0n ? 1n : 0n);
const seconds = (ms) => floorDivide(ms, 1000n);
const ID = /^[a-z0-9][a-z0-9._-]{0,63}$/;
