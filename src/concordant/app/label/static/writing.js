// Questions that are answered in words: an answer made better, or one of one's own. What is typed survives a reload.

import { button, make, rendered } from "/web/dom.js";

/** A text under way, on this machine until it is handed in. */
class Draft {
  constructor(account, task) {
    this.key = `concordant-draft-${account}-${task}`;
  }

  get() {
    try { return localStorage.getItem(this.key); } catch { return null; } // storage may be switched off
  }

  set(text) {
    try { localStorage.setItem(this.key, text); } catch { /* full, or switched off: the page still has it */ }
  }

  forget() {
    try { localStorage.removeItem(this.key); } catch { /* as above */ }
  }
}

class Writing {
  constructor(question, changed, { account, submit, before }) {
    this.question = question;
    this.changed = changed;
    this.draft = new Draft(account, question.task);
    this.start = "";
    this.field = make("textarea", { id: "written", rows: 8, maxLength: 100_000, spellcheck: true,
      oninput: () => { this.draft.set(this.field.value); this.changed(this.says()); },
      onkeydown: (event) => {
        if (event.isComposing) return;
        if (event.key === "Escape") document.getElementById("ask").focus({ preventScroll: true });
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); }
      } });
    this.before = before && before.text; // what was handed in and taken back
  }

  begin(start) {
    this.start = start;
    this.field.value = this.before ?? this.draft.get() ?? start;
  }

  label(text) {
    return make("div", { className: "writing" }, make("label", { for: "written", textContent: text }), this.field,
      make("p", { className: "quiet", textContent: "Escape leaves the field, Ctrl Enter hands in. What you type is kept on this machine until then." }));
  }

  act(action) {
    if (action !== "edit") return false;
    this.field.focus();
    return true;
  }

  buttons() {
    return [];
  }

  says() {
    const words = this.field.value.split(/\s+/).filter(Boolean).length;
    return `${words} word${words === 1 ? "" : "s"}`;
  }

  handedIn() {
    this.draft.forget();
  }
}

/** An answer to be made better, or left as it is. */
export class Edit extends Writing {
  constructor(question, changed, page) {
    super(question, changed, page);
    const [shown] = question.completions;
    this.begin(shown.text);
    this.element = make("div", { className: "answers" },
      make("article", { className: "answer", "aria-labelledby": "as-it-is" },
        make("header", {}, make("h2", { id: "as-it-is", textContent: "The answer as it is" })), rendered(shown.html)),
      this.label("Your version"));
  }

  act(action) {
    if (action === "tie") this.keep();
    else return super.act(action);
    return true;
  }

  buttons() {
    return [button("Good as it is", "Leave the answer as it is (=)", () => this.keep(), { className: "quiet-button" })];
  }

  keep() {
    this.field.value = this.start;
    this.draft.forget();
    this.kept = true;
    this.changed("The answer is good as it is");
  }

  says() {
    this.kept = false;
    return super.says();
  }

  payload(rationale) {
    const parent = this.question.completions[0].id;
    if (this.kept) return { type: "edit", parent, accept: true, rationale };
    if (this.field.value === this.start || !this.field.value.trim()) {
      this.changed("Nothing is changed: press e to write, or = if the answer is good as it is");
      return null;
    }
    return { type: "edit", parent, text: this.field.value, rationale };
  }
}

/** An answer of one's own. */
export class Demonstration extends Writing {
  constructor(question, changed, page) {
    super(question, changed, page);
    this.begin("");
    this.element = this.label("Your answer");
  }

  payload(rationale) {
    if (!this.field.value.trim()) {
      this.changed("Nothing is written yet: press e to write");
      return null;
    }
    return { type: "edit", text: this.field.value, rationale };
  }
}
