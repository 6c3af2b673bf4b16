// Progress of the running prompts, as the socket tells it.

import { h } from "./dom.js";
import { onEvent } from "./socket.js";

const known = new Map(); // prompt id: {done, total}
const bars = new Map(); // prompt id: elements

// bar makes a progress element that follows a prompt.
export function bar(id) {
  const e = h("progress", { max: 1, "aria-label": "Progress" });
  const all = bars.get(id) ?? new Set();
  for (const old of all) if (!old.isConnected) all.delete(old);
  all.add(e);
  bars.set(id, all);
  draw(id);
  return e;
}

function draw(id) {
  const p = known.get(id);
  if (!p) return;
  for (const e of bars.get(id) ?? []) e.value = p.total ? p.done / p.total : 0;
}

onEvent((type, data) => {
  const id = data?.prompt_id;
  if (!id) return;
  if (type === "progress") {
    known.set(id, { done: data.value, total: data.max });
    draw(id);
  } else if (type === "execution_success" || type === "execution_error" || type === "execution_interrupted") {
    known.delete(id);
    bars.delete(id);
  }
});
