// The question at hand: fetched ahead, answered by keyboard, handed in without waiting, taken back with one key.

import { Refused, send } from "/web/api.js";
import { Clock } from "/web/clock.js";
import { button, make, rendered } from "/web/dom.js";
import { showOver } from "./dialogs.js";
import { firstInstructions, showInstructions } from "./instructions.js";
import { ACTIONS, Keys } from "./keys.js";
import { Outbox } from "/web/outbox.js";
import { KINDS } from "./questions.js";

const AHEAD = 10; // questions held; the server gives fewer where few are left
const HEARTBEAT = 60_000; // ms
const ARROWS = { Left: "←", Right: "→", Up: "↑", Down: "↓" };
const SOON = 300; // ms until questions are asked for again where the answer was out of date
const RETRY = 3_000; // ms until questions are asked for again

const app = document.getElementById("app");
const { project, purpose, then, account } = app.dataset;
const practice = purpose === "practice";

const state = { queue: [], current: null, view: null, history: [], rationale: "", answered: new Set(), handing: false, done: false };
const clock = new Clock();
let keys = null;
let outbox = null;

function announce(text) {
  document.getElementById("announce").textContent = text;
  const shown = document.getElementById("verdict");
  if (shown) shown.textContent = text;
}

// Fetching ahead

let fetching = null;

function refill() {
  fetching ??= fetchMore().then((wait) => {
    fetching = null;
    if (wait) setTimeout(refill, wait);
  });
  return fetching;
}

/** Ask for questions; resolves with how long to wait (ms) until asking again, 0 for not at all. */
async function fetchMore() {
  try {
    const found = await send("POST", "/api/leases", { project, n: AHEAD });
    const waiting = new Set((await outbox.all()).map((entry) => entry.task));
    const known = new Set([...state.queue, state.current].filter(Boolean).map((one) => one.task));
    for (const one of found.questions) {
      if (!known.has(one.task) && !waiting.has(one.task) && !state.answered.has(one.task)) state.queue.push(one);
    }
    showCount(found.progress);
    state.done = found.questions.length === 0;
    if (!state.current) next();
    // Asked before the last answers were sent, the server gives what has been answered by now: ask once more.
    return state.current || state.done ? 0 : SOON;
  } catch (error) {
    if (!state.current) message("Waiting for the server …");
    if (!(error instanceof Refused) || (error.status !== 401 && error.status !== 403)) return RETRY;
    loggedOut(error.message);
    return 0;
  }
}

function showCount(progress) {
  document.getElementById("count").textContent = practice
    ? `Exercise ${Math.min(progress.mine + 1, progress.tasks)} of ${progress.tasks}`
    : `${progress.mine} by you · ${progress.finished} of ${progress.tasks} answered`;
}

// Showing

function message(text) {
  app.replaceChildren(make("p", { className: "quiet", textContent: text }));
}

function next() {
  state.current = state.queue.shift() ?? null;
  state.rationale = "";
  if (state.current) show();
  else if (state.done) finished();
  else { message("Loading the next question …"); refill(); }
  if (!practice && state.queue.length < AHEAD / 2 && !state.done) refill();
}

async function finished() {
  if (practice) {
    await send("PUT", "/api/me/settings", { practised: true });
    location.assign(then);
    return;
  }
  app.replaceChildren(make("div", { className: "prose" },
    make("h2", { textContent: "Nothing left to compare for now" }),
    make("p", { textContent: "Thank you. Questions that others are working on may come back." }),
    make("p", { className: "actions" },
      button("Look again", "Ask for questions once more", () => { state.done = false; message("Looking …"); refill(); }),
      button("Take the last one back", "Undo", undo, { className: "quiet-button" }),
      make("a", { href: "/", textContent: "To the projects" }))));
  app.querySelector("h2").tabIndex = -1;
  app.querySelector("h2").focus();
}

/** Show the question at hand; `before` is what was said of it and taken back. */
function show(before = null) {
  const question = state.current;
  state.view = new KINDS[question.kind](question, announce, { account, submit, before });
  const turns = question.prompt.map((turn) => make("div", { className: "turn", "data-role": turn.role },
    make("div", { className: "role", textContent: turn.role === "user" ? "Question" : turn.role === "assistant" ? "Earlier answer" : "Setting" }),
    rendered(turn.html)));
  const ask = make("h2", { className: "ask", id: "ask", tabIndex: -1, textContent: question.question });
  app.replaceChildren(make("section", { className: "chat", "aria-label": "The conversation" }, ...turns), ask, state.view.element, bar());
  scrollTo(0, 0);
  ask.focus({ preventScroll: true });
  announce("");
  clock.restart();
}

function bar() {
  return make("div", { className: "bar", role: "toolbar", "aria-label": "Your answer" },
    make("span", { className: "verdict", id: "verdict" }),
    ...state.view.buttons(),
    button("Reason", `Write down a reason (${keys.of("why")})`, () => act("why"), { className: "quiet-button" }),
    button("Skip", `Skip (${keys.of("skip")})`, () => act("skip"), { className: "quiet-button" }),
    button("Flag", `Something is wrong with this question (${keys.of("flag")})`, () => act("flag"), { className: "quiet-button" }),
    button("Undo", `Take the last answer back (${keys.of("undo")})`, () => act("undo"), { className: "quiet-button" }),
    button("Keys", `Show the keys (${keys.of("help")})`, () => act("help"), { className: "quiet-button" }),
    button("Hand in", "Hand in (Enter)", () => act("submit")));
}

/** A key that no other vote has; `crypto.randomUUID` is missing on a page without TLS. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

// Acting

function act(action, event = {}) {
  if (action === "help") return help();
  if (action === "instructions") return showInstructions();
  if (action === "undo") return undo();
  if (app.querySelector(".lesson")) return action === "submit" ? next() : false;
  if (!state.current) return false;
  if (action === "submit") return submit();
  if (action === "why") return askFor("Why?", state.rationale, "Keep", (text) => { state.rationale = text; }, true);
  const question = state.current;
  if (action === "skip") return askFor("Why do you skip this question?", "I cannot tell", "Skip", (reason) => handIn({ type: "skip", reason }, question));
  if (action === "flag") return askFor("What is wrong with this question?", "", "Flag", (reason) => handIn({ type: "flag", reason }, question));
  return state.view.act(action, event);
}

function submit() {
  const payload = state.view.payload(state.rationale);
  if (payload) handIn(payload);
  else if (!document.getElementById("verdict").textContent) announce("Choose first: ← or →, = or 0");
}

async function handIn(payload, question = state.current) {
  if (!question || question !== state.current || state.handing) return; // a key was pressed twice
  const entry = { ...clock.read(), key: newKey(), token: question.token, task: question.task, payload, at: Date.now() };
  state.handing = true;
  try {
    if (practice) return await learn(entry);
    state.view.handedIn?.();
    state.answered.add(question.task);
    state.history.push({ question, entry, key: entry.key, vote: null });
    await outbox.put(entry); // on this machine's disk before the question goes away
  } finally {
    state.handing = false;
  }
  next();
}

/** Send a vote; the receipt comes back. */
function post({ token, key, task, payload, active_ms, wall_ms }) {
  return send("POST", "/api/votes", { token, key, task, payload, active_ms, wall_ms });
}

async function learn(entry) {
  const question = state.current;
  try {
    const kept = await post(entry);
    state.answered.add(entry.task);
    if (!kept.lesson) return next();
    const place = question.completions.findIndex((one) => one.id === kept.lesson.better);
    const box = make("section", { className: kept.lesson.right ? "lesson" : "lesson wrong", tabIndex: -1, "aria-label": "What was meant" },
      make("h2", { textContent: kept.lesson.right ? "That is what was meant" : `Answer ${"AB"[place]} was meant` }),
      make("p", { textContent: kept.lesson.why }),
      button("Next", "Next (Enter)", () => next()));
    app.querySelector(".bar").replaceWith(box);
    box.scrollIntoView({ block: "nearest" });
    box.querySelector("button").focus();
    if (!state.queue.length) state.done = true;
    refill();
  } catch (error) {
    announce(error.message);
  }
}

async function undo() {
  if (state.handing) return;
  const last = state.history.pop();
  if (!last) return announce("There is nothing to take back");
  state.handing = true;
  let question = last.question;
  try {
    if (last.vote || !(await outbox.take(last.key))) question = await retracted(last);
  } catch (error) {
    state.history.push(last);
    return announce(error instanceof Refused ? error.message : "The server cannot be reached: try again in a moment");
  } finally {
    state.handing = false;
  }
  state.answered.delete(last.question.task);
  if (!question) return announce("Taken back; the question is with somebody else now");
  if (state.current && state.current.task !== question.task) state.queue.unshift(state.current);
  state.queue = state.queue.filter((one) => one.task !== question.task);
  state.done = false;
  state.current = question;
  show(last.entry.payload);
  announce("Taken back: answer it again");
}

/** Have the server take a vote back. Where its receipt was lost it is sent once more: it is kept once all the same. */
async function retracted(last) {
  if (!last.vote) {
    last.vote = (await post(last.entry)).vote;
    await outbox.forget(last.key);
  }
  const again = await send("POST", `/api/votes/${last.vote}/retract`);
  showCount(again.progress);
  return again.questions[0] ?? null;
}

function loggedOut(said) {
  announce(said);
  document.getElementById("unsent").replaceChildren(`${said}. Nothing is lost: `, make("a", { href: "/login", textContent: "log in again" }));
}

// Dialogs

/** Ask for a text; `act` is what its button says, and what is done with it then. */
function askFor(title, text, act, done, many = false) {
  const field = make(many ? "textarea" : "input", { value: text, maxLength: 10_000, id: "asked", rows: 5 });
  const dialog = make("dialog", { "aria-labelledby": "asked-title" });
  const form = make("form", { method: "dialog", className: "stack" },
    make("label", { id: "asked-title", for: "asked", textContent: title }), field,
    make("div", { className: "actions" }, make("button", { textContent: act, value: "keep" }),
      button("Cancel", "Cancel (Escape)", () => dialog.close(""), { className: "quiet-button" })));
  dialog.append(form);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.returnValue === "keep") done(field.value.trim());
  });
  document.body.append(dialog);
  showOver(dialog);
  field.select();
}

function help() {
  const inputs = {};
  const rows = Object.entries(ACTIONS).flatMap(([action, { says, fixed }]) => {
    const field = fixed ? make("kbd", { textContent: ACTIONS[action].key.replace(/Arrow(\w+)/, (_, way) => ARROWS[way]).replace("Alt+", "Alt ") })
      : (inputs[action] = make("input", { value: keys.of(action), maxLength: 1, id: `key-${action}`, "aria-label": `Key: ${says}` }));
    return [field, make("span", { textContent: says })];
  });
  const dialog = make("dialog", { "aria-labelledby": "help-title" });
  dialog.append(make("form", { method: "dialog" },
    make("h2", { id: "help-title", textContent: "Keys" }),
    make("p", { className: "quiet", textContent: "Digits choose an answer, or set the rank or the score of the one that has the focus. An empty field switches a key off." }),
    make("div", { className: "keys" }, ...rows),
    make("div", { className: "actions" }, make("button", { textContent: "Keep", value: "keep" }),
      button("Close", "Close (Escape)", () => dialog.close(""), { className: "quiet-button" }))));
  dialog.addEventListener("close", async () => {
    dialog.remove();
    if (dialog.returnValue !== "keep") return;
    const changed = Object.fromEntries(Object.entries(inputs)
      .filter(([action, field]) => field.value !== ACTIONS[action].key).map(([action, field]) => [action, field.value.toLowerCase()]));
    keys.changed = changed;
    try { await send("PUT", "/api/me/settings", { keys: changed }); } catch (error) { announce(error.message); }
  });
  document.body.append(dialog);
  showOver(dialog);
}

function showRefused(refused) {
  const dialog = make("dialog", { "aria-labelledby": "refused-title" });
  dialog.append(make("h2", { id: "refused-title", textContent: "The server did not take these answers" }),
    ...refused.map((entry) => make("div", { className: "card" },
      make("p", { textContent: entry.refused }), make("pre", { className: "said", textContent: JSON.stringify(entry.payload, null, 1) }),
      button("Discard", "Discard this answer", async (event) => { await outbox.take(entry.key); event.target.closest(".card").remove(); }, { className: "quiet-button" }))),
    button("Close", "Close (Escape)", () => dialog.close()));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  showOver(dialog);
}

function showUnsent(unsent, refused) {
  const parts = [];
  if (unsent) parts.push(`${unsent} unsent`);
  if (refused.length) parts.push(button(`${refused.length} refused`, "Show them", () => showRefused(refused), { className: "plain" }));
  document.getElementById("unsent").replaceChildren(...parts);
}

async function begin() {
  outbox = new Outbox(account, {
    post,
    sent: (entry, receipt) => {
      const known = state.history.find((one) => one.key === entry.key);
      if (known) known.vote = receipt.vote;
      if (state.queue.length < AHEAD / 2 && !state.done) refill();
    },
    changed: showUnsent,
    loggedOut,
  });
  await outbox.open();
  let settings = {};
  try { settings = (await send("GET", "/api/me")).settings; } catch { /* the keys as they come */ }
  keys = new Keys(settings.keys ?? {}, act);
  setInterval(() => {
    if (document.visibilityState !== "visible") return;
    for (const one of [state.current, ...state.queue].filter(Boolean)) send("POST", `/api/leases/${one.token}/heartbeat`).catch(() => {});
  }, HEARTBEAT);
  addEventListener("beforeunload", (event) => { if (document.getElementById("unsent").textContent.includes("unsent")) event.preventDefault(); });
  if (!practice) await firstInstructions(project);
  await refill();
}

begin();
