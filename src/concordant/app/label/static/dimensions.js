// A pair by dimension: for each one which answer is better, and by how much. Rows of radio buttons, -3 to 3.

import { button, make } from "/web/dom.js";

const WORDS = ["", "a little better", "better", "much better"];
const STEPS = [3, 2, 1, 0, -1, -2, -3]; // from much better on the left to much better on the right

/** What is meant by a step, in words. */
function inWords(step) {
  return step === 0 ? "both are as good" : `${step > 0 ? "A" : "B"} is ${WORDS[Math.abs(step)]}`;
}

export class Dimensions {
  constructor(question, changed) {
    this.question = question;
    this.changed = changed;
    this.answers = {}; // by dimension, positive where the answer on the left is better
    this.rows = question.asked === "never" ? [] : question.dimensions.map((one, at) => this.row(one, at));
    this.element = make("section", { className: "dimensions", "aria-label": "By dimension", hidden: question.asked !== "always" },
      ...this.rows.map((row) => row.element));
    this.element.addEventListener("keydown", (event) => this.walk(event));
  }

  row({ name, meaning }, at) {
    const inputs = STEPS.map((step) => make("input", { type: "radio", name: `dimension-${at}`, value: String(step),
      title: `${name}: ${inWords(step)}`, "aria-label": inWords(step), onchange: () => this.say(name, step) }));
    const element = make("fieldset", {},
      make("legend", { textContent: name }),
      make("span", { className: "side", textContent: "A", "aria-hidden": "true" }), ...inputs,
      make("span", { className: "side", textContent: "B", "aria-hidden": "true" }),
      make("span", { className: "meaning", textContent: meaning }));
    return { name, inputs, element };
  }

  buttons() {
    return this.rows.length && this.element.hidden
      ? [button("By dimension", "Say more, by dimension (d)", () => this.open(), { className: "quiet-button" })] : [];
  }

  /** Show the rows and go to the first that is not answered; from the last one on back to the verdict. */
  open() {
    if (!this.rows.length) return false;
    this.element.hidden = false;
    this.focus(Math.max(0, this.rows.findIndex((row) => !(row.name in this.answers))));
    return true;
  }

  focus(at) {
    const { inputs } = this.rows[at];
    (inputs.find((one) => one.checked) ?? inputs[STEPS.indexOf(0)]).focus();
  }

  /** Up and down go between rows, where the browser would go on within one; Escape goes back to the question. */
  walk(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      document.getElementById("ask").focus({ preventScroll: true });
    }
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
    event.preventDefault();
    const at = this.rows.findIndex((row) => row.element.contains(document.activeElement));
    this.focus(Math.max(0, Math.min(this.rows.length - 1, at + (event.key === "ArrowDown" ? 1 : -1))));
  }

  say(name, step) {
    this.answers[name] = step;
    this.changed(`${name}: ${inWords(step)}`);
  }

  /** Whether everything is said that has to be; says what is not, and goes there. */
  complete() {
    if (this.question.asked !== "always") return true;
    const missing = this.rows.findIndex((row) => !(row.name in this.answers));
    if (missing < 0) return true;
    this.changed(`Not yet said: ${this.rows[missing].name}`);
    this.focus(missing);
    return false;
  }

  /** As the server keeps it: positive where the answer with the smaller id is better. */
  said() {
    const [left, right] = this.question.completions.map((one) => one.id);
    const sign = left < right ? 1 : -1;
    return Object.fromEntries(Object.entries(this.answers).map(([name, step]) => [name, step === 0 ? 0 : sign * step]));
  }
}
