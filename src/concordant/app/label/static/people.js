// Invitations: a link that works once, shown to whoever is to pass it on.

import { send } from "/web/api.js";
import { make } from "/web/dom.js";

const form = document.getElementById("invitation");
const link = document.getElementById("link");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  link.hidden = false;
  try {
    const asked = { name: form.elements.name.value, role: form.elements.role.value };
    const made = await send("POST", form.dataset.api, asked);
    const field = make("input", { id: "sent", value: made.link, readOnly: true, onfocus: () => field.select() });
    link.className = "stack prose";
    link.replaceChildren(make("label", { for: "sent", textContent: `Send this link to ${made.name}. It works once, within a week.` }), field);
  } catch (error) {
    link.className = "said";
    link.replaceChildren(error.message);
  }
});
