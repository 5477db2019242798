"use strict";
// Keeps the table of the page live. Without it the page is a table that the browser loads again.
// Everything that comes from the agent becomes text, never markup.

const PERIOD = 2000;
const PATIENCE = 8000;
const columns = [...document.querySelectorAll("thead th")];
const body = document.body;
const state = { column: columns.findIndex((head) => head.hasAttribute("aria-sort")), falling: true, filter: "", paused: false };
let latest = null;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function strip(levels, label) {
  const made = element("span", undefined, "strip");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  made.title = label;
  for (const level of levels) made.append(element("i", undefined, level > 0 ? `h${level}` : ""));
  return made;
}

function cell(value, head) {
  const made = element("td", undefined, head.className);
  if (value.strip) {
    made.append(strip(value.strip, value.text));
    return made;
  }
  made.textContent = value.text;
  if (value.bar !== undefined) {
    const bar = element("progress");
    bar.max = 1;
    bar.value = value.bar;
    bar.setAttribute("aria-hidden", "true");
    made.append(bar);
  }
  return made;
}

// What has no value comes last, whichever way is up.
function order(a, b) {
  const [left, right] = [a.cells[state.column].sort, b.cells[state.column].sort];
  if (left === null || right === null) return (left === null) - (right === null);
  const rising = typeof left === "string" ? left.localeCompare(right) : left - right;
  return state.falling ? -rising : rising;
}

function show() {
  if (!latest) return;
  const wanted = state.filter.toLowerCase();
  const chosen = latest.rows.filter((row) => row.cells[0].text.toLowerCase().includes(wanted)).sort(order);
  const rows = chosen.map((row) => {
    const made = element("tr");
    made.append(...row.cells.map((value, index) => cell(value, columns[index])));
    return made;
  });
  document.getElementById("rows").replaceChildren(...rows);
  document.getElementById("more").textContent = latest.more;
  const summary = latest.summary.map(({ name, text }) => {
    const made = element("div");
    made.append(element("dt", name), element("dd", text));
    return made;
  });
  document.getElementById("summary").replaceChildren(...summary);
  columns.forEach((head, index) => {
    if (index === state.column) head.setAttribute("aria-sort", state.falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function say(text, stale) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
  body.classList.toggle("stale", stale);
}

async function load() {
  const answer = await fetch("api/loops", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  latest = await answer.json();
  // Another agent has taken the address over: its page may be another one.
  if (latest.version !== body.dataset.version) location.reload();
  say(latest.status, false);
  show();
}

async function turn() {
  if (!state.paused && !document.hidden) {
    try {
      await load();
    } catch (error) {
      const why = error instanceof TypeError || error.name === "TimeoutError" ? "the agent does not answer" : error.message;
      say(`${why}; trying again`, true);
    }
  }
  setTimeout(turn, PERIOD);
}

function pause() {
  state.paused = !state.paused;
  const button = document.getElementById("pause");
  button.setAttribute("aria-pressed", String(state.paused));
  button.textContent = state.paused ? "Go on" : "Pause";
  if (state.paused) say("paused", false);
}

columns.forEach((head, index) => {
  const button = element("button", head.textContent);
  button.type = "button";
  button.addEventListener("click", () => {
    state.falling = index === state.column ? !state.falling : head.dataset.first !== "rising";
    state.column = index;
    show();
  });
  head.replaceChildren(button);
});
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  state.filter = filter.value;
  show();
});
document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("pause").addEventListener("click", pause);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target === filter) {
    if (event.key === "Escape") filter.blur();
  } else if (event.key === "/") {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "p") {
    pause();
  }
});
document.getElementById("tools").hidden = false;
turn();
