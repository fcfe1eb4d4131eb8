// The page's clock: how the server is, once a second while somebody looks.

import { serverIs } from "./chat.js";
import { showCurves, showEngine } from "./engine.js";
import { $, ask } from "./server.js";

const SECOND = 1000, SOON = 300, NEVER_MIND = 2000;
let timer = 0;
let seenReady = false;

async function look() {
  clearTimeout(timer);
  let wait = SECOND;
  try {
    const response = await ask("/live");
    if (response.ok) {
      const live = await response.json();
      $("model").textContent = live.model;
      show("ready", "ready", live.model);
      if ($("engine").offsetParent) {
        showEngine(live);
        await showCurves();
      }
    } else if (response.status === 401) show("", "needs a key");
    else {
      const told = await response.json();
      const words = told.progress || told.status;
      show(told.status === "failed" ? "failed" : "", seenReady ? `restarting: ${words}` : words);
      wait = SOON;
    }
  } catch {
    show("failed", "no connection");
    wait = NEVER_MIND;
  }
  if (!document.hidden) timer = setTimeout(look, wait);
}

function show(kind, words, model = "") {
  const state = $("state");
  if (state.textContent !== words) state.textContent = words;
  state.className = kind;
  const percent = words.match(/(\d+)%/)?.[1];
  $("loading").hidden = percent === undefined;
  if (percent !== undefined) {
    $("loading").setAttribute("aria-valuenow", percent);
    $("loading").firstElementChild.style.width = `${percent}%`;
  }
  seenReady ||= Boolean(model);
  document.body.classList.toggle("stale", !model);
  serverIs(model);
}

$("key").addEventListener("change", look);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
$("turn-page").addEventListener("click", () => {
  const shown = document.body.classList.toggle("engine-shown");
  $("turn-page").setAttribute("aria-pressed", shown);
  $("turn-page").textContent = shown ? "Chat" : "Engine";
  look();
});
look();
