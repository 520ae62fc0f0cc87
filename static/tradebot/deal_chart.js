// Candles with fills and price lines, for a deal or for one pair of a bot. The element names where its data comes from:
// <div data-candles="/deals/7/chart/?timeframe=15m">. The tables of the page hold the same figures.
import { candles, color } from "./charts.js";

const places = (step) => Math.max(0, Math.min(12, Math.round(-Math.log10(step))));

const LINES = {
  target: () => ({ color: color("profit"), lineStyle: 0, lineWidth: 2 }),
  average: () => ({ color: color("ink-2"), lineStyle: 0, lineWidth: 1 }),
  next: () => ({ color: color("accent"), lineStyle: 2, lineWidth: 1 }),
  limit: () => ({ color: color("accent"), lineStyle: 0, lineWidth: 1 }),
  stop: () => ({ color: color("loss"), lineStyle: 0, lineWidth: 2 }),
};

function marker(mark) {
  const below = mark.side === "buy";
  const look = {
    base: { shape: "circle", color: color("accent") },
    add: { shape: below ? "arrowUp" : "arrowDown", color: color("accent") },
    exit: { shape: below ? "arrowUp" : "arrowDown", color: color(mark.won === false ? "loss" : "profit") },
  }[mark.kind];
  return { time: mark.time, position: below ? "belowBar" : "aboveBar", text: mark.text, ...look };
}

function draw(element, data) {
  const { chart, series, charts } = candles(element, places(data.step), data.timeframe);
  series.setData(data.candles.map(([time, open, high, low, close]) => ({ time, open, high, low, close })));
  data.lines.forEach(({ kind, title, price }) => series.createPriceLine({ price, title, axisLabelVisible: true, ...LINES[kind]() }));
  charts.createSeriesMarkers(series, data.marks.map(marker));
  const prices = data.lines.map((line) => line.price);
  series.applyOptions({
    autoscaleInfoProvider: (original) => {
      const info = original();
      if (info && prices.length) {
        info.priceRange.minValue = Math.min(info.priceRange.minValue, ...prices);
        info.priceRange.maxValue = Math.max(info.priceRange.maxValue, ...prices);
      }
      return info;
    },
  });
  chart.priceScale("right").applyOptions({ scaleMargins: { top: 0.06, bottom: 0.06 } });
  chart.timeScale().fitContent();
  return () => chart.remove();
}

const drawn = new WeakMap();

async function show(element) {
  const source = element.dataset.candles;
  try {
    const answer = await fetch(source, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(answer.status);
    const data = await answer.json();
    if (element.dataset.candles !== source) return; // another pair was chosen meanwhile
    if (!data.candles.length) {
      say(element, `There are no ${data.timeframe} candles of ${data.product} yet.`);
      return;
    }
    paint(element, data);
  } catch {
    say(element, "The candles could not be loaded. The tables have every figure.");
  }
}

function paint(element, data) {
  drawn.get(element)?.clear();
  element.replaceChildren();
  drawn.set(element, { data, clear: draw(element, data) });
}

function say(element, text) {
  drawn.get(element)?.clear();
  drawn.delete(element);
  const line = Object.assign(document.createElement("p"), { className: "chart-wait s muted", textContent: text });
  element.replaceChildren(line);
}

const all = (root) => root.querySelectorAll("[data-candles]");
all(document).forEach(show);

// The pair is chosen in a select beside the chart; without scripts its button does the same by reloading.
document.addEventListener("change", (event) => {
  const choice = event.target.closest("[data-chart-of]");
  if (!choice) return;
  const element = document.getElementById(choice.dataset.chartOf);
  element.dataset.candles = choice.selectedOptions[0].dataset.url;
  show(element);
});

addEventListener("tradebot:theme", () => all(document).forEach((element) => {
  const known = drawn.get(element);
  if (known) paint(element, known.data);
}));

// A fill belongs on the chart; new candles come by themselves.
let due = null;
const again = () => {
  clearTimeout(due);
  due = setTimeout(() => all(document).forEach(show), 600);
};
document.body.addEventListener("order_fill", again);
setInterval(() => document.hidden || again(), 60000);
