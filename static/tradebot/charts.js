// Charts: colours from the tokens, uPlot for lines and bars, lightweight-charts for candles.
// A chart never holds the only copy of a figure; the page beside it is complete without scripts.
//
// A chart is an element with data-chart="<kind>" and data-source="<id of a JSON block>". `register` adds kinds.
// Painted charts repaint when the theme changes and after a fragment was swapped in.

const kinds = new Map();
const undo = new WeakMap();

/** Add a kind of chart: draw(element, data) returns a function that takes it away again, or nothing. */
export function register(kind, draw) {
  kinds.set(kind, draw);
  paint(document);
}

/** Parse a JSON block: <script type="application/json" id="…">. */
export function data(id) {
  const node = document.getElementById(id);
  return node ? JSON.parse(node.textContent) : null;
}

/** Resolve a token to rgb(), because canvases cannot read light-dark(). */
export function color(name, alpha) {
  const probe = document.body.appendChild(Object.assign(document.createElement("i"), { hidden: true }));
  probe.style.color = `var(--tb-${name})`;
  const rgb = getComputedStyle(probe).color;
  probe.remove();
  return alpha === undefined ? rgb : rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);
}

export const font = () => getComputedStyle(document.body).fontFamily;

/** Write a number with thin spaces and a real minus. */
export const fmt = (value, digits) =>
  (value < 0 ? "\u2212" : "") +
  Math.abs(value).toFixed(digits).replace(/^\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, "\u2009"));
export const signed = (value, digits) => (value > 0 ? "+" : "") + fmt(value, digits);

/** Write a day; the data's days are the reader's own, given as UTC midnights. */
export const day = (seconds) =>
  new Date(seconds * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

/** Write a day once, at its first tick. */
export const days = (ticks) => ticks.map(day).map((text, i, all) => (text === all[i - 1] ? "" : text));

/** The reader's time zone; daily and longer candles are days of UTC, whoever looks. */
export const zoneOf = (timeframe) => (/[dw]$/.test(timeframe ?? "") ? "UTC" : document.documentElement.dataset.zone || "UTC");

/** What a candle chart writes below it and beside its cross: moments in the reader's zone. */
function clockOf(timeframe) {
  const zone = zoneOf(timeframe), long = /[dw]$/.test(timeframe ?? "");
  const write = (options) => {
    const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options });
    return (seconds) => format.format(new Date(seconds * 1000));
  };
  const ticks = [{ year: "numeric" }, { month: "short" }, { day: "numeric" }, { hour: "2-digit", minute: "2-digit" }, { hour: "2-digit", minute: "2-digit", second: "2-digit" }].map(write);
  const full = { day: "numeric", month: "short", year: "2-digit" };
  return {
    tick: (seconds, kind) => ticks[kind](seconds),
    cross: write(long ? full : { ...full, hour: "2-digit", minute: "2-digit" }),
  };
}

/** Axis defaults for uPlot. */
export const axis = (options = {}) => ({
  stroke: color("ink-3"),
  font: `11px ${font()}`,
  grid: { stroke: color("line"), width: 1 },
  ticks: { show: false },
  ...options,
});

/** Draw every chart inside `root` anew. */
export function paint(root) {
  const found = root.matches?.("[data-chart]") ? [root] : root.querySelectorAll("[data-chart]");
  found.forEach((element) => {
    if (!element.isConnected) return;
    const draw = kinds.get(element.dataset.chart);
    const values = draw && data(element.dataset.source);
    if (!values) return;
    undo.get(element)?.();
    element.replaceChildren();
    const clear = draw(element, values);
    if (clear) undo.set(element, clear);
  });
}

/** An empty candle chart. Rising candles are hollow, falling ones filled: shape before colour. */
export function candles(element, precision, timeframe) {
  element.replaceChildren();
  const clock = clockOf(timeframe);
  const charts = window.LightweightCharts;
  const chart = charts.createChart(element, {
    autoSize: true,
    layout: {
      background: { color: "transparent" }, textColor: color("ink-3"), fontFamily: font(), fontSize: 11,
      attributionLogo: false, // it brings a style element, which the content security policy refuses; see mark()
    },
    grid: { vertLines: { visible: false }, horzLines: { color: color("line") } },
    rightPriceScale: { borderVisible: false },
    timeScale: { borderColor: color("line"), timeVisible: true, secondsVisible: false, tickMarkFormatter: clock.tick },
    crosshair: { mode: charts.CrosshairMode.Normal },
    localization: { priceFormatter: (price) => fmt(price, precision), timeFormatter: clock.cross },
    handleScroll: { vertTouchDrag: false },
  });
  const series = chart.addSeries(charts.CandlestickSeries, {
    upColor: color("surface"), borderUpColor: color("profit"), wickUpColor: color("profit"),
    downColor: color("loss"), borderDownColor: color("loss"), wickDownColor: color("loss"),
    priceFormat: { type: "price", precision, minMove: 10 ** -precision }, lastValueVisible: true, priceLineVisible: false,
  });
  mark(element);
  return { chart, series, charts };
}

function mark(element) {
  const link = document.createElement("a");
  Object.assign(link, { className: "chart-mark", href: "https://www.tradingview.com/", target: "_blank", rel: "noopener", textContent: "Charts by TradingView" });
  element.append(link);
}

/** Keep a uPlot as wide as its element, and as high as `height()` says. Returns the function that takes it away. */
export function follow(element, plot, height) {
  const observer = new ResizeObserver(() => plot.setSize({ width: inner(element), height: height() }));
  observer.observe(element);
  return () => {
    observer.disconnect();
    plot.destroy();
  };
}

export const inner = (element) => Math.max(120, element.clientWidth - 16);

// Amounts along an axis: as many digits as the step between two ticks needs, and room for the widest of them.
const amounts = {
  values: (_plot, ticks, _axis, _space, step) => {
    const needed = (of) => (of >= 1 ? 0 : Math.min(8, Math.ceil(-Math.log10(of) - 1e-9)));
    const [plain, thousands] = [needed(step), needed(step / 1000)];
    return ticks.map((value) => (Math.abs(value) >= 10000 ? `${fmt(value / 1000, thousands)} k` : fmt(value, plain)));
  },
  size: (_plot, labels) => Math.max(40, 18 + 7 * Math.max(0, ...(labels ?? []).map((label) => label.length))),
};

/** Realised profit, added up day by day; a triangle marks a day won (up) or lost (down). */
register("realised", (element, values) => {
  const height = () => Math.max(320, element.clientHeight - 12);
  const marks = (plot) => {
    const g = plot.ctx, k = devicePixelRatio;
    g.save();
    values.t.forEach((t, i) => {
      const won = values.day[i];
      if (!won) return;
      const x = plot.valToPos(t, "x", true), y = plot.valToPos(values.total[i], "y", true) + (won > 0 ? 12 : -12) * k;
      const tip = (won > 0 ? -1 : 1) * 4 * k;
      g.fillStyle = color(won > 0 ? "profit" : "loss");
      g.beginPath();
      g.moveTo(x - 4 * k, y);
      g.lineTo(x + 4 * k, y);
      g.lineTo(x, y + tip * 1.6);
      g.fill();
    });
    g.restore();
  };
  const plot = new window.uPlot({
    width: inner(element), height: height(), legend: { show: false }, cursor: { y: false }, padding: [14, 24, 0, 0],
    axes: [
      axis({ grid: { show: false }, space: 80, values: (_, ticks) => days(ticks) }),
      axis(amounts),
    ],
    series: [{}, { stroke: color("accent"), width: 2, fill: color("accent", 0.07), paths: window.uPlot.paths.stepped({ align: 1 }), points: { show: false } }],
    hooks: { draw: [marks] },
  }, [values.t, values.total], element);
  return follow(element, plot, height);
});

/** Value over time and, stepped and dashed, what was put in; a dashed upright with words marks a deposit or withdrawal,
 *  a triangle a day won (below the line) or lost (above it). Days without a reading leave a gap. */
register("value", (element, values) => {
  const height = () => Math.max(280, element.clientHeight - 12);
  const marks = (plot) => {
    const g = plot.ctx, k = devicePixelRatio, { left, top, width, height: tall } = plot.bbox;
    g.save();
    g.beginPath();
    g.rect(left, top - 14 * k, width, tall + 14 * k);
    g.clip();
    g.font = `${11 * k}px ${font()}`;
    g.textAlign = "left";
    g.textBaseline = "alphabetic";
    let free = -Infinity;
    values.marks.forEach(({ t, text }) => {
      const x = plot.valToPos(t, "x", true);
      g.strokeStyle = color("ink-2");
      g.lineWidth = k;
      g.setLineDash([3 * k, 3 * k]);
      g.beginPath();
      g.moveTo(x, top);
      g.lineTo(x, top + tall);
      g.stroke();
      const wide = g.measureText(text).width, at = x + wide + 8 * k > left + width ? x - wide - 4 * k : x + 4 * k;
      if (at < free) return; // words never cover words; the list of transfers has them all
      g.fillStyle = color("ink-2");
      g.fillText(text, at, top + tall - 5 * k);
      free = at + wide + 6 * k;
    });
    g.setLineDash([]);
    values.t.forEach((t, i) => {
      const won = values.won[i];
      if (!won || values.value[i] === null) return;
      const x = plot.valToPos(t, "x", true), y = plot.valToPos(values.value[i], "y", true) + won * 13 * k;
      g.fillStyle = color(won > 0 ? "profit" : "loss");
      g.beginPath();
      g.moveTo(x - 4 * k, y);
      g.lineTo(x + 4 * k, y);
      g.lineTo(x, y - won * 6.4 * k);
      g.fill();
    });
    g.restore();
  };
  const plot = new window.uPlot({
    width: inner(element), height: height(), legend: { show: false }, cursor: { y: false }, padding: [18, 24, 0, 0],
    axes: [
      axis({ grid: { show: false }, space: 80, values: (_, ticks) => days(ticks) }),
      axis(amounts),
    ],
    series: [
      {},
      { stroke: color("accent"), width: 2, fill: color("accent", 0.07), points: { show: values.t.length < 3, size: 6, fill: color("accent") } },
      { stroke: color("ink-3"), width: 1.5, dash: [5, 4], paths: window.uPlot.paths.stepped({ align: 1 }), points: { show: false } },
    ],
    hooks: { draw: [marks] },
  }, [values.t, values.value, values.put_in], element);
  return follow(element, plot, height);
});

/** Realised profit of each day as bars, gains above the line and losses below it. */
register("days", (element, values) => {
  const height = () => 242;
  const bars = window.uPlot.paths.bars({ size: [0.62, 48] });
  const plot = new window.uPlot({
    width: inner(element), height: height(), legend: { show: false }, cursor: { y: false }, padding: [10, 8, 0, 0],
    scales: { x: { range: (_, from, to) => [from - 43200, to + 43200] } },
    axes: [
      axis({ grid: { show: false }, values: (_, ticks) => ticks.map((t) => new Date(t * 1000).getUTCDate()), incrs: [86400, 172800] }),
      axis(amounts),
    ],
    series: [
      {},
      { stroke: color("profit"), fill: color("profit", 0.75), paths: bars, points: { show: false } },
      { stroke: color("loss"), fill: color("loss", 0.75), paths: bars, points: { show: false } },
    ],
  }, [values.t, values.day.map((v) => (v > 0 ? v : null)), values.day.map((v) => (v < 0 ? v : null))], element);
  return follow(element, plot, height);
});

addEventListener("tradebot:theme", () => paint(document));
for (const name of ["htmx:afterSwap", "htmx:oobAfterSwap"]) document.addEventListener(name, (event) => paint(event.target));
