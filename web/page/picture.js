// Results of prompts: their pictures, and the dialog that shows one with what can be done with it.

import { $, h, ms, toast, when } from "./dom.js";
import { request, save, written } from "./api.js";

export const isPicture = (o) => (o.content_type ?? "").startsWith("image/") && o.sha256;
export const pictures = (result) => result.outputs.filter(isPicture);
export const title = (r) => r.workflow?.name ?? r.prompt_id.slice(0, 8);

export function about(r) {
  const parts = r.status === "success" ? [] : [r.status];
  if (r.seed !== undefined) parts.push(`seed ${r.seed}`);
  if (r.timings.run_ms !== null) parts.push(ms(r.timings.run_ms));
  return parts.join(" · ");
}

// open shows a result; o is the picture to begin with, if there is any.
export function open(r, o) {
  const picture = $("lightbox-picture");
  picture.hidden = !o;
  picture.removeAttribute("src");
  if (o) {
    picture.src = o.content_url;
    picture.alt = r.parameters?.prompt ?? `Output of node ${o.node}`;
  }
  $("lightbox-about").textContent = [title(r), about(r), when(r.timings.created), `waited ${ms(r.timings.queued_ms)}`].join(" · ") +
    (r.error ? `\n${r.error.message}` : "");
  $("lightbox-result").textContent = written(r, 2);
  $("lightbox-buttons").replaceChildren(...buttons(r, o));
  if (!$("lightbox").open) $("lightbox").showModal();
}

function buttons(r, o) {
  const path = `/prompt/${encodeURIComponent(r.prompt_id)}/workflow`;
  const list = [
    button("Copy workflow", async () => {
      await navigator.clipboard.writeText(await (await request(path)).text());
      toast("The workflow is in the clipboard.");
    }),
    button("Save workflow", () => save(path, `${r.prompt_id}.json`)),
  ];
  if (o) list.unshift(button("Save picture", () => save(o.content_url, o.filename)));
  const others = pictures(r);
  if (others.length > 1) {
    others.forEach((other, i) => list.push(button(`${i + 1}`, () => open(r, other), `Picture ${i + 1} of ${others.length}`)));
  }
  return list;
}

function button(text, action, label) {
  const b = h("button", { type: "button", "aria-label": label }, text);
  b.addEventListener("click", async () => { try { await action(); } catch (error) { toast(error.message); } });
  return b;
}
