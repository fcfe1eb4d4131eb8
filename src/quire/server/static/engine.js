// The live engine, on the right of the page: page maps, requests, figures, curves.

import { mine } from "./chat.js";
import { Curve } from "./curve.js";
import { $, ask, element } from "./server.js";

const throughput = new Curve($("throughput"), ["generated", "prompt"], (v) => round(v), "tokens/s");
const latency = new Curve($("latency"), ["first token", "each token"], (v) => `${round(v)} ms`);
const MOST_ROWS = 8;

const round = (v) => (v >= 10 ? Math.round(v).toLocaleString("en") : v.toFixed(1));
const count = (v) => v.toLocaleString("en");
const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part && part < whole ? 1 : 0)}%` : "–");

export function showEngine(live) {
  const { stats, running, waiting, pools } = live.view;
  $("running").textContent = stats.num_running;
  $("waiting").textContent = stats.num_waiting + live.queued;
  $("usage").textContent = `${(100 * stats.kv_usage).toFixed(stats.kv_usage ? 1 : 0)}%`;
  $("hits").textContent = share(stats.prefix_hits, stats.prefix_queries);
  showMaps(pools, running, live.page_size);
  showRequests(running, waiting, stats);
  const restarts = live.restarts ? `, restarted ${live.restarts}×` : "";
  $("facts").textContent =
    `${live.architecture} in ${live.dtype} on ${live.device}, up to ${count(live.max_model_len)} tokens` +
    ` and ${live.max_num_seqs} sequences${restarts}`;
}

// --- the page maps ---

// A request keeps its colour; neighbours in time are far apart on the wheel.
const hues = new Map();
function colour(request) {
  const name = `${request.request_id}/${request.index}`;
  if (!hues.has(name)) {
    if (hues.size > 500) hues.clear();
    hues.set(name, (hues.size * 137.5 + 40) % 360);
  }
  return `oklch(${style("--depth")} 0.15 ${hues.get(name)})`;
}
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function showMaps(pools, running, pageSize) {
  const maps = $("maps");
  while (maps.children.length < pools.length) {
    const map = element("div");
    map.append(element("canvas"), element("p", "count"));
    map.firstChild.setAttribute("role", "img");
    maps.append(map);
  }
  const colours = running.map(colour);
  pools.forEach((pool, i) => {
    const [canvas, words] = maps.children[i].children;
    paint(canvas, pool.cells, colours);
    const free = pool.cells.filter((cell) => cell === 0).length, cached = pool.cells.filter((cell) => cell === 1).length;
    const held = pool.cells.length - free - cached;
    const each = pool.stride > 1 ? `, one in ${pool.stride} shown` : "";
    const group = pools.length > 1 ? `group ${i + 1}: ` : "";
    words.textContent = `${group}${count(pool.num_pages)} pages of ${pageSize} tokens${each}: ${count(held)} held, ${count(cached)} findable`;
    canvas.setAttribute("aria-label", words.textContent);
    Object.assign(canvas.dataset, { held, cached, shared: pool.cells.filter((cell) => cell > 1 && cell % 2).length });
  });
}

// 0: free; 1: free, still findable; 2 + 2i (+ 1 if shared): held by running request i, or another.
function paint(canvas, cells, colours) {
  const width = canvas.clientWidth, sharp = devicePixelRatio || 1;
  if (!width) return;
  let size = 18;
  while (size > 3 && Math.ceil(cells.length / Math.floor(width / size)) * size > 220) size--;
  const columns = Math.floor(width / size), gap = size > 4 ? 1 : 0;
  const height = Math.ceil(cells.length / columns) * size;
  canvas.style.height = `${height}px`;
  canvas.width = width * sharp;
  canvas.height = height * sharp;
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  const plain = [style("--cell"), style("--cached")], sheet = style("--sheet"), other = style("--faint");
  cells.forEach((cell, i) => {
    const x = (i % columns) * size, y = Math.floor(i / columns) * size, side = size - gap;
    pen.fillStyle = cell < 2 ? plain[cell] : (colours[(cell >> 1) - 1] ?? other);
    pen.fillRect(x, y, side, side);
    if (cell > 1 && cell % 2) {
      pen.fillStyle = sheet;
      const inset = side / 3;
      pen.fillRect(x + inset, y + inset, side - 2 * inset, side - 2 * inset);
    }
  });
}

// --- requests ---

function showRequests(running, waiting, stats) {
  const all = [...running.map((r) => ({ ...r, colour: colour(r) })), ...waiting];
  const rows = all.slice(0, MOST_ROWS).map((request) => {
    const row = element("tr"), name = element("td"), swatch = element("i");
    swatch.style.background = request.colour || "";
    const ours = request.request_id.includes(mine);
    name.append(swatch, ours ? "this page" : element("code", "", shorten(request)));
    name.title = request.request_id;
    const figures = [request.num_prompt_tokens, request.num_cached_tokens, request.num_output_tokens, request.num_pages];
    row.append(name, ...figures.map((figure) => element("td", "", count(figure))));
    if (!request.colour) row.lastChild.textContent = "waits";
    return row;
  });
  $("requests").tBodies[0].replaceChildren(...rows);
  $("requests").hidden = !rows.length;
  const more = stats.num_running + stats.num_waiting - rows.length;
  $("quiet").textContent = rows.length ? `and ${count(more)} more` : "Nothing is running. Say something.";
  $("quiet").hidden = rows.length > 0 && more <= 0;
}

const shorten = (request) => request.request_id.replace(/^(chatcmpl|cmpl|resp|msg|embd)-/, "").slice(0, 12);

// --- curves: differences of the counters at /metrics ---

let before = null;

export async function showCurves() {
  const response = await ask("/metrics");
  if (!response.ok) return;
  const now = totals(await response.text());
  now.time = performance.now();
  if (before) {
    const grown = (name) => Math.max(0, (now[name] || 0) - (before[name] || 0));
    const seconds = (now.time - before.time) / 1000;
    const mean = (name) => (grown(`${name}_count`) ? (1000 * grown(`${name}_sum`)) / grown(`${name}_count`) : null);
    throughput.add([grown("generation_tokens_total") / seconds, grown("prompt_tokens_total") / seconds]);
    latency.add([mean("time_to_first_token_seconds"), mean("inter_token_latency_seconds")]);
  }
  before = now;
}

function totals(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(/^[a-z_]+:(\w+)(?:\{[^}]*\})? (\S+)$/gm))
    if (/_(total|sum|count)$/.test(name)) found[name] = (found[name] || 0) + Number(value);
  return found;
}
