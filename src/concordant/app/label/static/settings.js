// What holds for a project. An empty number leaves it as it is.

import { send } from "/web/api.js";

const form = document.getElementById("settings");
const said = document.getElementById("kept");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = { instructions: form.elements.instructions.value };
  for (const name of ["votes", "most_votes", "known_every"]) {
    if (form.elements[name].value !== "") asked[name] = Number(form.elements[name].value);
  }
  said.textContent = "Keeping …";
  try {
    await send("PUT", form.dataset.api, asked);
    said.textContent = "Kept. It holds from now on.";
  } catch (error) {
    said.textContent = error.message;
  }
});
