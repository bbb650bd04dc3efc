// The source viewer: brings the marked place into sight, in the panel and on its own page.
"use strict";

function showMark(body) {
  const marked = body.querySelector("[data-mark]");
  if (!marked) return;
  marked.scrollIntoView({ block: "center", inline: "nearest" });
}

document.addEventListener("htmx:afterSettle", (event) => {
  const body = event.target.closest?.("[data-viewer-body]");
  if (body) showMark(body);
});

document.addEventListener("DOMContentLoaded", () => {
  for (const body of document.querySelectorAll("main [data-viewer-body]")) showMark(body);
});
