// The queue: what runs, what waits and at which place, with cancelling.

import { $, h, toast, when } from "./dom.js";
import { json, request } from "./api.js";
import { bar } from "./progress.js";

const most = 100;

export async function count() {
  const { exec_info: info } = await json("/prompt");
  $("queue-count").textContent = info.queue_remaining;
  $("queue-count").hidden = info.queue_remaining === 0;
}

export const cancel = async (id) => {
  const answer = await request(`/api/jobs/${encodeURIComponent(id)}/cancel`, { method: "POST" });
  if (!answer.ok) throw new Error(`cannot cancel: status ${answer.status}`);
};

export async function refresh() {
  const list = await json(`/prompts?ended=false&limit=${most}`);
  const focused = document.activeElement?.dataset?.prompt;
  $("queue").replaceChildren(...list.prompts.map(row));
  if (focused) $("queue").querySelector(`[data-prompt="${CSS.escape(focused)}"]`)?.focus();
  $("queue-empty").hidden = list.total > 0;
  $("queue-more").hidden = list.total <= list.prompts.length;
  $("queue-more").textContent = `and ${list.total - list.prompts.length} more`;
}

const place = (p) => (p.status !== "queued" ? p.status : p.ahead === 0 ? "next" : `${p.ahead} queued before it`);

function row(p) {
  const stop = h("button", { type: "button", "aria-label": `Cancel ${p.prompt_id}` }, "Cancel");
  stop.dataset.prompt = p.prompt_id;
  stop.addEventListener("click", async () => {
    stop.disabled = true;
    try { await cancel(p.prompt_id); await refresh(); } catch (error) { toast(error.message); stop.disabled = false; }
  });
  return h("li", { "data-id": p.prompt_id },
    h("div", {}, h("strong", {}, place(p)), h("div", { className: "muted" }, `${p.prompt_id} · ${when(p.timings.created)}`)),
    stop, p.status === "running" ? bar(p.prompt_id) : null);
}
