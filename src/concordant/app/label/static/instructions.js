// What a lead has written for the labelers of a project: shown before the first question, and whenever it is asked for.

import { showOver } from "./dialogs.js";

const dialog = document.getElementById("instructions");

/** Show the instructions; resolves when they have been read. */
export function showInstructions() {
  if (!dialog || dialog.open) return Promise.resolve();
  showOver(dialog);
  dialog.scrollTop = 0;
  document.getElementById("instructions-title").focus();
  return new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
}

/** Show them once on this machine, and once more when the lead has written something else. */
export async function firstInstructions(project) {
  const name = `concordant-instructions-${project}`;
  let seen = null;
  try { seen = localStorage.getItem(name); } catch { /* storage is closed to this page: show them each time */ }
  if (!dialog || seen === dialog.dataset.edition) return;
  await showInstructions();
  dialog.querySelector("button").textContent = "Close";
  try { localStorage.setItem(name, dialog.dataset.edition); } catch { /* as above */ }
}

// The title has the focus, so that a long text is read from its beginning; Enter begins from there too.
dialog?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.repeat && !event.target.closest("a, button")) { event.preventDefault(); dialog.close(); }
});

document.getElementById("read-instructions")?.addEventListener("click", showInstructions);
