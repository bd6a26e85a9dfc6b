// A file of questions goes to the server as it is; what became of it is told row by row.

import { send } from "/web/api.js";
import { make } from "/web/dom.js";

const form = document.getElementById("ask");
const outcome = document.getElementById("outcome");
const told = document.getElementById("told");

const many = (n, one, more) => `${n.toLocaleString("en")} ${n === 1 ? one : more}`;

function table(found) {
  const head = make("tr", {}, ...["Where", "What", "Said of it"].map((text) => make("th", { scope: "col", textContent: text })));
  const rows = found.problems.map((one) => make("tr", {}, make("th", { scope: "row", textContent: one.where }),
    make("td", { textContent: one.dropped ? one.kind : `${one.kind} (kept)` }), make("td", { textContent: one.detail })));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Rows with something about them" },
    make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

function account(found) {
  const known = found.known ? `, and ${many(found.known, "has", "have")} a known answer` : "";
  const before = found.repeated ? ` ${many(found.repeated, "was", "were")} there before.` : "";
  const parts = [make("p", { textContent: `${many(found.rows, "row", "rows")} read: ${many(found.tasks, "question is", "questions are")} asked${known}.${before}` })];
  if (found.unused.length) parts.push(make("p", { className: "quiet", textContent: `Columns that are not used: ${found.unused.join(", ")}` }));
  if (found.problems.length) parts.push(make("h3", { textContent: `${many(found.dropped, "row was", "rows were")} left out` }), table(found));
  if (found.more_problems) parts.push(make("p", { className: "quiet", textContent: `and ${found.more_problems.toLocaleString("en")} more` }));
  const ways = [["Projects", "/"], ["Instructions and settings", `/settings/${encodeURIComponent(found.project)}`]];
  if (found.known) ways.push(["Known answers", `/known/${encodeURIComponent(found.project)}`]);
  if (found.tasks + found.repeated) parts.push(make("p", { className: "actions" }, ...ways.map(([text, href]) => make("a", { textContent: text, href }))));
  return parts;
}

function query() {
  const asked = new URLSearchParams({ file: form.elements.file.files[0].name.slice(-200) });
  for (const name of ["project", "purpose", "kind", "votes", "most_votes"]) {
    if (form.elements[name].value !== "") asked.set(name, form.elements[name].value);
  }
  return asked;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  const file = form.elements.file.files[0];
  button.disabled = true;
  outcome.hidden = false;
  told.replaceChildren(make("p", { className: "quiet", textContent: "Reading …" }));
  try {
    if (file.size > Number(form.dataset.megabytes) * 2 ** 20) throw new Error(`This file is larger than ${form.dataset.megabytes} MB: send it in parts`);
    told.replaceChildren(...account(await send("POST", `${form.dataset.api}?${query()}`, file)));
  } catch (error) {
    told.replaceChildren(make("pre", { className: "said", role: "alert", textContent: error.message }));
  } finally {
    button.disabled = false;
    document.getElementById("outcome-title").focus();
  }
});
