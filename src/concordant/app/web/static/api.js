// Requests to the server. The page's own secret goes along with every change.

const csrf = document.querySelector('meta[name="csrf"]').content;

/** The server answered and refused: `status` and what it said. */
export class Refused extends Error {
  constructor(status, said) {
    super(said);
    this.status = status;
  }
}

/** Send `body` as JSON, or a file as it is, and return the answer; throws Refused, or TypeError where no answer came. */
export async function send(method, path, body) {
  const file = body instanceof Blob;
  const answer = await fetch(path, {
    method,
    headers: { "content-type": file ? "application/octet-stream" : "application/json", "x-csrf-token": csrf },
    body: body === undefined || file ? body : JSON.stringify(body),
    credentials: "same-origin",
  });
  const text = await answer.text();
  let found = null;
  try {
    found = JSON.parse(text);
  } catch {
    // a proxy's page, perhaps: the status says enough
  }
  if (answer.ok) return found;
  const detail = found && found.detail;
  throw new Refused(answer.status, typeof detail === "string" ? detail : `the server said ${answer.status}`);
}
