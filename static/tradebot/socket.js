// The socket: what happened to this person's deals, as it happens. Every message becomes an event on <body> named after
// its kind (order_fill, position, bot, balances, notification), with the message as its detail; app.js and HTMX listen.
// After a break the server is told the last event seen and sends what was missed.

const SIGNED_OUT = 4401;
const REMEMBERED = 200;
const LONGEST_WAIT = 30000;

const user = document.body.dataset.user;
const dot = document.getElementById("connection");
const key = `tradebot:events:${user}`;

// What this tab has seen: the last id, and recent ids, because one may be committed shortly after a higher one. The list
// says everything about the recent past once the tab has listened for longer than that.
const LATE = 60000;
const seen = (() => {
  try {
    const kept = JSON.parse(sessionStorage.getItem(key));
    return Number.isInteger(kept?.last) ? kept : { last: null, ids: [], since: Date.now() };
  } catch {
    return { last: null, ids: [], since: Date.now() };
  }
})();
const keep = () => {
  try {
    sessionStorage.setItem(key, JSON.stringify(seen));
  } catch {
    // A browser that keeps nothing starts from the server's last event on each page.
  }
};

let socket = null;
let heartbeat = null;
let heard = 0;
let wait = 1000;

function show(state) {
  if (!dot) return;
  dot.hidden = false;
  dot.classList.toggle("lost", state !== "live");
  dot.textContent = { live: "Live data", lost: "Reconnecting", out: "Signed out" }[state];
  dot.title = {
    live: "Fills and prices arrive as they happen",
    lost: "The connection is lost. What you see may be old; it is renewed once the connection is back",
    out: "Sign in again to see what happens",
  }[state];
}

// A connection can die without a word (a laptop that slept): silence over two heartbeats counts as lost.
function beat(interval) {
  if (Date.now() - heard > 2.5 * interval) socket.close();
  else send({ type: "ping", last_id: seen.last });
}

function receive(message) {
  heard = Date.now();
  switch (message.type) {
    case "hello":
      wait = 1000;
      show("live");
      if (seen.last === null) seen.last = message.last_id;
      else {
        const listed = Date.now() - seen.since > LATE ? { seen: seen.ids } : {};
        send({ type: "resume", last_id: Math.min(seen.last, message.last_id), ...listed });
      }
      clearInterval(heartbeat);
      heartbeat = setInterval(beat, message.heartbeat_seconds * 1000, message.heartbeat_seconds * 1000);
      keep();
      return;
    case "pong":
      return;
    case "reload":
      seen.last = message.last_id;
      keep();
      location.reload();
      return;
    default:
      if (message.id !== undefined) {
        if (seen.ids.includes(message.id)) return;
        seen.last = Math.max(seen.last ?? 0, message.id);
        seen.ids = [...seen.ids, message.id].slice(-REMEMBERED);
        keep();
      }
      document.body.dispatchEvent(new CustomEvent(message.type, { detail: message, bubbles: true }));
  }
}

const send = (message) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/ws/`);
  socket.addEventListener("message", (event) => receive(JSON.parse(event.data)));
  socket.addEventListener("close", (event) => {
    clearInterval(heartbeat);
    if (event.code === SIGNED_OUT) {
      show("out");
      return;
    }
    show("lost");
    setTimeout(connect, wait * (0.7 + 0.6 * Math.random()));
    wait = Math.min(wait * 2, LONGEST_WAIT);
  });
}

if (user) connect();
