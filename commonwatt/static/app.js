// Replaces a section of the page when the server sends a newer one. Without this script the page is
// complete as of the moment it was loaded.
"use strict";
const link = document.getElementById("link");
const opened = (root) => [...root.querySelectorAll("details")].map((d) => d.open);

function replace(event) {
  const section = document.getElementById(event.type);
  if (!section) return;
  const open = opened(section);
  section.innerHTML = event.data;
  section.querySelectorAll("details").forEach((d, i) => { d.open = open[i] === true; });
}

function show(text, live) {
  link.textContent = text;
  link.classList.toggle("off", !live);
}

if (document.getElementById("headline") && !new URLSearchParams(location.search).has("live")) {
  const source = new EventSource("/events");
  for (const section of document.querySelectorAll("section[id]")) {
    source.addEventListener(section.id, replace);
  }
  source.onopen = () => show("live", true);
  source.onerror = () => {
    const ended = source.readyState === EventSource.CLOSED;
    show(ended ? "connection lost, reload the page" : "connection lost, trying again", false);
  };
}
