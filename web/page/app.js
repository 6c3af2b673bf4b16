// The page: five views, one of which is shown; what changes comes over the websocket.

import { $, toast } from "./dom.js";
import { loggedIn, logOut } from "./api.js";
import { connect, onEvent } from "./socket.js";
import * as run from "./run.js";
import * as queue from "./queue.js";
import * as history from "./history.js";
import * as models from "./models.js";
import * as health from "./health.js";

const views = { run, queue, history, models, health };
let shown = "";

function view() {
  const name = location.hash.slice(1);
  const next = name in views ? name : "run";
  for (const key of Object.keys(views)) {
    $(`view-${key}`).hidden = key !== next;
    const link = document.querySelector(`nav a[href="#${key}"]`);
    if (key === next) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown && shown !== next) $("main").focus({ preventScroll: true });
  shown = next;
  refresh(next);
}

async function refresh(name) {
  try { await views[name].refresh(); } catch (error) { toast(error.message); }
}

// Many events come at once; one look at the queue and the history is enough for all of them.
let due;
function soon() {
  due ??= setTimeout(() => {
    due = undefined;
    queue.count().catch(() => {});
    if (shown === "queue" || shown === "history") refresh(shown);
    run.update().catch(() => {});
  }, 200);
}

onEvent((type) => {
  if (type === "status" || type === "open" || type === "execution_success" || type === "execution_error") soon();
});
addEventListener("hashchange", view);
$("log-out").hidden = !loggedIn();
$("log-out").addEventListener("click", logOut);
view();
connect().catch((error) => toast(error.message));
