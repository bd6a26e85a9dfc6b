// What somebody reports of a turn: which answer is worse, how bad it is, what kind of attack it was.

import { button, make } from "/web/dom.js";

const SIDES = [["A", "A is worse"], ["B", "B is worse"]];
const BOTH = [["both_bad", "Both are bad"], ["both_fine", "Both are fine"]];
const SEVERITIES = [...document.getElementById("severities").content.children].map((one) => one.textContent);

/** Radio buttons of one turn; `changed` is called with the value that is chosen. */
function choices(kind, turn, title, values, changed) {
  return make("fieldset", { className: `choices ${kind}` }, make("legend", { textContent: title }),
    ...values.map(([value, ...text]) => make("label", {},
      make("input", { type: "radio", name: `${kind}-${turn}`, value, onchange: () => changed(value) }), ...text)));
}

export class ReportPanel {
  /** `turn` as the server gave it; `judge` is called when a side is chosen; `hand` is given the report and resolves once
   *  this machine has kept it. */
  constructor(turn, { judge, hand }) {
    this.turn = turn;
    this.judge = judge;
    this.hand = hand;
    this.element = make("section", { className: "report", "aria-label": `Report of turn ${turn.number}` });
    if (turn.report) this.close(turn.report);
    else this.open();
  }

  open() {
    this.said = null;
    const { number } = this.turn;
    this.family = make("input", { id: `family-${number}`, maxLength: 40, autocomplete: "off", placeholder: "such as few-shot, or your own word" });
    this.family.setAttribute("list", "families");
    this.note = make("textarea", { id: `note-${number}`, rows: 2, maxLength: 2000 });
    const severity = choices("severity", number, "How bad is it?", SEVERITIES.map((text, n) => {
      const [word, meaning] = text.split(": ");
      return [String(n), make("span", { className: "number", textContent: n }), make("span", {}, make("strong", { textContent: word }), `: ${meaning}`)];
    }), () => {});
    this.details = make("div", { className: "details", hidden: true }, severity,
      make("div", { className: "fields" },
        make("div", {}, make("label", { for: `family-${number}`, textContent: "Kind of attack" }), this.family),
        make("div", {}, make("label", { for: `note-${number}`, textContent: "What went wrong (if you like)" }), this.note)));
    this.button = button("Report", "Hand this report in", () => this.handIn(), { hidden: true });
    const [first, second] = this.turn.replies;
    const alike = first.html === second.html; // neither can be worse
    this.missing = make("p", { className: "said missing", role: "alert", hidden: true });
    this.element.replaceChildren(
      choices("judged", number, alike ? "Both say the same. How is it?" : "Which one is worse?", alike ? BOTH : [...SIDES, ...BOTH], (value) => this.judged(value)),
      this.details, this.missing, make("p", { className: "actions" }, this.button));
  }

  judged(value) {
    this.said = value;
    this.details.hidden = value === "both_fine";
    this.button.hidden = false;
    const place = "AB".indexOf(value);
    if (place >= 0) this.judge(this.turn.replies[place].id);
    this.button.scrollIntoView({ block: "nearest" });
  }

  async handIn() {
    const fine = this.said === "both_fine";
    const severity = this.element.querySelector(".severity input:checked");
    if (!fine && !severity) {
      this.lacks("Say how bad it is, 0 to 4.");
      return this.element.querySelector(".severity input").focus();
    }
    const worse = this.turn.replies["AB".indexOf(this.said)]?.id ?? null;
    const said = {
      judged: worse ? "worse" : this.said, worse,
      severity: fine ? 0 : Number(severity.value),
      family: fine ? "" : this.family.value.trim(), note: fine ? "" : this.note.value.trim(),
    };
    this.button.disabled = true;
    try {
      await this.hand(said);
    } catch {
      this.button.disabled = false;
      return this.lacks("This machine could not keep the report. Make room on its disk, or open the page anew, and report it again.");
    }
    return this.close(said);
  }

  lacks(text) {
    this.missing.textContent = text;
    this.missing.hidden = false;
  }

  /** Say in a line what was reported; it can be changed. */
  close(said) {
    const letter = "AB"[this.turn.replies.findIndex((one) => one.id === said.worse)];
    const words = said.judged === "worse" ? `${letter} is worse` : said.judged === "both_bad" ? "both are bad" : "both are fine";
    const parts = [words];
    if (said.judged !== "both_fine") parts.push(`severity ${said.severity}, ${SEVERITIES[said.severity].split(": ")[0]}`);
    if (said.family) parts.push(said.family);
    this.element.replaceChildren(make("p", { className: "reported" }, make("span", { textContent: `Reported: ${parts.join(" · ")}` }),
      button("Change", "Report this turn anew", () => { this.open(); this.element.querySelector("input").focus(); }, { className: "plain" })));
  }
}
