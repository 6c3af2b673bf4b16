// What the server says about itself.

import { $, bytes, h } from "./dom.js";
import { json, request } from "./api.js";

async function probe(path) {
  const answer = await request(path);
  const text = (await answer.text()).slice(0, 2000);
  return `${answer.ok ? "yes" : "no"} (${answer.status})${answer.ok ? "" : `: ${text}`}`;
}

export async function refresh() {
  const [alive, ready, stats, prompt, named] = await Promise.all([
    probe("/healthz"), probe("/readyz"), json("/system_stats"), json("/prompt"), json("/workflows"),
  ]);
  const rows = [["Alive", alive], ["Ready", ready], ["Version", stats.system.comfyrun_version ?? "–"],
    ["Prompts to run", String(prompt.exec_info.queue_remaining)],
    ["Memory", `${bytes(stats.system.ram_free)} free of ${bytes(stats.system.ram_total)}`]];
  for (const d of stats.devices) rows.push([`Device ${d.name}`, `${bytes(d.vram_free)} free of ${bytes(d.vram_total)}`]);
  $("health").replaceChildren(...rows.flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
  $("health-workflows").replaceChildren(...named.workflows.map((w) => h("li", {},
    h("div", {}, h("strong", {}, w.name), h("div", { className: "muted" }, w.digest ? `version ${w.digest.slice(0, 12)}` : "not offered"),
      w.error ? h("p", { className: "problem" }, w.error) : null))));
}
