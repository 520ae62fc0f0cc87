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
