// Behaviour of every page: theme, menus, values that flash when they move. Pages work without it.

const root = document.documentElement;

// Theme: at once here, and kept by the server.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-theme-form]");
  if (!form) return;
  event.preventDefault();
  const theme = root.dataset.bsTheme === "dark" ? "light" : "dark";
  root.dataset.bsTheme = theme;
  root.removeAttribute("data-theme-auto");
  const body = new FormData(form);
  body.set("theme", theme);
  fetch(form.action, { method: "POST", body, headers: { "X-Requested-With": "fetch" } }).catch(() => {});
  dispatchEvent(new Event("tradebot:theme"));
});

// Menus close on Escape and on a click outside; one is open at a time.
const menus = () => document.querySelectorAll("details.menu[open]");
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  menus().forEach((menu) => {
    menu.open = false;
    menu.firstElementChild.focus();
  });
});
addEventListener("click", (event) => menus().forEach((menu) => menu.contains(event.target) || (menu.open = false)));

// A form that changes its page by being changed (a filter) sends itself; its button is for those without scripts.
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form?.hasAttribute("data-autosubmit")) form.requestSubmit();
});

// A button that copies the text of a field.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  const field = button && document.getElementById(button.dataset.copy);
  if (!field) return;
  field.select();
  navigator.clipboard?.writeText(field.value).then(() => (button.textContent = "Copied"), () => {});
});

/** Read a number as the pages write it: thin spaces, U+2212, a unit behind it. */
export function reading(text) {
  const found = text.replace(/[\u2009\u00a0\s,]/g, "").replace("\u2212", "-").match(/-?\d+(\.\d+)?/);
  return found ? Number(found[0]) : null;
}

/** Show for a moment that a value went up or down. */
export function tick(element, before, after) {
  if (before === null || after === null || before === after) return;
  element.classList.remove("tick-up", "tick-down");
  void element.offsetWidth; // restarts the animation
  element.classList.add(after > before ? "tick-up" : "tick-down");
}

/** Put a new text in place; flash when its number changed. */
export function update(element, text) {
  const before = reading(element.textContent);
  element.textContent = text;
  tick(element, before, reading(text));
}

// After a fragment was swapped: values marked with data-tick="<name>" flash when they changed.
const remembered = new Map();
// (Parts swapped out of band announce themselves with events of their own.)
const values = (scope) => scope.querySelectorAll("[data-tick]");
const remember = (scope) => values(scope).forEach((element) => remembered.set(element.dataset.tick, reading(element.textContent)));
const flash = (scope) => values(scope).forEach((element) => {
  if (remembered.has(element.dataset.tick)) tick(element, remembered.get(element.dataset.tick), reading(element.textContent));
  remembered.delete(element.dataset.tick);
});
for (const name of ["htmx:beforeSwap", "htmx:oobBeforeSwap"])
  document.addEventListener(name, (event) => event.detail.target && remember(event.detail.target));
document.addEventListener("htmx:afterSwap", (event) => flash(event.target.parentElement ?? document));
document.addEventListener("htmx:oobAfterSwap", (event) => flash(event.target));

// What the socket brings. A fragment names the kinds that make it stale (data-refresh="order_fill position") and renews
// itself on HTMX's "refresh"; several events in a row renew it once.
const KINDS = ["order_fill", "position", "bot", "balances", "notification"];
const due = new Map();
for (const kind of KINDS)
  document.body.addEventListener(kind, () =>
    document.querySelectorAll(`[data-refresh~="${kind}"]`).forEach((element) => {
      clearTimeout(due.get(element));
      due.set(element, setTimeout(() => element.isConnected && window.htmx?.trigger(element, "refresh"), 400));
    }),
  );

// Toasts: product, amount, price, live or paper. Three at most; they go by themselves unless something failed.
const SHOWN = 3;
const STAYS = 8000;
const number = (text) => {
  const [whole, fraction] = String(text).replace("-", "\u2212").split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, "\u2009") + (fraction ? `.${fraction}` : "");
};
const CENTS = ["USD", "EUR", "GBP", "CHF", "CAD", "AUD", "SGD", "USDC", "USDT", "DAI", "PYUSD"];
// To be read, not reckoned with: the exact amount stands on the deal's page.
const rounded = (text, currency) => Number(text).toFixed(CENTS.includes(currency) ? 2 : 8);
const make = (tag, className, text) => Object.assign(document.createElement(tag), { className, textContent: text ?? "" });

export function toast(title, line, { paper, kind = "", href, action = "Open the deal", result, stays = false }) {
  const place = document.getElementById("toasts");
  if (!place) return;
  const box = make("div", `tb-toast ${kind}${paper ? " paper" : ""}`);
  const body = make("div", "grow");
  const head = make("div", "row-x wrap");
  head.append(make("b", "num", title));
  if (paper !== undefined) head.append(make("span", `st ${paper ? "paper" : "live"}`, paper ? "Paper" : "Live"));
  body.append(head, make("div", "s muted num", line));
  if (result) body.append(result);
  if (href) body.append(Object.assign(make("a", "s", action), { href }));
  const close = Object.assign(make("button", "btn quiet", "×"), { type: "button" });
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => box.remove());
  box.append(body, close);
  place.append(box);
  while (place.childElementCount > SHOWN) place.firstElementChild.remove();
  if (!stays) setTimeout(() => box.remove(), STAYS);
}

document.body.addEventListener("order_fill", ({ detail }) => {
  if (!detail?.product) return; // raised by the page itself, not by the socket
  const base = detail.product.split("-")[0];
  const deal = detail.deal_number ? ` #${detail.deal_number}` : "";
  const parts = [`${detail.product}${deal}`, String(detail.fill_type).replaceAll("_", " "), `at ${number(detail.price)}`];
  const profit = detail.profit === null || detail.profit === undefined ? null : Number(detail.profit);
  let result = null;
  if (profit !== null) {
    parts[1] = String(detail.exit_reason).replaceAll("_", " ");
    const way = profit > 0 ? "up" : profit < 0 ? "down" : "flat";
    result = make("div", "s");
    result.append(make("span", `num ${way}`, (profit > 0 ? "+" : "") + number(rounded(detail.profit, detail.quote))), make("span", "u", detail.quote));
  }
  toast(`${detail.side === "buy" ? "Bought" : "Sold"} ${number(detail.base_amount)} ${base}`, parts.join(", "), {
    paper: detail.is_paper,
    kind: profit === null ? "" : profit < 0 ? "failed" : "sold",
    href: `/deals/${detail.position_id}/`,
    result,
  });
});
document.body.addEventListener("notification", ({ detail }) => {
  if (!detail?.message) return;
  if (detail.level === "info") return toast("For your information", detail.message, {});
  const link = detail.unmatched_fill_id ? { href: "/outside-fills/", action: "Say what it was" } : {};
  toast("Needs you", detail.message, { kind: "failed", stays: true, ...link });
});
