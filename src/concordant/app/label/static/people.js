// Invitations: a link that works once, shown to whoever is to pass it on.

import { send } from "./api.js";

const form = document.getElementById("invitation");
const link = document.getElementById("link");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  link.hidden = false;
  try {
    const asked = { name: form.elements.name.value, role: form.elements.role.value };
    const made = await send("POST", form.dataset.api, asked);
    link.textContent = `Send this to ${made.name}; it works once, for a week:\n${made.link}`;
  } catch (error) {
    link.textContent = error.message;
  }
});
