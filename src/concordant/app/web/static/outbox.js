// Votes wait here, on disk, until the server has them: a closed lid, a dead network or a reload lose nothing.

import { Refused } from "./api.js";

const LONGEST_WAIT = 20_000; // ms between two tries

/** Run `work` while no other tab of this account does; without the browser's locks, simply run it. */
function alone(name, work) {
  return navigator.locks ? navigator.locks.request(name, work) : work();
}

/** What one account has to say, sent one after the other, each until it is acknowledged. `whose` tells boxes apart. */
export class Outbox {
  constructor(whose, { post, sent, changed, loggedOut }) {
    this.name = `concordant-outbox-${whose}`;
    this.post = post; // called with an entry; sends it and returns the receipt
    this.sent = sent; // called with (entry, receipt) once a vote is kept
    this.changed = changed; // called with (unsent, refused)
    this.loggedOut = loggedOut;
    this.failures = 0;
    this.running = false;
    this.timer = null;
  }

  async open() {
    this.db = await new Promise((resolve, reject) => {
      const asked = indexedDB.open(this.name, 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore("votes", { keyPath: "key" });
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
    addEventListener("online", () => this.hurry());
    await this.report();
    this.flush();
  }

  /** Keep a vote on disk; resolves when it is there. */
  async put(entry) {
    await this.write((votes) => votes.put(entry));
    await this.report();
    this.flush();
  }

  /** Take a vote out; true if it was here and nobody has tried to send it: then the server cannot know it. */
  async take(key) {
    const taken = await alone(this.name, async () => {
      const there = await this.read((votes) => votes.get(key));
      if (!there || (there.tried && !there.refused)) return false;
      await this.write((votes) => votes.delete(key));
      return true;
    });
    await this.report();
    return taken;
  }

  /** Forget a vote that has been dealt with otherwise. */
  async forget(key) {
    await alone(this.name, () => this.write((votes) => votes.delete(key)));
    await this.report();
  }

  async all() {
    const found = await this.read((votes) => votes.getAll());
    return found.sort((a, b) => a.at - b.at);
  }

  async report() {
    const all = await this.all();
    const refused = all.filter((entry) => entry.refused);
    this.changed(all.length - refused.length, refused);
  }

  hurry() {
    this.failures = 0;
    clearTimeout(this.timer);
    this.timer = null;
    this.flush();
  }

  async flush() {
    if (this.running || this.timer || navigator.onLine === false) return; // `online` calls again
    this.running = true;
    try {
      for (;;) {
        const go = await alone(this.name, async () => {
          const entry = (await this.all()).find((one) => !one.refused);
          return entry ? this.deliver(entry) : false;
        });
        if (!go) break;
      }
      await this.report(); // another tab of this account may have sent what waited here
    } finally {
      this.running = false;
    }
  }

  async deliver(entry) {
    await this.write((votes) => votes.put({ ...entry, tried: true }));
    try {
      const receipt = await this.post(entry);
      await this.write((votes) => votes.delete(entry.key));
      this.failures = 0;
      await this.report();
      this.sent(entry, receipt);
      return true;
    } catch (error) {
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
        this.loggedOut(error.message);
        return false;
      }
      if (error instanceof Refused && error.status < 500 && error.status !== 408 && error.status !== 429) {
        await this.write((votes) => votes.put({ ...entry, tried: true, refused: error.message }));
        await this.report();
        return true;
      }
      // No answer, or a server in trouble: again, with growing pauses that do not fall into step with others'.
      this.failures += 1;
      const wait = Math.min(LONGEST_WAIT, 500 * 2 ** this.failures) * (0.5 + Math.random() / 2);
      this.timer = setTimeout(() => {
        this.timer = null;
        this.flush();
      }, wait);
      return false;
    }
  }

  read(ask) {
    return new Promise((resolve, reject) => {
      const asked = ask(this.db.transaction("votes").objectStore("votes"));
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
  }

  write(change) {
    return new Promise((resolve, reject) => {
      const transaction = this.db.transaction("votes", "readwrite", { durability: "strict" });
      change(transaction.objectStore("votes"));
      transaction.oncomplete = () => resolve();
      transaction.onerror = () => reject(transaction.error);
      transaction.onabort = () => reject(transaction.error);
    });
  }
}
