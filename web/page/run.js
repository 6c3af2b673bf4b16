// Running named workflows: a form made from the schema, and what becomes of the prompts that it started.

import { $, h, toast } from "./dom.js";
import { json, written } from "./api.js";
import { clientId, onEvent } from "./socket.js";
import { field } from "./form.js";
import { bar } from "./progress.js";
import { about, open, pictures } from "./picture.js";
import { cancel } from "./queue.js";

let known = []; // the list of workflows, as last seen
let fields = [];
let digest = "";

export async function refresh() {
  known = (await json("/workflows")).workflows;
  const select = $("workflow");
  const chosen = select.value || new URLSearchParams(location.search).get("workflow");
  select.replaceChildren(...known.map((w) => h("option", { value: w.name, disabled: !w.digest }, w.title)));
  const now = known.find((w) => w.name === chosen && w.digest) ?? known.find((w) => w.digest);
  select.disabled = !now;
  if (!now) {
    $("workflow-about").textContent = known.length ? "No workflow checks." : "This server offers no named workflows (comfyrun serve --workflows DIR).";
    $("workflow-form").replaceChildren();
    return;
  }
  select.value = now.name;
  if (digest !== now.name + now.digest) await build(now);
}

$("workflow").addEventListener("change", () => build(known.find((w) => w.name === $("workflow").value)).catch((e) => toast(e.message)));

async function build(entry) {
  const w = await json(`/workflows/${encodeURIComponent(entry.name)}`);
  digest = w.name + w.digest;
  $("workflow-about").textContent = w.description;
  $("workflow-problem").hidden = !w.error;
  $("workflow-problem").textContent = w.error ? `The newest version does not check; the one before it is offered.\n${w.error}` : "";
  const required = new Set(w.schema.required);
  fields = Object.entries(w.schema.properties).map(([name, s]) => field(name, s, required.has(name)));
  const plain = fields.filter((f) => !f.advanced).map((f) => f.element);
  const hidden = fields.filter((f) => f.advanced).map((f) => f.element);
  const more = hidden.length ? h("details", {}, h("summary", {}, "More"), ...hidden) : null;
  $("workflow-form").replaceChildren(...plain, ...(more ? [more] : []),
    h("div", { className: "buttons" }, h("button", { className: "main", id: "workflow-run" }, "Run")));
}

// values gathers the form: JSON, or multipart when files go with it.
function values() {
  const given = fields.map((f) => [f.name, f.value()]).filter(([, v]) => v !== undefined);
  if (!given.some(([, v]) => v instanceof File)) {
    return { body: written(Object.fromEntries(given)), headers: { "Content-Type": "application/json" } };
  }
  const form = new FormData();
  for (const [name, v] of given) form.append(name, v instanceof File ? v : String(v));
  return { body: form };
}

$("workflow-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = $("workflow-run");
  button.disabled = true;
  fields.forEach((f) => f.problem(""));
  try {
    const name = encodeURIComponent($("workflow").value);
    const answer = await json(`/workflows/${name}?client_id=${clientId}`, { method: "POST", ...values() });
    follow(answer);
  } catch (error) {
    const wrong = error.body?.parameters;
    let first = true;
    for (const f of fields) {
      if (!wrong?.[f.name]) continue;
      f.problem(wrong[f.name].message);
      if (first) f.focus();
      first = false;
    }
    if (first) toast(error.message);
  } finally {
    button.disabled = false;
  }
});

const running = new Map(); // prompt id: {card, preview, text}
const mostCards = 12;

function follow(answer) {
  const id = answer.prompt_id;
  const text = h("p", { className: "muted" }, "queued");
  const preview = h("img", { className: "preview", alt: "Preview of the picture", hidden: true });
  const stop = h("button", { type: "button", "aria-label": "Cancel this run" }, "Cancel");
  stop.addEventListener("click", () => cancel(id).catch((e) => toast(e.message)));
  const card = h("article", { className: "card", "data-id": id },
    h("strong", {}, answer.workflow?.name ?? id), text, bar(id), preview, h("div", { className: "buttons" }, stop));
  $("live").prepend(card);
  while ($("live").children.length > mostCards) $("live").lastChild.remove();
  running.set(id, { card, preview, text });
  update().catch(() => {});
}

// update looks where the prompts of this page stand, and shows the results of those that have ended.
export async function update() {
  for (const [id, r] of running) {
    const result = await json(`/prompt/${encodeURIComponent(id)}`).catch((error) => error.body ?? { error });
    if (result.status === "queued") r.text.textContent = result.ahead ? `queued behind ${result.ahead}` : "next";
    else if (result.status === "running" || result.status === "lost") r.text.textContent = result.status;
    else { running.delete(id); finish(r, result); }
  }
}

function finish(r, result) {
  if (r.preview.src) URL.revokeObjectURL(r.preview.src);
  if (!result.outputs) { // it is gone
    r.card.replaceChildren(h("p", { className: "problem" }, result.error?.message ?? "cancelled"));
    return;
  }
  const shown = pictures(result).map((o) => {
    const b = h("button", { type: "button", "aria-label": "Show the picture large" }, h("img", { className: "result", src: o.content_url, alt: result.parameters?.prompt ?? "" }));
    b.addEventListener("click", () => open(result, o));
    return b;
  });
  const details = h("button", { type: "button" }, "Details");
  details.addEventListener("click", () => open(result, pictures(result)[0]));
  const problem = result.error ? h("p", { className: "problem" }, result.error.message) : null;
  r.card.replaceChildren(h("strong", {}, result.workflow?.name ?? result.prompt_id), h("p", { className: "muted" }, about(result)), ...(problem ? [problem] : []),
    ...shown, h("div", { className: "buttons" }, details));
  r.card.dataset.status = result.status;
}

onEvent((type, data) => {
  if (type === "executing" && data.node === null) update().catch(() => {});
  if (type === "execution_start") update().catch(() => {});
  if (type !== "preview") return;
  const r = running.get(data.prompt_id) ?? (running.size === 1 && !data.prompt_id ? [...running.values()][0] : undefined);
  if (!r) return;
  if (r.preview.src) URL.revokeObjectURL(r.preview.src);
  r.preview.src = URL.createObjectURL(data.blob);
  r.preview.hidden = false;
});
