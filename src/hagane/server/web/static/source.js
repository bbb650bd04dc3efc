// The source viewer: brings the marked place into sight, in the panel and on its own page.
"use strict";

function showMark(body) {
  const left = (element) => element.getBoundingClientRect().left;
  const [marked] = [...body.querySelectorAll("[data-mark]")].sort((a, b) => (a.matches("td") ? left(a) - left(b) : 0));
  if (!marked) return;
  marked.scrollIntoView({ block: "nearest", inline: "nearest" }); // no more than needed: what the source is stays in sight
}

document.addEventListener("htmx:afterSettle", (event) => {
  const body = event.target.closest?.("[data-viewer-body]");
  if (body) showMark(body);
});

document.addEventListener("DOMContentLoaded", () => {
  for (const body of document.querySelectorAll("main [data-viewer-body]")) showMark(body);
});
