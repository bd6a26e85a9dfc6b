// The kinds of question. Each draws itself, takes actions, and says what the vote would be.

import { Dimensions } from "./dimensions.js";
import { button, make, rendered } from "/web/dom.js";
import { Demonstration, Edit } from "./writing.js";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const STRENGTHS = ["a little better", "better", "clearly better", "much better"];

function card(question, place, inside, attributes = {}) {
  const id = `answer-${place}`;
  return make("article", { className: "answer", "aria-labelledby": id, ...attributes },
    make("header", {}, make("h2", { id, textContent: `Answer ${LETTERS[place]}` }), ...inside),
    rendered(question.completions[place].html));
}

/** Two answers: one is better, both are as good, or neither will do. */
export class Pairwise {
  constructor(question, changed) {
    this.question = question;
    this.changed = changed;
    this.verdict = null;
    this.winner = null;
    this.strength = 0;
    this.cards = question.completions.map((_, place) =>
      card(question, place, [button("Choose", `Choose answer ${LETTERS[place]} (${"←→"[place]})`,
        () => this.prefer(place, false), { className: "quiet-button" })]));
    this.dimensions = new Dimensions(question, (text) => changed([this.says(), text].filter(Boolean).join(" · ")));
    this.element = make("div", {}, make("div", { className: "answers" }, ...this.cards), this.dimensions.element);
  }

  act(action, event) {
    if (action === "left" || action === "right") this.prefer(action === "left" ? 0 : 1, event.shiftKey);
    else if (action === "digit" && Number(event.key) <= 2) this.prefer(Number(event.key) - 1, false);
    else if (action === "tie") this.set("tie");
    else if (action === "both_bad") this.set("both_bad");
    else if (action === "dimensions") return this.dimensions.open();
    else return false;
    return true;
  }

  buttons() {
    return [button("As good", "Both are as good (=)", () => this.set("tie"), { className: "quiet-button" }),
      button("Neither", "Neither will do (0)", () => this.set("both_bad"), { className: "quiet-button" }),
      ...this.dimensions.buttons()];
  }

  prefer(place, stronger) {
    const again = this.verdict === "prefer" && this.winner === place;
    this.strength = again || stronger ? Math.min(3, (again ? this.strength : 0) + 1) : 0;
    this.set("prefer", place);
  }

  set(verdict, winner = null) {
    this.verdict = verdict;
    this.winner = winner;
    if (verdict !== "prefer") this.strength = 0;
    this.cards.forEach((one, place) => {
      one.classList.toggle("chosen", verdict === "tie" || winner === place);
      one.classList.toggle("bad", verdict === "both_bad");
    });
    this.changed(this.says());
  }

  says() {
    if (this.verdict === "tie") return "Both are as good";
    if (this.verdict === "both_bad") return "Neither will do";
    if (this.winner === null) return "";
    return `Answer ${LETTERS[this.winner]} is ${STRENGTHS[this.strength]}`;
  }

  payload(rationale) {
    if (this.verdict === null || !this.dimensions.complete()) return null;
    return { type: "pairwise", verdict: this.verdict, strength: this.strength, dims: this.dimensions.said(), rationale,
      winner: this.winner === null ? null : this.question.completions[this.winner].id };
  }
}

/** Up to nine answers in an order, with ties. */
export class Ranking {
  constructor(question, changed) {
    this.question = question;
    this.changed = changed;
    this.touched = false;
    this.warned = false;
    this.order = question.completions.map((_, place) => ({ place, joined: false, bad: false }));
    this.element = make("div", { className: "answers rows", role: "list", "aria-label": "Answers, the best first" });
    this.cards = question.completions.map((_, place) => this.card(place));
    this.draw();
  }

  card(place) {
    const letter = LETTERS[place];
    const rank = make("span", { className: "rank" });
    const inside = [rank,
      button("↑", `Move answer ${letter} up (Alt ↑)`, () => this.move(place, -1), { className: "quiet-button", "aria-label": `Move answer ${letter} up` }),
      button("↓", `Move answer ${letter} down (Alt ↓)`, () => this.move(place, 1), { className: "quiet-button", "aria-label": `Move answer ${letter} down` }),
      button("=", `As good as the one above (t)`, () => this.join(place), { className: "quiet-button", "aria-label": `Answer ${letter} is as good as the one above` }),
      button("✗", `Will not do (b)`, () => this.bad(place), { className: "quiet-button", "aria-label": `Answer ${letter} will not do`, "aria-pressed": "false" })];
    const made = card(this.question, place, inside, { tabIndex: 0 });
    const item = make("div", { role: "listitem" }, made);
    return { item, made, rank, badButton: inside[4] };
  }

  at(place) {
    return this.order.findIndex((one) => one.place === place);
  }

  focused() {
    const inside = document.activeElement && document.activeElement.closest(".answer");
    const place = this.cards.findIndex((one) => one.made === inside);
    return place >= 0 ? place : this.order[0].place;
  }

  act(action, event) {
    const place = this.focused();
    if (action === "up" || action === "down") this.move(place, action === "up" ? -1 : 1);
    else if (action === "ArrowUp" || action === "ArrowDown") this.step(action === "ArrowUp" ? -1 : 1);
    else if (action === "join") this.join(place);
    else if (action === "bad") this.bad(place);
    else if (action === "digit" && Number(event.key) <= this.order.length) this.rankAs(place, Number(event.key));
    else return false;
    return true;
  }

  buttons() {
    return [];
  }

  step(by) {
    const index = Math.max(0, Math.min(this.order.length - 1, this.at(this.focused()) + by));
    this.cards[this.order[index].place].made.focus();
  }

  move(place, by) {
    const from = this.at(place);
    const to = Math.max(0, Math.min(this.order.length - 1, from + by));
    const [one] = this.order.splice(from, 1);
    one.joined = false;
    this.order.splice(to, 0, one);
    this.done(place);
  }

  rankAs(place, rank) {
    this.move(place, rank - 1 - this.at(place));
  }

  join(place) {
    const index = this.at(place);
    if (index > 0) this.order[index].joined = !this.order[index].joined;
    this.done(place);
  }

  bad(place) {
    const one = this.order[this.at(place)];
    one.bad = !one.bad;
    this.done(place);
  }

  done(place) {
    this.touched = true;
    this.draw();
    this.cards[place].made.focus();
    const rank = this.ranks()[this.at(place)];
    this.changed(`Answer ${LETTERS[place]} is number ${rank} of ${this.order.length}` +
      (this.order[this.at(place)].bad ? ", will not do" : ""));
  }

  ranks() {
    this.order[0].joined = false;
    let rank = 0;
    return this.order.map((one, index) => (one.joined ? rank : (rank = index + 1)));
  }

  draw() {
    const ranks = this.ranks();
    const focused = document.activeElement;
    this.order.forEach((one, index) => {
      const { item, made, rank, badButton } = this.cards[one.place];
      rank.textContent = `${one.joined ? "=" : ""}${ranks[index]}`;
      made.classList.toggle("bad", one.bad);
      badButton.setAttribute("aria-pressed", String(one.bad));
      this.element.append(item);
    });
    if (focused && this.element.contains(focused)) focused.focus();
  }

  says() {
    return "";
  }

  payload(rationale) {
    // An order nobody touched is the order shown: that is asked about once before it counts as a vote.
    if (!this.touched && !this.warned) {
      this.warned = true;
      this.changed("The order is as it was shown. Hand in again if you mean it.");
      return null;
    }
    this.ranks();
    const id = (one) => this.question.completions[one.place].id;
    const tiers = [];
    for (const one of this.order) {
      if (one.joined) tiers[tiers.length - 1].push(id(one));
      else tiers.push([id(one)]);
    }
    return { type: "ranking", tiers, unacceptable: this.order.filter((one) => one.bad).map(id), rationale };
  }
}

/** Every answer by itself, 1 to 7, by one or several dimensions. */
export class Rating {
  constructor(question, changed) {
    this.question = question;
    this.changed = changed;
    this.scores = question.completions.map(() => ({}));
    this.cells = [];
    this.element = make("div", { className: "answers rows" }, ...question.completions.map((_, place) => {
      const made = card(question, place, []);
      for (const { name, meaning } of question.dimensions) made.append(this.scale(place, name, meaning));
      return made;
    }));
  }

  scale(place, dimension, meaning) {
    const buttons = [1, 2, 3, 4, 5, 6, 7].map((value) => button(String(value), `${dimension}: ${value} of 7`,
      () => this.set(cell, value), { "aria-pressed": "false", "aria-label": `${dimension} ${value} of 7` }));
    const cell = { place, dimension, buttons };
    this.cells.push(cell);
    cell.element = make("div", { className: "scale", role: "group", tabIndex: 0, "aria-label": `${dimension} of answer ${LETTERS[place]}` },
      make("span", { textContent: dimension, title: meaning }), ...buttons);
    return cell.element;
  }

  act(action, event) {
    if (action !== "digit" || Number(event.key) > 7) return false;
    const focused = this.cells.findIndex((cell) => cell.element.contains(document.activeElement));
    const open = this.cells.findIndex((cell) => !(cell.dimension in this.scores[cell.place]));
    const at = focused >= 0 ? focused : open >= 0 ? open : 0;
    this.set(this.cells[at], Number(event.key));
    // The row, not one of its buttons, so that Enter still hands in.
    this.cells[Math.min(at + 1, this.cells.length - 1)].element.focus();
    return true;
  }

  buttons() {
    return [];
  }

  set(cell, value) {
    this.scores[cell.place][cell.dimension] = value;
    cell.buttons.forEach((one, index) => one.setAttribute("aria-pressed", String(index + 1 === value)));
    this.changed(`${cell.dimension} of answer ${LETTERS[cell.place]}: ${value}`);
  }

  says() {
    return "";
  }

  payload(rationale) {
    const missing = this.cells.find((cell) => !(cell.dimension in this.scores[cell.place]));
    if (missing) {
      this.changed(`Not yet said: ${missing.dimension} of answer ${LETTERS[missing.place]}`);
      missing.element.focus();
      return null;
    }
    return { type: "rating", rationale, scores: Object.fromEntries(
      this.scores.map((given, place) => [this.question.completions[place].id, given])) };
  }
}

export const KINDS = { pairwise: Pairwise, ranking: Ranking, rating: Rating, edit: Edit, demonstration: Demonstration };
