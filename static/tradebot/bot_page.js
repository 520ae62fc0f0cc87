// The bot's page renews itself; what somebody has opened to read stays as it is until they close it.

document.addEventListener("htmx:oobBeforeSwap", (event) => {
  if (event.target.querySelector?.("details.keep[open]")) event.preventDefault();
});
