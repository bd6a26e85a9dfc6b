// A lead decides what labelers could not agree on, and which answers are known.

import { send } from "/web/api.js";

function payloadOf(section, button) {
  const { winner, verdict } = button.dataset;
  if (section.dataset.kind === "pairwise") {
    return { type: "pairwise", verdict: verdict ?? "prefer", winner: winner ?? null };
  }
  // The others stay in the order that the labelers gave them.
  const others = JSON.parse(section.dataset.order).map((tier) => tier.filter((id) => id !== winner));
  return { type: "ranking", tiers: [[winner], ...others.filter((tier) => tier.length)] };
}

for (const section of document.querySelectorAll(".dispute")) {
  const said = section.querySelector("[role=status]");
  const known = section.querySelector(".known");
  section.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    try {
      const reason = section.querySelector(".reason").value;
      const path = known?.checked ? section.dataset.known : section.dataset.api;
      await send("POST", path, { payload: payloadOf(section, button), reason });
      for (const one of section.querySelectorAll("button, input")) one.disabled = true;
      const answer = button.closest(".answer");
      answer?.classList.add("chosen");
      const decided = [answer?.querySelector("h3").textContent.trim(), button.textContent.toLowerCase()].filter(Boolean).join(" is ");
      said.textContent = section.dataset.done ?? `Decided: ${decided}${known?.checked ? ", asked of everybody" : ""}`;
    } catch (error) {
      said.textContent = error.message;
    }
  });
}
