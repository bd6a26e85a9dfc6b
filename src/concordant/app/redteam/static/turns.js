// A turn of the conversation: what was said, and both answers beside each other; once it is past, the one it went on from.

import { button, make, rendered } from "/web/dom.js";

const said = (text) => make("div", { className: "turn", "data-role": "user" },
  make("div", { className: "role", textContent: "You" }), make("div", { className: "words", textContent: text }));

function answer(reply, letter, ...more) {
  const cut = reply.ended === false ? make("span", { className: "mark", textContent: "cut off", title: "It was longer than answers here may be" }) : null;
  return make("article", { className: "answer", "aria-label": `Answer ${letter}` },
    make("header", {}, make("h2", { textContent: letter }), cut, ...more), rendered(reply.html));
}

/** The turn at hand: both answers, `panel` for what is said of them; `choose` is called with the one to go on from. */
export function present(turn, panel, choose) {
  const cards = turn.replies.map((reply, place) => answer(reply, "AB"[place],
    button("Go on from here", `The conversation goes on from answer ${"AB"[place]}`, () => choose(reply.id),
      { className: "quiet-button go-on", "data-id": reply.id, "aria-pressed": "false" })));
  return make("section", { className: "exchange", "aria-label": `Turn ${turn.number}` }, said(turn.text),
    make("div", { className: "answers" }, ...cards), panel.element);
}

/** A turn that another one has followed, which went on from the answer `after`. */
export function past(turn, after, panel) {
  const [chosen, other] = turn.replies[0].id === after ? [0, 1] : [1, 0];
  return make("section", { className: "exchange past", "aria-label": `Turn ${turn.number}` }, said(turn.text),
    answer(turn.replies[chosen], "AB"[chosen]),
    make("details", {}, make("summary", { textContent: `Answer ${"AB"[other]}, which was left` }), rendered(turn.replies[other].html)),
    turn.report ? panel.element : "");
}

/** What was said and waits for its answers. */
export function pending(text) {
  return make("section", { className: "exchange waiting", "aria-label": "The turn under way" }, said(text),
    make("div", { className: "answers" }, ...["A", "B"].map((letter) => make("div", { className: "answer empty" },
      make("header", {}, make("h2", { textContent: letter })), make("div", { className: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i"))))));
}
