// A lead takes a known answer back.

import { send } from "/web/api.js";

for (const button of document.querySelectorAll("[data-withdraw]")) {
  const said = button.nextElementSibling;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await send("DELETE", button.dataset.withdraw);
      said.textContent = "Withdrawn: it is asked no more, and counts no more";
    } catch (error) {
      said.textContent = error.message;
      button.disabled = false;
    }
  });
}
