// Which key does what. Letters and signs can be changed or switched off; arrows with Alt and Enter stay.

export const ACTIONS = {
  left: { key: "ArrowLeft", says: "prefer the answer on the left (again or with Shift: more strongly)", fixed: true },
  right: { key: "ArrowRight", says: "prefer the answer on the right", fixed: true },
  tie: { key: "=", says: "both are as good; editing: good as it is" },
  both_bad: { key: "0", says: "neither will do" },
  dimensions: { key: "d", says: "say more, by dimension" },
  up: { key: "Alt+ArrowUp", says: "ranking: move the answer up", fixed: true },
  down: { key: "Alt+ArrowDown", says: "ranking: move the answer down", fixed: true },
  join: { key: "t", says: "ranking: as good as the one above" },
  bad: { key: "b", says: "ranking: this answer will not do" },
  edit: { key: "e", says: "editing: go to the text (Escape leaves it, Ctrl Enter hands in)" },
  submit: { key: "Enter", says: "hand in", fixed: true },
  undo: { key: "u", says: "take the last answer back" },
  why: { key: "r", says: "write down a reason" },
  skip: { key: "s", says: "skip this question" },
  flag: { key: "f", says: "something is wrong with this question" },
  instructions: { key: "i", says: "read the instructions of this project" },
  help: { key: "?", says: "show and change the keys" },
};

/** Name of a pressed key as it stands in the table. */
export function nameOf(event) {
  return (event.altKey ? "Alt+" : "") + (event.key.length === 1 ? event.key.toLowerCase() : event.key);
}

export class Keys {
  constructor(changed, act) {
    this.changed = { ...changed };
    this.act = act; // called with (action, event); returns false for nothing done
    addEventListener("keydown", (event) => this.pressed(event));
  }

  of(action) {
    return action in this.changed ? this.changed[action] : ACTIONS[action].key;
  }

  pressed(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    if (event.target.closest("input:not([type=radio]), textarea, select, dialog[open]")) return;
    const name = nameOf(event);
    if (event.target.type === "radio" && (name === " " || name.includes("Arrow"))) return; // they choose within the row
    if (name === "Enter" && event.target.closest("a, button")) return; // the button's own Enter
    if (/^[1-9]$/.test(name) && !event.altKey) {
      if (this.act("digit", event) !== false) event.preventDefault();
      return;
    }
    for (const action of Object.keys(ACTIONS)) {
      if (this.of(action) && this.of(action) === name) {
        if (this.act(action, event) !== false) event.preventDefault();
        return;
      }
    }
    if ((name === "ArrowUp" || name === "ArrowDown") && this.act(name, event) !== false) event.preventDefault();
  }
}
