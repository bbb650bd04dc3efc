// What every page does: the CSRF token on htmx requests, the menu on a phone, short messages, questions before deletion.
"use strict";

const hagane = {
  csrf: () => document.querySelector("meta[name=csrf]").content,

  // A short message that a screen reader reads out, too.
  toast(text) {
    const box = document.createElement("p");
    box.className = "toast";
    box.textContent = text;
    document.querySelector("[data-toasts]").append(box);
    setTimeout(() => box.remove(), 6000);
  },

  // What a status means, in the reader's language, and the error's own words.
  async explain(response) {
    const general = JSON.parse(document.body.dataset.faults)[response.status] ?? document.body.dataset.failed;
    try {
      const { error } = await response.json();
      return `${general} (${error.hint ? `${error.message}: ${error.hint}` : error.message})`;
    } catch {
      return general;
    }
  },

  // A request of the page's own: JSON in, the Response out; throws with a sentence for people.
  async send(method, address, body) {
    const headers = { "X-CSRF-Token": hagane.csrf(), Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(address, { method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body) });
    if (!response.ok) throw new Error(await hagane.explain(response));
    return response;
  },
};
window.hagane = hagane;

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = hagane.csrf();
});

document.addEventListener("htmx:responseError", (event) => {
  let text = document.body.dataset.failed;
  try {
    const { error } = JSON.parse(event.detail.xhr.responseText);
    text = error.hint ? `${error.message} ${error.hint}` : error.message;
  } catch { /* a page, not an error of ours */ }
  hagane.toast(text);
});

document.addEventListener("htmx:sendError", () => hagane.toast(document.body.dataset.failed));

function showMenu(open) {
  const side = document.getElementById("side");
  if (!side) return;
  const button = document.querySelector("[data-menu]");
  side.toggleAttribute("data-open", open);
  document.querySelector("[data-veil]").hidden = !open;
  button.setAttribute("aria-expanded", String(open));
  if (open) side.querySelector("a, button").focus();
  else if (side.contains(document.activeElement)) button.focus();
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-menu]")) showMenu(!document.getElementById("side").hasAttribute("data-open"));
  if (event.target.closest("[data-veil]")) showMenu(false);
  const link = event.target.closest(".switches a"); // back to where the reader is now: the chat changes the address without loading
  if (link) {
    const address = new URL(link.href);
    address.searchParams.set("to", location.pathname + location.search);
    link.href = address.href;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.getElementById("side")?.hasAttribute("data-open")) showMenu(false);
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});
