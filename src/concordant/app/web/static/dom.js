// Elements. Text of ours goes in as text; what the server has rendered goes in as the fragment it sent.

/** An element with properties, attributes (data-…, aria-…) and children. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** HTML that the server has made safe. */
export function rendered(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const holder = make("div", { className: "text" });
  holder.append(template.content);
  for (const link of holder.querySelectorAll("a")) link.target = "_blank";
  for (const code of holder.querySelectorAll("pre")) code.tabIndex = 0; // long lines scroll, by keyboard too
  return holder;
}

export const button = (text, title, act, properties = {}) =>
  make("button", { type: "button", textContent: text, title, onclick: act, ...properties });
