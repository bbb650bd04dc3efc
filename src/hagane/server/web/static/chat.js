// The chat: asks, shows the answer as it comes, keeps the list and the panel. Text of documents and models is only ever
// set as text; HTML comes from the server, where it was escaped.
"use strict";

const chat = document.querySelector("[data-chat]");
const thread = chat.querySelector("[data-thread]");
const composer = chat.querySelector("[data-composer]");
const field = composer.querySelector("textarea");
const words = chat.dataset;
const HAS_KEYS = matchMedia("(hover: hover)").matches; // on a phone the focus would bring up the keyboard
let running = null; // the AbortController of the answer that is being written

const say = (text) => { chat.querySelector("[data-status]").textContent = text; };

function make(tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

function fromServer(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.querySelector(".turn");
}

function setBusy(busy) {
  composer.querySelector("[data-send]").hidden = busy;
  composer.querySelector("[data-stop]").hidden = !busy;
  if (!busy && HAS_KEYS) field.focus({ preventScroll: true });
}

function pending(question) {
  const turn = make("article", "turn");
  turn.dataset.question = question;
  const asked = make("h2", "asked", question);
  asked.prepend(make("span", "sr-only", words.you));
  const answer = make("div", "answer writing");
  answer.append(make("span", "faint", words.waiting));
  turn.append(asked, answer);
  return { turn, answer };
}

// One JSON value per line, as they arrive.
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    held += value;
    const whole = held.split("\n");
    held = whole.pop();
    for (const line of whole) if (line) yield JSON.parse(line);
  }
}

async function open(question, retry, signal) {
  const id = words.conversation;
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": hagane.csrf(), Accept: "application/x-ndjson" };
  const post = (address, body) => fetch(address, { method: "POST", headers, body: JSON.stringify(body), signal, credentials: "same-origin" });
  let response = await post(id ? `/api/conversations/${id}/turns` : "/api/conversations", id && retry ? { question, retry } : { question });
  if (retry && response.status === 409) response = await post(`/api/conversations/${id}/turns`, { question });
  if (id && response.status === 404 && !thread.querySelector("[data-turn]")) { // its first answer was stopped before it was kept
    words.conversation = "";
    response = await post("/api/conversations", { question });
  }
  if (!response.ok) throw new Error(await hagane.explain(response));
  return response;
}

function kept(turn, piece) {
  const finished = fromServer(piece.html);
  turn.replaceWith(finished);
  htmx.process(finished);
  finished.scrollIntoView({ block: "start" });
  say(words.done + " " + (finished.querySelector("[data-answer], .abstained-why")?.textContent ?? ""));
  const id = piece.turn.conversation;
  if (location.pathname !== `/c/${id}`) history.replaceState(null, "", `/c/${id}`);
  words.conversation = id;
  listAgain();
}

// An answer that ended early: what was shown stays, with a way to ask again.
function cutOff(turn, answer, why) {
  answer.classList.remove("writing");
  answer.querySelector(".faint")?.remove();
  turn.append(make("p", "broken", why));
  const again = make("button", "button button-small", words.retry);
  again.type = "button";
  again.dataset.retry = "";
  turn.append(again);
  say(why);
}

async function ask(question, { retry = "", instead = null } = {}) {
  if (running || !question.trim()) return;
  running = new AbortController();
  setBusy(true);
  say(words.waiting);
  chat.querySelector("[data-welcome]")?.remove();
  chat.querySelector("[data-title]").className = "sr-only";
  const { turn, answer } = pending(question);
  if (instead) instead.replaceWith(turn);
  else thread.append(turn);
  turn.scrollIntoView({ block: "start" });
  let begun = false;
  try {
    for await (const piece of lines(await open(question, retry, running.signal))) {
      if (piece.event === "begun") {
        words.conversation = piece.conversation;
        turn.dataset.turn = piece.turn;
      } else if (piece.event === "text") {
        if (!begun) answer.replaceChildren();
        begun = true;
        answer.append(piece.text);
      } else if (piece.event === "turn") {
        kept(turn, piece);
        return;
      } else throw new Error(`${words.broken} (${piece.error.message})`);
    }
    throw new Error(words.broken);
  } catch (error) {
    cutOff(turn, answer, error.name === "AbortError" ? words.stopped : error.message || words.broken);
    if (begun) listAgain();
  } finally {
    running = null;
    setBusy(false);
  }
}

function listAgain() {
  const search = document.querySelector(".talks input");
  htmx.ajax("GET", "/parts/conversations", { target: "#talks", values: { search: search.value, open: words.conversation } });
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  const question = field.value;
  field.value = "";
  ask(question);
});

field.addEventListener("keydown", (event) => {
  // Enter that ends a conversion of kana is not meant for us.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  composer.requestSubmit();
});

composer.querySelector("[data-stop]").addEventListener("click", () => running?.abort());

// --- what a turn offers

async function copy(turn) {
  const answer = turn.querySelector("[data-answer]") ?? turn.querySelector(".abstained-why");
  const marks = [...answer.querySelectorAll(".mark")];
  for (const mark of marks) mark.textContent = `[${mark.textContent}]`;
  const sources = [...turn.querySelectorAll(".sources:not(.nearest) .source-link")].map((link) => `[${link.textContent.trim().replace(/\s+/g, " ").replace(" ", "] ")}`);
  const text = [answer.innerText.trim(), ...(sources.length ? ["", words.sources, ...sources] : [])].join("\n");
  for (const mark of marks) mark.textContent = mark.textContent.slice(1, -1);
  await navigator.clipboard.writeText(text);
  hagane.toast(words.copied);
}

async function opinion(turn, button) {
  const takesBack = button.getAttribute("aria-pressed") === "true";
  const address = `/api/turns/${turn.dataset.turn}/feedback`;
  const response = await (takesBack ? hagane.send("DELETE", address) : hagane.send("POST", address, { kind: button.dataset.opinion }));
  const { feedback } = await response.json();
  for (const one of turn.querySelectorAll("[data-opinion]")) one.setAttribute("aria-pressed", String(feedback.includes(one.dataset.opinion)));
  hagane.toast(takesBack ? words.takenBack : words.thanks);
}

async function rightAnswer(turn) {
  const form = await asked("right");
  if (!form) return;
  await hagane.send("POST", `/api/turns/${turn.dataset.turn}/right-answer`, { text: form.get("text") });
  hagane.toast(words.noted);
}

async function wrongSource(turn, button) {
  await hagane.send("POST", `/api/turns/${turn.dataset.turn}/feedback`, { kind: "wrong_source", source: Number(button.dataset.wrong) });
  button.disabled = true;
  hagane.toast(words.noted);
}

// A dialog's form once it was agreed to, else null.
function asked(name, values = {}) {
  const dialog = document.querySelector(`[data-dialog=${name}]`);
  const form = dialog.querySelector("form");
  form.reset();
  for (const [key, value] of Object.entries(values)) form.elements[key].value = value;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? new FormData(form) : null), { once: true });
  });
}

async function rename(button) {
  const form = await asked("rename", { title: button.dataset.title });
  if (!form) return;
  const talk = await (await hagane.send("PATCH", `/api/conversations/${button.dataset.rename}`, { title: form.get("title") })).json();
  if (talk.id === words.conversation) chat.querySelector("[data-title]").textContent = talk.title;
  listAgain();
}

async function remove(button) {
  if (!(await asked("delete"))) return;
  await hagane.send("DELETE", `/api/conversations/${button.dataset.delete}`);
  if (button.dataset.delete === words.conversation) location.assign("/");
  else listAgain();
}

const ACTS = [
  ["button[data-copy]", (button) => copy(button.closest(".turn"))],
  ["button[data-retry]", (button) => {
    const turn = button.closest(".turn");
    const isLast = turn === thread.lastElementChild;
    return ask(turn.dataset.question, isLast ? { retry: turn.dataset.turn, instead: turn } : {});
  }],
  ["button[data-opinion]", (button) => opinion(button.closest(".turn"), button)],
  ["button[data-right]", (button) => rightAnswer(button.closest(".turn"))],
  ["button[data-wrong]", (button) => wrongSource(button.closest(".turn"), button)],
  ["button[data-suggestion]", (button) => ask(button.textContent)],
  ["button[data-rename]", rename],
  ["button[data-delete]", remove],
];

document.addEventListener("click", (event) => {
  for (const [which, act] of ACTS) {
    const button = event.target.closest(which);
    if (button) Promise.resolve(act(button)).catch((error) => hagane.toast(error.message));
  }
});

// --- the panel

const panel = document.querySelector("[data-viewer]");
let openedBy = null;

function closePanel() {
  if (panel.hidden) return;
  panel.hidden = true;
  panel.querySelector("[data-viewer-body]").replaceChildren();
  document.querySelector("[data-shown]")?.removeAttribute("data-shown");
  openedBy?.focus();
}

document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target?.id !== "viewer-body" || !event.detail.shouldSwap) return;
  const link = event.detail.requestConfig.elt;
  panel.hidden = false;
  if (link.matches("[data-source]")) {
    document.querySelector("[data-shown]")?.removeAttribute("data-shown");
    link.setAttribute("data-shown", "");
    openedBy = link;
  }
});

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target.id === "viewer-body") panel.querySelector("[data-viewer-title]")?.focus({ preventScroll: true });
});

panel.querySelector("[data-viewer-close]").addEventListener("click", closePanel);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]")) closePanel();
});

if (HAS_KEYS) field.focus({ preventScroll: true });
