// Documents: drag and drop, upload with real progress.
"use strict";

// Upload by drag and drop or by choosing: two files at a time, real progress, and a word for each that did not go.
const AT_ONCE = 2;

function setUp(zone) {
  const list = zone.querySelector("[data-sending]");
  const input = zone.querySelector("input[type=file]");
  const words = zone.dataset;
  const waiting = [];
  let running = 0;
  let depth = 0;

  function row(name) {
    const item = document.createElement("li");
    const head = document.createElement("div");
    head.className = "sending-head";
    const title = document.createElement("span");
    title.className = "sending-name";
    title.textContent = name;
    const state = document.createElement("span");
    state.className = "sending-state";
    state.textContent = words.waits;
    const bar = document.createElement("progress");
    bar.max = 100;
    bar.value = 0;
    bar.setAttribute("aria-label", name);
    head.append(title, state);
    item.append(head, bar);
    list.append(item);
    list.hidden = false;
    return { item, state, bar };
  }

  function say(one, text, tone) {
    one.state.textContent = text;
    one.item.className = tone;
    if (tone) one.bar.remove();
  }

  function offerReplace(one, job) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button button-small";
    button.textContent = words.replace;
    button.addEventListener("click", () => { one.item.remove(); add(job.file, job.name, true); next(); });
    one.item.querySelector(".sending-head").append(button);
  }

  function send(job) {
    const { one, file, name } = job;
    const request = new XMLHttpRequest();
    const query = new URLSearchParams({ name, label: labelOf(zone.querySelector("fieldset[data-label]")), replace: String(job.replace) });
    request.open("POST", `/api/uploads?${query}`);
    request.setRequestHeader("X-CSRF-Token", hagane.csrf());
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      const percent = Math.floor((100 * event.loaded) / event.total);
      one.bar.value = percent;
      one.state.textContent = `${percent}%`;
    });
    request.addEventListener("load", () => {
      if (request.status === 201) {
        say(one, words.sent, "sent");
        refresh();
      } else {
        let text = words.failed;
        try { text = inWords(JSON.parse(request.responseText).error); } catch { /* no error of ours */ }
        say(one, request.status === 409 ? words.exists : text, "not-sent");
        if (request.status === 409) offerReplace(one, job);
      }
    });
    request.addEventListener("error", () => say(one, words.failed, "not-sent"));
    request.addEventListener("loadend", () => { running -= 1; next(); });
    one.state.textContent = "0%";
    request.send(file);
  }

  function next() {
    while (running < AT_ONCE && waiting.length) {
      running += 1;
      send(waiting.shift());
    }
  }

  function add(file, name, replace = false) {
    const one = row(name);
    if (file.size > Number(words.limit) * 1e6) say(one, words.large, "not-sent");
    else waiting.push({ one, file, name, replace });
  }

  async function entriesOf(entry, above) {
    if (entry.name.startsWith(".")) return;
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      add(file, above + entry.name);
    } else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (!some.length) break;
        for (const one of some) await entriesOf(one, `${above}${entry.name}/`);
      }
    }
  }

  zone.addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; zone.classList.add("over"); });
  zone.addEventListener("dragover", (event) => event.preventDefault());
  zone.addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) zone.classList.remove("over"); });
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    depth = 0;
    zone.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    if (entries.length) for (const entry of entries) await entriesOf(entry, "");
    else for (const file of event.dataTransfer.files) add(file, file.name);
    next();
  });
  input.addEventListener("change", () => {
    for (const file of input.files) add(file, file.webkitRelativePath || file.name);
    input.value = "";
    next();
  });
}

function refresh() {
  htmx.ajax("GET", "/documents/reading", { target: "#reading", swap: "outerHTML" });
  lookAgain();
}

function lookAgain() {
  const form = document.getElementById("wish");
  if (form) htmx.trigger(form, "look-again");
}

document.body.addEventListener("shelf-changed", lookAgain);

// A file dropped beside the zone would otherwise open in the window, and the page be gone.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());

for (const zone of document.querySelectorAll("[data-zone]")) setUp(zone);
