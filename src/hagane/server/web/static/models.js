// The form that checks a train.yaml before it is started; pages that renew themselves wait while a table in them is open.
"use strict";

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.querySelector("details[open]")) event.preventDefault();
});

(() => {
  const form = document.querySelector("[data-train]");
  if (!form) return;
  const text = form.querySelector("textarea");
  const go = form.querySelector("[data-go]");
  const planned = form.querySelector("[data-planned]");
  const said = form.querySelector("[data-said]");
  let checked = "";

  text.addEventListener("input", () => { go.disabled = text.value !== checked || !checked; });

  function time(hours) {
    const seconds = Math.round(hours * 3600);
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
    return `${hours.toLocaleString(undefined, { maximumFractionDigits: 1 })} h`;
  }

  function row(offer, name) {
    const line = document.createElement("tr");
    const gigabytes = `${(offer.memory / 1e9).toFixed(1)} GB`;
    const cells = offer.fits
      ? [name, time(offer.hours), Math.round(offer.jpy).toLocaleString(), offer.usd.toFixed(2), gigabytes]
      : [name, planned.dataset.noFit, "–", "–", gigabytes];
    cells.forEach((value, n) => {
      const cell = document.createElement("td");
      cell.textContent = value;
      if (n) cell.className = "number";
      line.append(cell);
    });
    return line;
  }

  function show(plan) {
    const stages = planned.querySelector("[data-stages]");
    stages.replaceChildren();
    for (const stage of plan.stages) {
      const table = planned.querySelector("[data-table]").content.cloneNode(true);
      table.querySelector("h4").textContent = `${stage.stage}: ${stage.n_params.toLocaleString()} / ${stage.steps.toLocaleString()}`;
      const body = table.querySelector("tbody");
      body.append(row(stage.here, planned.dataset.here));
      for (const offer of stage.gpus) body.append(row(offer, offer.n_gpus > 1 ? `${offer.n_gpus} x ${offer.name}` : offer.name));
      stages.append(table);
    }
    planned.querySelector("[data-plan-text]").textContent = plan.text;
    planned.querySelector("[data-fits]").hidden = !plan.fits;
    const short = planned.querySelector("[data-short]");
    short.hidden = plan.fits;
    short.textContent = [plan.why, plan.hint].filter(Boolean).join(". ");
    planned.hidden = false;
    planned.focus();
  }

  form.querySelector("[data-plan]").addEventListener("click", async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    said.hidden = true;
    const given = text.value;
    try {
      const plan = await (await hagane.send("POST", form.dataset.check, { text: given })).json();
      show(plan);
      checked = plan.fits ? given : "";
      go.disabled = !plan.fits || text.value !== given;
    } catch (error) {
      planned.hidden = true;
      said.querySelector("p").textContent = error.message;
      said.hidden = false;
      said.focus();
    } finally {
      button.disabled = false;
    }
  });
})();
