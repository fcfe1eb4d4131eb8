// The server this page came from: where it is, how it is asked, what it streams.

const base = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

export const $ = (id) => document.getElementById(id);

export function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Kept for this tab alone, so that a reload does not ask again.
const key = $("key");
key.value = sessionStorage.getItem("quire-key") || "";
key.addEventListener("change", () => sessionStorage.setItem("quire-key", key.value));

export function askForKey() {
  if (!$("keyrow").hidden) return;
  $("keyrow").hidden = false;
  key.focus();
}

export async function ask(path, options = {}) {
  const given = key.value.trim();
  const headers = { "Content-Type": "application/json", ...(given && { Authorization: `Bearer ${given}` }) };
  const response = await fetch(base + path, { ...options, headers });
  if (response.status === 401) askForKey();
  else if (response.ok) $("keyrow").hidden = true;
  return response;
}

// The JSON of each event of a stream.
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "data: [DONE]") return;
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}
