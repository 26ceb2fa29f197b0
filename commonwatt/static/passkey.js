// Adds a passkey to the account that is signed in, or signs in with one. Links work without this script.
"use strict";
const said = document.getElementById("passkey-said");
const form = document.querySelector("form[data-passkey]");
const known = window.PublicKeyCredential && PublicKeyCredential.parseCreationOptionsFromJSON;

async function ask(path, text) {
  const headers = { "content-type": "application/json" };
  if (form.dataset.csrf) headers["x-csrf-token"] = form.dataset.csrf;
  const answer = await fetch(path, { method: "POST", headers, body: text });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

async function add() {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(await ask("/account/passkeys/begin", ""));
  const credential = await navigator.credentials.create({ publicKey });
  return ask("/account/passkeys", JSON.stringify({ name: form.elements.name.value, credential }));
}

async function enter() {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(await ask("/sign-in/passkey/begin", ""));
  const credential = await navigator.credentials.get({ publicKey });
  return ask("/sign-in/passkey", JSON.stringify(credential));
}

function wrong(error) {
  if (error.name === "InvalidStateError") return said.dataset.known;
  return error instanceof DOMException ? said.dataset.ended : error.message;
}

form.hidden = !known;
if (!known) said.textContent = said.dataset.unable;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.textContent = "";
  try {
    location.assign((await (form.dataset.passkey === "add" ? add() : enter())).to);
  } catch (error) {
    said.textContent = wrong(error);
  }
});
