// The warning: go on, or leave. Either is said once and remembered with the account.

import { send } from "/web/api.js";

async function say(path) {
  try {
    await send("POST", path);
    location.assign("/");
  } catch (error) {
    document.getElementById("told").textContent = error instanceof TypeError ? "The server cannot be reached: try again in a moment." : error.message;
  }
}

document.getElementById("agree").onclick = () => say("/api/agree");
document.getElementById("leave").onclick = () => say("/api/leave");
