// Small things of the other pages.
"use strict";

// Forms that speak to the API: <form data-send="POST" data-to="/api/..." data-done="/documents">.
// Fields become JSON; fieldset[data-label] becomes one label or clearance; [data-many] a list.
// data-done: where to go then, "stay" (show what came back), or nothing (load the page again).

// An error in the reader's language, and the server's own words behind it.
function inWords(error) {
  const place = document.querySelector("[data-problems]");
  const known = place ? JSON.parse(place.dataset.problems)[error.code] : undefined;
  const own = [error.message, error.hint].filter(Boolean).join(". ");
  return known ? `${known} (${own})` : own;
}

hagane.explain = async (response) => {
  try {
    return inWords((await response.json()).error);
  } catch {
    return document.body.dataset.failed;
  }
};

function labelOf(box) {
  const level = box.querySelector("[data-level]").value;
  const all = box.querySelector("[data-all]");
  if (all && all.checked) return `${level}:*`;
  const names = [...box.querySelectorAll("[data-compartment]:checked")].map((one) => one.value);
  return names.length ? `${level}:${names.join("+")}` : level;
}

function bodyOf(form) {
  const body = {};
  for (const box of form.querySelectorAll("fieldset[data-label]")) body[box.dataset.label] = labelOf(box);
  for (const box of form.querySelectorAll("fieldset[data-many]")) {
    body[box.dataset.many] = [...box.querySelectorAll("input:checked")].map((one) => one.value);
  }
  for (const field of form.querySelectorAll("input[name], select[name], textarea[name]")) {
    if (field.name === "csrf" || field.closest("fieldset[data-many], fieldset[data-label]")) continue;
    if (field.type === "checkbox") body[field.name] = field.checked;
    else if (field.type === "number") { if (field.value !== "") body[field.name] = Number(field.value); }
    else if (field.value !== "" || field.dataset.empty !== undefined) body[field.name] = field.value;
  }
  return body;
}

function showResult(form, answer) {
  for (const place of document.querySelectorAll(`[data-result="${form.dataset.show}"]`)) {
    for (const slot of place.querySelectorAll("[data-slot]")) {
      const value = answer[slot.dataset.slot];
      if (value === undefined || value === null) continue;
      const text = slot.dataset.link !== undefined ? new URL(value, window.location.href).href : String(value);
      if (slot.matches("input, textarea")) slot.value = text;
      else slot.textContent = text;
    }
    place.hidden = false;
    const first = place.querySelector("input, textarea, [tabindex]");
    if (first) { first.focus(); if (first.select) first.select(); }
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.send || event.defaultPrevented) return;
  event.preventDefault();
  const button = event.submitter || form.querySelector("button[type=submit]");
  if (button) button.disabled = true;
  const said = form.querySelector("[data-said]");
  if (said) said.hidden = true;
  try {
    const body = form.dataset.send === "DELETE" || form.dataset.bare !== undefined ? undefined : bodyOf(form);
    const response = await hagane.send(form.dataset.send, form.dataset.to, body);
    const text = await response.text();
    if (form.dataset.done === "stay") {
      showResult(form, text ? JSON.parse(text) : {});
      if (form.dataset.clear !== undefined) form.reset();
      form.closest("dialog")?.close();
    } else if (form.dataset.done) window.location.assign(form.dataset.done);
    else window.location.reload();
  } catch (error) {
    if (said) { said.querySelector("p").textContent = error.message; said.hidden = false; said.focus(); }
    else hagane.toast(error.message);
  } finally {
    if (button) button.disabled = false;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    hagane.toast(button.dataset.copied);
  } catch { /* the text is selected: Ctrl-C does it */ }
});

// Buttons that open a dialog, and those that close it.
document.addEventListener("click", (event) => {
  const opens = event.target.closest("[data-opens]");
  if (opens) document.getElementById(opens.dataset.opens).showModal();
  const closes = event.target.closest("[data-closes]");
  if (closes) closes.closest("dialog").close();
});

// "All compartments" makes the single ones idle.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) {
    for (const box of event.target.closest("fieldset").querySelectorAll("[data-compartment]")) box.disabled = event.target.checked;
  }
});
