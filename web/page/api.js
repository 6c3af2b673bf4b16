// Requests to the server. Numbers beyond 53 bits (seeds) are kept exact as BigInt.

import { $ } from "./dom.js";

// The server keeps the token in a cookie that scripts cannot read; this only remembers that there is one.
const key = "comfyrun-logged-in";
export const loggedIn = () => localStorage.getItem(key) !== null;

export async function logOut() {
  await fetch("/logout", { method: "POST" });
  localStorage.removeItem(key);
  location.reload();
}

// exact parses JSON; where the browser can tell how a number was written, large integers stay exact.
export const exact = (text) => JSON.parse(text, (_, v, context) =>
  typeof v === "number" && Number.isInteger(v) && !Number.isSafeInteger(v) && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : v);

// written is the JSON of a value with BigInts as the numbers that they are.
export function written(value, indent) {
  const mark = "\u0001";
  const text = JSON.stringify(value, (_, v) => (typeof v === "bigint" ? mark + v : v), indent);
  return text?.replace(/"\\u0001(-?\d+)"/g, "$1");
}

let asking;
// askToken shows the dialog until the server takes a token. All requests that need one wait for the same dialog.
function askToken() {
  asking ??= new Promise((done) => {
    const dialog = $("token-dialog");
    dialog.showModal();
    $("token-form").onsubmit = async (event) => {
      event.preventDefault();
      const answer = await fetch("/login", { method: "POST", redirect: "manual", body: new URLSearchParams({ token: $("token").value.trim() }) });
      if (answer.type !== "opaqueredirect" && !answer.ok) {
        $("token-why").textContent = answer.status === 429 ? "Too many tries: wait a while." : "The server does not take this token.";
        return;
      }
      localStorage.setItem(key, "yes");
      $("log-out").hidden = false;
      $("token").value = "";
      asking = undefined;
      dialog.close();
      done();
    };
  });
  return asking;
}

// request asks again when the server wants a token.
export async function request(path, options = {}) {
  for (;;) {
    const answer = await fetch(path, options);
    if (answer.status !== 401) return answer;
    await askToken();
  }
}

export class Refusal extends Error {
  constructor(status, body) {
    const error = body?.error;
    super([error?.message ?? error ?? `status ${status}`, error?.details].filter(Boolean).join("\n"));
    this.status = status;
    this.body = body;
  }
}

export async function json(path, options) {
  const answer = await request(path, options);
  const text = await answer.text();
  let body;
  try { body = text ? exact(text) : undefined; } catch { body = { error: text.slice(0, 300) }; }
  if (!answer.ok) throw new Refusal(answer.status, body);
  return body;
}

// save hands a file of the server to the browser as a download.
export function save(path, name) {
  const link = document.createElement("a");
  link.href = path;
  link.download = name;
  link.click();
}
