// The doors: a one-time secret from the address's fragment, which no server and no log ever sees; the second factor.
"use strict";

const box = document.querySelector("[data-secret] input");
if (box && location.hash.length > 1) {
  box.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname); // gone from the address bar and the history
  document.querySelector("[data-secret]").hidden = true;
}

const form = document.querySelector("form[data-door]");
if (form) {
  const said = form.querySelector("[data-problem]");
  const code = form.querySelector("[data-code]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    said.hidden = true;
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const body = new URLSearchParams(new FormData(form));
      const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" }, credentials: "same-origin" });
      const answer = await response.json();
      if (response.ok) {
        location.assign(answer.to);
        return;
      }
      const more = answer.error.code === "second_factor"; // a question, not a fault
      said.classList.toggle("notice-bad", !more);
      if (more) {
        code.hidden = false;
        code.querySelector("input").focus();
      } else if (!code.hidden) {
        code.querySelector("input").value = "";
      }
      said.textContent = answer.error.message;
      said.hidden = false;
    } catch {
      said.textContent = document.body.dataset.failed;
      said.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}
