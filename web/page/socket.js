// The websocket: events of this page's prompts, and of those that belong to nobody. It connects again by itself.

import { $ } from "./dom.js";
import { request } from "./api.js";

export const clientId = crypto.randomUUID?.() ?? `page-${Math.random().toString(36).slice(2)}${Date.now().toString(36)}`;
const listeners = new Set();
export const onEvent = (f) => listeners.add(f);
const tell = (type, data) => listeners.forEach((f) => f(type, data));

function state(word) {
  $("connection").textContent = word;
  $("connection").dataset.state = word === "live" ? "open" : "closed";
}

// A binary frame is a picture of a sampling: 1 alone, 4 with what it belongs to.
function binary(buffer) {
  const view = new DataView(buffer);
  const kind = view.getUint32(0);
  if (kind === 1) {
    const mime = view.getUint32(4) === 2 ? "image/png" : "image/jpeg";
    tell("preview", { blob: new Blob([buffer.slice(8)], { type: mime }) });
  } else if (kind === 4) {
    const size = view.getUint32(4);
    const about = JSON.parse(new TextDecoder().decode(buffer.slice(8, 8 + size)));
    tell("preview", { ...about, blob: new Blob([buffer.slice(8 + size)], { type: about.image_type }) });
  }
}

let pause = 500;
export async function connect() {
  await request("/prompt"); // a socket cannot say that it wants a token
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("clientId", clientId);
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    pause = 500;
    state("live");
    socket.send(JSON.stringify({ type: "feature_flags", data: { supports_preview_metadata: true } }));
    tell("open", {});
  };
  socket.onmessage = (m) => {
    if (typeof m.data !== "string") { binary(m.data); return; }
    const event = JSON.parse(m.data);
    tell(event.type, event.data);
  };
  socket.onclose = () => {
    state("reconnecting");
    setTimeout(() => connect().catch(() => socket.onclose()), pause);
    pause = Math.min(pause * 2, 15000);
  };
}
