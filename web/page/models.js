// Model files by folder. A folder is read when it is opened.

import { $, bytes, h, toast } from "./dom.js";
import { json } from "./api.js";

let read = false;

export async function refresh() {
  if (read) return;
  const folders = await json("/models");
  read = true;
  $("models").replaceChildren(...folders.map(folder));
}

function folder(key) {
  const body = h("div", {});
  const e = h("details", {}, h("summary", {}, key), body);
  e.addEventListener("toggle", async () => {
    if (!e.open || body.childElementCount) return;
    try { body.replaceChildren(table(await files(key))); } catch (error) { toast(error.message); }
  });
  return e;
}

async function files(key) {
  const path = encodeURIComponent(key);
  try {
    return await json(`/experiment/models/${path}`);
  } catch {
    return (await json(`/models/${path}`)).map((name) => ({ name }));
  }
}

function table(list) {
  if (list.length === 0) return h("p", { className: "muted" }, "No files.");
  return h("table", {}, h("tbody", {}, ...list.map((f) => h("tr", {}, h("td", {}, f.name), h("td", {}, bytes(f.size))))));
}
