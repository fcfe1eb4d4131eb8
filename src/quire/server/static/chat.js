// A conversation: turns on the left of the page, answers as they stream.

import { $, ask, element, events } from "./server.js";

const talk = $("talk"), say = $("say"), send = $("send"), scroller = $("scroll");
const messages = []; // what the model has seen and said
let running = null; // the AbortController of the answer being written
let model = ""; // empty until the server is ready

// Request ids of this tab begin with it, so that the engine's side can say which are ours.
export const mine = `page-${Math.random().toString(36).slice(2, 8)}`;
let asked = 0;

export function serverIs(name) {
  model = name;
  enable();
}

function enable() {
  send.textContent = running ? "Stop" : "Send";
  send.disabled = !running && (!model || !say.value.trim());
  for (const chip of $("tries").children) chip.disabled = !model;
}

// --- turns ---

function addTurn(role, text) {
  $("empty").hidden = true;
  $("fresh").hidden = false;
  const turn = element("div", `turn ${role}`);
  if (role === "user") turn.textContent = text;
  else {
    turn.thought = element("details", "thought");
    turn.thought.hidden = true;
    turn.thought.append(element("summary", "", "Reasoning"), element("div"));
    turn.body = element("div", "text");
    turn.foot = element("div", "foot");
    turn.append(turn.thought, turn.body, turn.foot);
  }
  talk.append(turn);
  return turn;
}

// Code and strong text are shown as such; everything else is text, never HTML.
function render(target, text) {
  const made = [];
  const blocks = text.split(/^```([^\n`]*)\n([\s\S]*?)(?:^```[^\S\n]*$\n?|(?![\s\S]))/m);
  for (let i = 0; i < blocks.length; i += 3) {
    const words = blocks[i].split(/`([^`\n]+)`|\*\*([^*\n]+)\*\*/);
    for (let j = 0; j < words.length; j += 3) {
      if (words[j]) made.push(document.createTextNode(words[j]));
      if (words[j + 1]) made.push(element("code", "", words[j + 1]));
      if (words[j + 2]) made.push(element("strong", "", words[j + 2]));
    }
    if (blocks[i + 2] !== undefined) {
      made.push(element("pre"));
      made.at(-1).append(element("code", "", blocks[i + 2]));
    }
  }
  target.replaceChildren(...made);
}

// --- an answer ---

function body() {
  const wanted = { model, stream: true, stream_options: { include_usage: true }, messages: [...messages] };
  wanted.request_id = `${mine}-${++asked}`;
  const system = $("system").value.trim();
  if (system) wanted.messages.unshift({ role: "system", content: system });
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    const value = $(name).value.trim();
    if (value) wanted[name] = Number(value);
  }
  return JSON.stringify(wanted);
}

async function answer() {
  for (const old of document.querySelectorAll(".again")) old.remove();
  const turn = addTurn("assistant");
  turn.classList.add("live");
  turn.setAttribute("aria-busy", "true");
  running = new AbortController();
  enable();
  scroller.scrollTop = scroller.scrollHeight;
  const seen = { text: "", thought: "", start: performance.now(), first: 0, usage: null, end: "" };
  let drawing = false;
  const draw = () => {
    drawing = false;
    const follow = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
    render(turn.body, seen.text);
    turn.thought.hidden = !seen.thought;
    turn.thought.open = !seen.text;
    turn.thought.lastChild.textContent = seen.thought;
    if (follow) scroller.scrollTop = scroller.scrollHeight;
  };
  try {
    const response = await ask("/v1/chat/completions", { method: "POST", body: body(), signal: running.signal });
    if (!response.ok) throw new Error(await reason(response));
    for await (const chunk of events(response.body)) {
      if (chunk.error) throw new Error(chunk.error.message);
      seen.usage = chunk.usage || seen.usage;
      const choice = chunk.choices[0];
      if (!choice) continue;
      if (choice.delta.content || choice.delta.reasoning) seen.first ||= performance.now();
      seen.text += choice.delta.content || "";
      seen.thought += choice.delta.reasoning || "";
      seen.end = choice.finish_reason || seen.end;
      if (!drawing) { drawing = true; requestAnimationFrame(draw); }
    }
    if (!seen.end) throw new Error("The connection ended before the answer did.");
  } catch (error) {
    if (error.name === "AbortError") seen.end = "stopped";
    else turn.foot.before(element("div", "bad", error.message));
  }
  draw();
  turn.classList.remove("live");
  turn.removeAttribute("aria-busy");
  running = null;
  if (seen.text) messages.push({ role: "assistant", content: seen.text });
  turn.foot.append(...figures(seen), again(turn, Boolean(seen.text)));
  enable();
  if (!getSelection().toString()) say.focus();
}

function figures(seen) {
  const told = [];
  if (seen.first) told.push(`first token ${Math.round(seen.first - seen.start)} ms`);
  if (seen.usage) {
    const count = seen.usage.completion_tokens, seconds = (performance.now() - seen.first) / 1000;
    told.push(`${count} token${count === 1 ? "" : "s"}`);
    if (count > 1) told.push(`${Math.round((count - 1) / seconds)} tokens/s`);
  }
  if (seen.end === "length") told.push("cut at the token limit");
  if (seen.end === "stopped") told.push("stopped");
  return told.map((words) => element("span", "", words));
}

function again(turn, spoke) {
  const button = element("button", "again", "again");
  button.type = "button";
  button.onclick = () => {
    if (running) return;
    if (spoke) messages.pop();
    turn.remove();
    answer();
  };
  return button;
}

async function reason(response) {
  if (response.status === 401) return "The server wants an API key.";
  const told = await response.json().catch(() => null);
  return told?.error?.message || `The server answered ${response.status}.`;
}

// --- hands on the page ---

function submit(text) {
  messages.push({ role: "user", content: text });
  addTurn("user", text);
  answer();
}

function fit() {
  say.style.height = "auto";
  say.style.height = `${say.scrollHeight}px`;
  enable();
}

$("form").addEventListener("submit", (happened) => {
  happened.preventDefault();
  const text = say.value.trim();
  if (running) running.abort();
  else if (text && model) {
    say.value = "";
    fit();
    submit(text);
  }
});
say.addEventListener("input", fit);
say.addEventListener("keydown", (pressed) => {
  if (pressed.key !== "Enter" || pressed.shiftKey || pressed.isComposing) return;
  pressed.preventDefault();
  if (!running) $("form").requestSubmit();
});
addEventListener("keydown", (pressed) => { if (pressed.key === "Escape") running?.abort(); });
$("fresh").addEventListener("click", () => {
  running?.abort();
  messages.length = 0;
  for (const turn of talk.querySelectorAll(".turn")) turn.remove();
  $("empty").hidden = false;
  $("fresh").hidden = true;
  say.focus();
});
for (const text of ["What is the capital of France?", "Tell me a short story.", "What is 12 + 30?"]) {
  const chip = element("button", "chip", text);
  chip.type = "button";
  chip.disabled = true;
  chip.onclick = () => { if (!running) submit(text); };
  $("tries").append(chip);
}
