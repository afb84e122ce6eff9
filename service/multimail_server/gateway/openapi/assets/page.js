// The page works without this; with it one can search, follow links into closed entries, and try calls.
"use strict";

const search = document.querySelector("#search");
const key = document.querySelector("#key");
const searched = [...document.querySelectorAll("[data-words]")];
const MAX_SHOWN = 200000;

function showMatches() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const each of searched) {
    const words = each.dataset.words.toLowerCase();
    each.hidden = !wanted.every((word) => words.includes(word));
  }
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const entry = target?.closest("details");
  if (!entry) return;
  entry.open = true;
  entry.hidden = false;
  target.scrollIntoView();
}

function requestOf(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  const headers = { accept: "application/json, application/x-ndjson", authorization: `Bearer ${key.value.trim()}` };
  for (const input of form.querySelectorAll("[data-in]")) {
    const value = input.value.trim();
    if (!value) continue;
    if (input.dataset.in === "path") path = path.replace(`{${input.name}}`, encodeURIComponent(value));
    if (input.dataset.in === "query") query.append(input.name, value);
    if (input.dataset.in === "header") headers[input.name] = value;
    if (input.dataset.in === "free") new URLSearchParams(value).forEach((each, name) => query.append(name, each));
  }
  const text = form.querySelector("textarea")?.value;
  if (text !== undefined) headers["content-type"] = form.dataset.kind;
  return [path + (query.size ? `?${query}` : ""), { method: form.dataset.verb, headers, body: text }];
}

async function show(response, output) {
  const id = response.headers.get("x-request-id");
  output.textContent = `${response.status} ${response.statusText}${id ? `\nx-request-id: ${id}` : ""}\n\n`;
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    output.textContent += JSON.stringify(await response.json(), null, 2);
    return;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    output.textContent = (output.textContent + part.value).slice(-MAX_SHOWN);
  }
}

async function send(event) {
  event.preventDefault();
  const form = event.target;
  const output = form.querySelector("output");
  const stop = form.querySelector(".stop");
  if (!key.value.trim()) {
    output.textContent = "Give an API key first, in the field beside the search.";
    key.focus();
    return;
  }
  const aborting = new AbortController();
  stop.onclick = () => aborting.abort();
  stop.hidden = false;
  output.textContent = "…";
  try {
    const [path, options] = requestOf(form);
    await show(await fetch(path, { ...options, signal: aborting.signal }), output);
  } catch (error) {
    output.textContent += aborting.signal.aborted ? "\nstopped" : `\n${error.message}`;
  } finally {
    stop.hidden = true;
  }
}

search.addEventListener("input", showMatches);
addEventListener("hashchange", openTarget);
for (const form of document.querySelectorAll(".attempt")) {
  form.hidden = false;
  form.addEventListener("submit", send);
}
search.hidden = key.hidden = false;
openTarget();
