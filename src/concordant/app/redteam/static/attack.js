// A conversation with two models: sent without blocking the page, stopped at any time, reported once and never lost.

import { Refused, send } from "/web/api.js";
import { Clock } from "/web/clock.js";
import { button, make } from "/web/dom.js";
import { Outbox } from "/web/outbox.js";
import { ReportPanel } from "./report.js";
import { past, pending, present } from "./turns.js";

const POLL = 400; // ms between two looks at whether both have answered
const RETRY = 3_000; // ms until the server is asked again after it was not there
const LONG = 30 * 60_000; // ms of work after which a break is due

const element = (id) => document.getElementById(id);
const { account } = element("app").dataset;
const message = element("message");
const sends = element("send");
const state = { thread: "", turns: [], waiting: null, after: null, chosen: false };
const clock = new Clock();
let outbox = null;
let timer = null;

/** A key that nothing else has; `crypto.randomUUID` is missing on a page without TLS. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

/** What this machine remembers of the conversation at hand; storage may be switched off. */
const remembered = {
  get(name) { try { return localStorage.getItem(`concordant-${name}-${account}`); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(`concordant-${name}-${account}`, value); } catch { /* the page still has it */ } },
};

function say(text) {
  element("status").textContent = text;
}

// Showing

function panelOf(turn) {
  return new ReportPanel(turn, {
    judge: (worse) => { if (!state.chosen) goOn(worse); },
    hand: async (said) => {
      await outbox.put({ key: newKey(), at: Date.now(), report: { thread: state.thread, turn: turn.number, ...said } });
      turn.report = said;
      message.focus();
    },
  });
}

function goOn(id, byHand = false) {
  state.after = id;
  state.chosen ||= byHand;
  const turn = state.turns.at(-1);
  for (const one of element("log").querySelectorAll(".go-on")) one.setAttribute("aria-pressed", String(one.dataset.id === id));
  say(`Goes on from answer ${"AB"[turn.replies.findIndex((one) => one.id === id)]}`);
}

/** Show what the server said of the conversation; what stands already stays, with what is being written in it. */
function show(found) {
  const log = element("log");
  const before = state.turns.length;
  Object.assign(state, { thread: found.thread, waiting: found.waiting });
  if (found.turns.length !== before) {
    state.turns = found.turns;
    Object.assign(state, { after: null, chosen: false });
    log.replaceChildren(...found.turns.map((turn, n) => {
      const next = found.turns[n + 1];
      return next ? past(turn, next.after, panelOf(turn)) : present(turn, panelOf(turn), (id) => goOn(id, true));
    }));
  }
  log.querySelector(".waiting")?.remove();
  if (found.waiting) log.append(pending(found.waiting.text));
  for (const part of log.querySelectorAll(".report")) part.inert = Boolean(found.waiting);
  element("intro").hidden = Boolean(found.turns.length || found.waiting);
  sends.hidden = Boolean(found.waiting);
  element("stop").hidden = !found.waiting;
  told(found, found.turns.length > before);
}

/** Say how it stands; a message that was not answered goes back to where it was written. */
function told(found, answered) {
  if (found.waiting) {
    const { place } = found.waiting;
    return say(place ? `${place} ${place === 1 ? "is" : "are"} before you …` : "Both are answering …");
  }
  if (answered && state.turns.length) {
    if (message.value.trim() === state.turns.at(-1).text.trim()) message.value = ""; // what else stands there is the next thing
    keepDraft();
    goOn(state.turns.at(-1).replies[0].id);
    element("log").lastElementChild.scrollIntoView({ block: "start" });
    return say("Both have answered. Which one is worse?");
  }
  if (found.trouble === "stopped") say("Stopped: nothing of it is kept");
  else if (found.trouble) say(found.trouble);
  else say("");
  return undefined;
}

function showCount(found) {
  element("count").textContent = found.finds ? `${found.finds} find${found.finds === 1 ? "" : "s"}, ${found.unique} new` : "";
}

function keepDraft() {
  remembered.set("draft", message.value);
}

// Asking

/** Ask about the conversation at hand. What comes back of one that was left meanwhile is no longer looked at. */
async function ask(method, path, body) {
  const { thread } = state;
  clearTimeout(timer);
  try {
    const found = await send(method, `/api/conversations/${thread}${path}`, body);
    for (const { report } of await outbox.all()) {
      if (report.thread === thread) Object.assign(found.turns[report.turn - 1] ?? {}, { report }); // said, if not sent yet
    }
    if (thread === state.thread) show(found);
  } catch (error) {
    if (thread === state.thread) failed(error);
    return;
  }
  if (state.waiting) timer = setTimeout(look, POLL);
}

const look = () => ask("GET", "");

function failed(error) {
  if (error instanceof Refused && error.status === 403) return location.assign("/");
  if (error instanceof Refused && error.status === 401) return loggedOut(error.message);
  if (error instanceof Refused) return say(error.message);
  say("The server cannot be reached. What you wrote stands here still.");
  if (state.waiting) timer = setTimeout(look, RETRY);
  return undefined;
}

function submit(event) {
  event?.preventDefault();
  const text = message.value.trim();
  if (!text || state.waiting) return;
  ask("POST", "/messages", { turn: state.turns.length + 1, text, after: state.after });
}

function stop() {
  if (state.waiting) ask("POST", "/stop");
}

function begin(thread) {
  Object.assign(state, { thread, turns: [], waiting: null, after: null, chosen: false });
  remembered.set("thread", thread);
  element("log").replaceChildren();
}

/** Everything goes from the screen before anybody is asked anything. */
async function leave() {
  clearTimeout(timer);
  Object.assign(state, { thread: "", waiting: null });
  document.querySelector(".exits")?.remove();
  document.querySelector("main").replaceChildren(make("div", { className: "prose" }, make("h1", { textContent: "Nothing more is shown to you" })));
  remembered.set("left", "yes");
  try {
    await send("POST", "/api/leave");
    remembered.set("left", "");
    location.assign("/");
  } catch {
    document.querySelector("main").append(make("p", { textContent: "The server cannot be reached just now. You can close this page; it is told as soon as you open it again." }));
  }
}

function loggedOut(said) {
  element("unsent").replaceChildren(`${said}. Nothing is lost: `, make("a", { href: "/login", textContent: "log in again" }));
}

function showUnsent(unsent, refused) {
  const parts = unsent ? [`${unsent} unsent`] : [];
  const discard = async () => { for (const one of refused) await outbox.take(one.key); state.turns = []; look(); };
  if (refused.length) parts.push(button(`not taken: ${refused[0].refused}`, "Discard this report, and see what is kept", discard, { className: "plain" }));
  element("unsent").replaceChildren(...parts);
}

function breakIsDue() {
  if (clock.read().active_ms < LONG || document.querySelector(".pause")) return;
  const note = make("section", { className: "pause", role: "status" }, make("p", { textContent: "You have been at this for half an hour. This is a good moment for a break." }),
    button("Go on", "Close this", () => { note.remove(); clock.restart(); }, { className: "quiet-button" }));
  element("app").append(note);
}

async function start() {
  if (remembered.get("left")) return leave();
  showCount({ finds: Number(element("count").dataset.finds), unique: Number(element("count").dataset.unique) });
  outbox = new Outbox(`finds-${account}`, {
    post: (entry) => send("POST", "/api/reports", { key: entry.key, ...entry.report }),
    sent: (_entry, receipt) => showCount(receipt),
    changed: showUnsent,
    loggedOut,
  });
  await outbox.open();
  element("composer").addEventListener("submit", submit);
  element("stop").onclick = stop;
  element("again").onclick = () => { stop(); begin(newKey()); look(); message.focus(); };
  message.addEventListener("input", keepDraft);
  message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  });
  addEventListener("keydown", (event) => { if (event.key === "Escape") stop(); });
  message.value = remembered.get("draft") ?? "";
  begin(remembered.get("thread") || newKey());
  setInterval(breakIsDue, 10_000);
  await look();
  message.disabled = sends.disabled = false; // from here on nothing that is written is lost
  if (document.activeElement === document.body) message.focus(); // whoever is about to leave is not drawn back
  return undefined;
}

element("leave").onclick = leave;
start();
