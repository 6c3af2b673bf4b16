// The history, the newest first, a page at a time.

import { $, h, when } from "./dom.js";
import { json } from "./api.js";
import { about, open, pictures, title } from "./picture.js";

const size = 24;
let offset = 0;

export async function refresh() {
  const list = await json(`/prompts?ended=true&limit=${size}&offset=${offset}`);
  if (list.prompts.length === 0 && offset > 0) {
    offset = Math.max(0, Math.floor((list.total - 1) / size) * size);
    return list.total > 0 ? refresh() : undefined;
  }
  const shown = $("history").dataset.shown;
  const now = list.prompts.map((p) => p.prompt_id + p.timings.created).join();
  if (shown !== now) {
    $("history").replaceChildren(...list.prompts.map(card));
    $("history").dataset.shown = now;
  }
  $("history-empty").hidden = list.total > 0;
  $("history-page").textContent = list.total ? `${offset + 1} to ${offset + list.prompts.length} of ${list.total}` : "";
  $("history-newer").disabled = offset === 0;
  $("history-older").disabled = offset + size >= list.total;
}

const turn = (by) => () => { offset = Math.max(0, offset + by); refresh(); };
$("history-newer").addEventListener("click", turn(-size));
$("history-older").addEventListener("click", turn(size));

function card(r) {
  const first = pictures(r)[0];
  const picture = first
    ? h("img", { className: "thumb", loading: "lazy", decoding: "async", alt: "", src: first.content_url })
    : h("span", { className: "thumb nothing" }, r.error ? r.error.message.slice(0, 80) : "no picture");
  const b = h("button", { type: "button" }, picture,
    h("span", { className: "caption" }, h("strong", {}, title(r)), h("br"), about(r), h("br"), h("span", { className: "muted" }, when(r.timings.created))));
  b.addEventListener("click", () => open(r, first));
  return h("li", { "data-id": r.prompt_id }, b);
}
