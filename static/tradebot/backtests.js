// Backtests: a cursor over the curves, candles with deals in windows, fills that open below their row.
// Pages are complete without: curves are drawn by the server, tables have every figure.
import { candles, color, fmt, signed, zoneOf } from "./charts.js";
import { inSteps } from "./steps.js";

const SVG = "http://www.w3.org/2000/svg";
const json = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "null");
const places = (step) => Math.max(0, Math.min(12, Math.round(-Math.log10(step))));
const moment = (seconds) =>
  new Date(seconds * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

/** The place of the last value at or before `time`. */
function at(times, time) {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= time) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** How many digits tell values of this size apart. */
const digits = (value) => (Math.abs(value) >= 1000 ? 2 : Math.abs(value) >= 10 ? 3 : 5);

const READ = {
  run: (d, i) => `${moment(d.t[i])} · ${fmt(d.equity[i], digits(d.equity[i]))} ${d.unit} · holding ${fmt(d.held[i], digits(d.held[i]))} · drawdown ${fmt(d.falls[i] ?? 0, 1)} %`,
  compare: (d, _, time) => `${moment(time)} · ${d.lines.filter((l) => l.t.length).map((l) => `${l.name} ${signed(l.v[at(l.t, time)], 1)} %`).join(" · ")}`,
};

/** A cursor that follows pointer and arrow keys, and says in words what the curves are there. */
function cursor(box) {
  const data = json(box.dataset.cursor), out = document.getElementById(box.dataset.read), say = READ[box.dataset.kind];
  if (!data || !out || !say) return;
  const first = Number(box.dataset.first), last = Number(box.dataset.last), usual = out.textContent;
  const drawings = [...box.querySelectorAll("svg")];
  const lines = drawings.map((drawing) => {
    const line = document.createElementNS(SVG, "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y1", "0");
    line.setAttribute("y2", "300");
    line.setAttribute("visibility", "hidden");
    return drawing.appendChild(line);
  });
  let share = null;
  const show = (to) => {
    share = Math.min(1, Math.max(0, to));
    const time = first + share * (last - first);
    lines.forEach((line) => {
      line.setAttribute("x1", share * 1000);
      line.setAttribute("x2", share * 1000);
      line.setAttribute("visibility", "visible");
    });
    out.textContent = say(data, data.t ? at(data.t, time) : 0, time);
  };
  const hide = () => {
    share = null;
    lines.forEach((line) => line.setAttribute("visibility", "hidden"));
    out.textContent = usual;
  };
  box.addEventListener("pointermove", (event) => {
    const place = drawings[0].getBoundingClientRect();
    if (event.clientX >= place.left - 4) show((event.clientX - place.left) / place.width);
  });
  box.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  box.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.01, ArrowRight: 0.01, PageUp: -0.1, PageDown: 0.1, Home: -2, End: 2 }[event.key];
    if (!step) return;
    event.preventDefault();
    show((share ?? (step > 0 ? -step : 1 - step)) + step);
  });
}

// Candles ---------------------------------------------------------------------------------------------------------

function marker(mark) {
  const below = mark.side === "buy";
  const look = {
    base: { shape: "circle", color: color("accent") },
    add: { shape: below ? "arrowUp" : "arrowDown", color: color("accent") },
    exit: { shape: below ? "arrowUp" : "arrowDown", color: color(mark.won === false ? "loss" : "profit") },
  }[mark.kind];
  return { time: mark.time, position: below ? "belowBar" : "aboveBar", text: mark.text, ...look };
}

const shown = new WeakMap();

function paint(element, data) {
  shown.get(element)?.chart.remove();
  shown.delete(element);
  element.replaceChildren();
  if (!data.candles.length) {
    element.append(Object.assign(document.createElement("p"), { className: "chart-wait s muted", textContent: `There are no ${data.timeframe} candles of ${data.product} here.` }));
    return;
  }
  const { chart, series, charts } = candles(element, places(data.step), data.timeframe);
  series.setData(data.candles.map(([time, open, high, low, close]) => ({ time, open, high, low, close })));
  charts.createSeriesMarkers(series, data.marks.map(marker));
  chart.priceScale("right").applyOptions({ scaleMargins: { top: 0.12, bottom: 0.12 } });
  chart.timeScale().fitContent();
  shown.set(element, { chart, data });
}

async function load(element, until) {
  const address = new URL(element.dataset.windows, location.href);
  if (until) address.searchParams.set("until", until);
  try {
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(answer.status);
    const data = await answer.json();
    paint(element, data);
    const days = document.getElementById("chart-days");
    if (days && data.candles.length) days.textContent = `${moment(data.candles[0][0])} to ${moment(data.candles.at(-1)[0])}, times in ${zoneOf(data.timeframe)}`;
    for (const [id, to] of [["chart-earlier", data.earlier], ["chart-later", data.later]]) {
      const button = document.getElementById(id);
      if (!button) continue;
      button.disabled = to === null;
      button.dataset.until = to ?? "";
    }
  } catch {
    element.replaceChildren(Object.assign(document.createElement("p"), { className: "chart-wait s muted", textContent: "The candles could not be loaded. The table of deals has every figure." }));
  }
}

addEventListener("tradebot:theme", () => document.querySelectorAll("[data-windows]").forEach((element) => {
  const known = shown.get(element);
  if (known) paint(element, known.data);
}));

document.addEventListener("click", (event) => {
  const button = event.target.closest("#chart-earlier, #chart-later");
  if (button?.dataset.until) load(document.getElementById("chart"), button.dataset.until);
});

// Fills of a deal open below its row; the link leads to a page of their own without scripts.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-fills]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const row = link.closest("tr"), next = row.nextElementSibling;
  if (next?.classList.contains("fills-row")) {
    next.hidden = !next.hidden;
  } else {
    const answer = await fetch(link.href, { headers: { "HX-Request": "true" } }).catch(() => null);
    if (!answer?.ok) {
      location.assign(link.href);
      return;
    }
    const made = document.createElement("tr"), cell = document.createElement("td");
    made.className = "fills-row";
    cell.colSpan = row.cells.length;
    cell.innerHTML = await answer.text(); // our own server's markup
    made.append(cell);
    row.after(made);
  }
  link.setAttribute("aria-expanded", String(!row.nextElementSibling.hidden));
});

// At most six runs are compared; the button says how many are chosen.
function chosen() {
  const boxes = [...document.querySelectorAll('input[name="run"][form="compare"]')];
  const count = boxes.filter((box) => box.checked).length, button = document.getElementById("compare-button");
  if (!button) return;
  const most = Number(button.dataset.most);
  button.disabled = count < 2;
  button.textContent = count < 2 ? "Compare" : `Compare ${count}`;
  boxes.forEach((box) => (box.disabled = !box.checked && count >= most));
}
document.addEventListener("change", (event) => event.target.name === "run" && chosen());

// A pair is added by Enter, by the button, or by choosing it from the list.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.target.id !== "wanted-pair") return;
  event.preventDefault();
  document.getElementById("add-pair").click();
});
document.addEventListener("input", (event) => {
  const field = event.target;
  if (field.id !== "wanted-pair" || event.inputType === "insertText") return;
  if ([...(field.list?.options ?? [])].some((option) => option.value === field.value)) document.getElementById("add-pair").click();
});

const started = new WeakSet();
function begin() {
  const fresh = (selector) => [...document.querySelectorAll(selector)].filter((element) => !started.has(element) && started.add(element));
  fresh(".plots[data-cursor]").forEach(cursor);
  fresh("[data-windows]").forEach((element) => load(element));
  chosen();
}
begin();
for (const name of ["htmx:afterSettle", "htmx:oobAfterSwap"]) document.addEventListener(name, begin);

// What the socket tells of a run's progress renews the parts that wait for it; without it they ask by themselves.
document.body.addEventListener("task", () => document.querySelectorAll("[data-task]").forEach((element) => window.htmx?.trigger(element, "task-told")));

const form = document.getElementById("run-form");
if (form) inSteps(form);
