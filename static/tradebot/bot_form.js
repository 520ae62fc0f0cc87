// The bot form: hides settings without effect, lets Enter add a pair. Everything is computed by the server, and without
// scripts the form's own buttons do the same by a round trip.

import { inSteps } from "./steps.js";

const form = document.getElementById("bot-form");
inSteps(form);

/** What is chosen in a setting: a word, or "true" for a switch that is on. */
const chosen = (control) => (control.type === "checkbox" ? (control.checked ? "true" : "") : control.value);

/** Show each field that counts with what is chosen now: data-depends="take_profit_mode=trailing|conditions". */
function depend() {
  form.querySelectorAll("[data-depends]").forEach((box) => {
    const counts = box.dataset.depends.split(";").every((rule) => {
      const [name, values] = rule.split("=");
      const choice = form.querySelector(`[data-setting="${name}"]`);
      return !choice || values.split("|").includes(chosen(choice));
    });
    const typed = [...box.querySelectorAll(".tp-steps input")].some((field) => field.value);
    box.hidden = !counts && !typed && !box.querySelector(".has-errors, .cond") && !box.classList.contains("has-errors");
  });
  // A card whose fields are all hidden goes with them, and so does its line in the list of sections.
  form.querySelectorAll("[data-section]").forEach((card) => {
    const fields = [...card.querySelectorAll(".f, .phase")];
    card.hidden = fields.length > 0 && fields.every((field) => field.hidden);
    form.querySelector(`.toc a[href="#${card.id}"]`)?.toggleAttribute("hidden", card.hidden);
  });
}

/** Units that follow from a choice: percent of something, or an amount of the quote currency. */
const UNITS = { base_order_size: ["base_order_type", "% of deal"], safety_order_size: ["safety_order_type", "% of base"] };
function units() {
  Object.entries(UNITS).forEach(([name, [kind, percent]]) => {
    const label = form.querySelector(`[data-unit="${name}"]`);
    const choice = form.querySelector(`[data-setting="${kind}"]`);
    const quote = form.querySelector('[name="symbols"]')?.value.split("-")[1] ?? "";
    if (label && choice) label.textContent = choice.value === "fixed" ? quote : percent;
  });
}

form.addEventListener("change", () => { depend(); units(); });
document.addEventListener("htmx:afterSettle", depend);

// A share: slider and number say the same, and what is left over is the other side's.
form.addEventListener("input", ({ target }) => {
  const number = target.dataset.slider ? document.getElementById(target.dataset.slider) : target;
  const slider = form.querySelector(`[data-slider="${number.id}"]`);
  if (!number.id || !slider) return;
  if (target === slider) number.value = slider.value;
  else if (Number(number.value)) slider.value = number.value;
  const left = 100 - Number(number.value.replace(",", "."));
  const rest = form.querySelector(`[data-rest="${number.id}"]`);
  if (rest) rest.textContent = Number.isFinite(left) ? String(Number(left.toFixed(4))) : "–";
});

// A pair is added by Enter, by the button, or by choosing it from the list.
form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.target.id !== "wanted-pair") return;
  event.preventDefault();
  document.getElementById("add-pair").click();
});
form.addEventListener("input", (event) => {
  const field = event.target;
  if (field.id !== "wanted-pair") return;
  event.stopPropagation(); // a half-typed pair changes no ladder
  const options = document.getElementById("pair-list").options;
  if (event.inputType !== "insertText" && [...options].some((option) => option.value === field.value)) {
    document.getElementById("add-pair").click();
  }
});
depend();
