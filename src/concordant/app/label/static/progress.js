// Estimating reliability takes seconds with many votes, so it is asked for.

import { send } from "/web/api.js";

const button = document.getElementById("fit");
const said = document.getElementById("fitted");

button.addEventListener("click", async () => {
  button.disabled = true;
  said.textContent = "Estimating …";
  try {
    await send("POST", button.dataset.api);
    location.reload();
  } catch (error) {
    said.textContent = error.message;
    button.disabled = false;
  }
});
