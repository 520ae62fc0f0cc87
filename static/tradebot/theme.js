// Before the first paint: a theme that follows the device is known only here. Everything else the server has decided.
(() => {
  "use strict";
  const root = document.documentElement;
  if (!root.hasAttribute("data-theme-auto")) return;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => root.hasAttribute("data-theme-auto") && (root.dataset.bsTheme = dark.matches ? "dark" : "light");
  follow();
  dark.addEventListener("change", () => { follow(); dispatchEvent(new Event("tradebot:theme")); });
})();
