// A form whose buttons have the server draw parts of it anew: "steps", the buttons and choices marked data-step. Every
// answer is made from what the form held when it was asked, and what is on the page is what gets saved, hence:
//   1. One step goes at a time. One pressed meanwhile waits; where its place has moved by then it is left out, and said.
//   2. What is typed during a step makes its answer old: the step is sent again with it.
//   3. Sending the form waits for the steps before it, and is given up when one of them failed or was left out.
//   4. Other requests of the form (previews, polls) neither begin during a step nor come onto the page after it began.
// A step is over when its request is: answered and settled (hence settle:0s beside data-step), failed or out of time.
// Without scripts each step is a page of its own.

import { toast } from "./app.js";

const PATIENCE_MS = 30_000;
const MOVES_OTHERS = /^remove_(condition|group):/; // what stands behind it gets other numbers
const HAS_NUMBER = /:\d/;
const FAILED = "The server did not answer as it should. The form is as it was.";
const EARLY = "A button was pressed while the form was still changing, and did nothing. Look at the form, then press again.";
const OTHER = "The button says something else by now. Read it, then press again.";

export function inSteps(form) {
  let step = null; // what HTMX tells of the step under way
  let edited = false; // the form is no longer what the step was sent with
  let trouble = "";
  let typing = null; // the field that has the focus while its part is drawn anew, and what is selected in it
  let sender = null; // the button that sends the form, waiting for the steps before it
  const later = new Set();
  const asking = new Map(); // other requests on their way, by their element

  const isStep = (element) => element.matches("[data-step]");
  const press = (element) => (element.tagName === "BUTTON" ? element.click() : window.htmx.trigger(element, "change"));
  const buttonLike = ({ name, value }) => [...form.elements].find((one) => one.type === "submit" && one.name === name && one.value === value);

  /** The button that does now what a button did before `button` and `part` were drawn anew; none where it has moved. */
  function successor(pressed, button, part) {
    if (pressed.isConnected) return pressed;
    const moved = MOVES_OTHERS.test(button.value) && HAS_NUMBER.test(pressed.value) && part.contains(pressed);
    return moved ? undefined : buttonLike(pressed);
  }

  /** Select again what was selected: HTMX leaves out a selection from the start, and typing would not replace it. */
  function select() {
    const { id, start, end } = typing ?? {};
    const field = document.activeElement;
    if (id && field?.id === id && typeof start === "number") field.setSelectionRange(start, end);
  }

  function begin(request) {
    step = request;
    edited = false;
    form.setAttribute("aria-busy", "true");
    asking.forEach((xhr, element) =>
      element.addEventListener("htmx:beforeOnLoad", (event) => event.detail.xhr === xhr && event.preventDefault()),
    );
    request.xhr.timeout = PATIENCE_MS;
    request.xhr.addEventListener("loadend", end);
  }

  function end() {
    const { target: part, successful, requestConfig: { elt: element } } = step;
    const isDrawn = !part.isConnected && document.getElementById(part.id) !== null;
    step = null;
    if (edited && successful && !isDrawn) press(element);
    if (step) return;
    if (isDrawn) select();
    else trouble ||= FAILED;
    const waiting = [...later].filter((one) => one !== element);
    later.clear();
    for (const one of waiting) {
      const now = successor(one, element, part);
      if (now) press(now);
      if (one.tagName === "BUTTON" && !step) trouble ||= EARLY; // a choice is part of the form that was sent
    }
    if (step) return;
    form.removeAttribute("aria-busy");
    finish();
    if (!isDrawn) form.dispatchEvent(new Event("change", { bubbles: true })); // renews what rule 4 kept back
  }

  function finish() {
    const pressed = sender;
    const button = pressed && buttonLike(pressed);
    if (pressed && button?.textContent !== pressed.textContent) trouble ||= OTHER;
    const told = trouble;
    pressed?.removeAttribute("aria-busy");
    sender = null;
    trouble = "";
    if (told) toast("Not done", pressed ? `${told} Nothing was saved or started.` : told, { kind: "failed" });
    else if (pressed) form.requestSubmit(button);
  }

  form.addEventListener("input", () => (edited = true), { capture: true }); // before HTMX hears of it
  form.addEventListener("htmx:beforeRequest", (event) => {
    const { xhr, requestConfig: { elt: element } } = event.detail;
    if (step) {
      event.preventDefault();
      if (isStep(element)) later.add(element);
    } else if (!isStep(element)) {
      asking.set(element, xhr);
      xhr.addEventListener("loadend", () => asking.get(element) === xhr && asking.delete(element));
    }
  });
  form.addEventListener("htmx:beforeSend", ({ detail }) => isStep(detail.requestConfig.elt) && begin(detail));
  form.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.xhr !== step?.xhr) return;
    const hasPart = detail.serverResponse.includes(`id="${detail.target.id}"`); // not so the page to sign in
    if (edited || !hasPart) detail.shouldSwap = false;
    const { id, selectionStart: start, selectionEnd: end } = document.activeElement ?? {};
    typing = { id, start, end };
  });
  form.addEventListener("submit", (event) => {
    if (!step) return;
    event.preventDefault();
    sender?.removeAttribute("aria-busy");
    sender = event.submitter;
    sender?.setAttribute("aria-busy", "true");
  });
}
