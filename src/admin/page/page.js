// What is shown, from what `/v1/status`, `/v1/history` and their like say.

const EVERY_MS = 2000;

/** How many dead letters of a destination are shown. */
const LETTERS = 20;

const TONES = {
  ready: "good", open: "good", finished: "good", delivering: "good", up: "good", running: "good",
  holding: "warn", resting: "warn", waiting: "warn", stopping: "warn", paused: "warn",
  closed: "bad", held: "bad", stuck: "bad", failed: "bad",
};
const tone = (state) => TONES[state] ?? "";
const list = (value) => (Array.isArray(value) ? value : []);
const latest = (column) => list(column).at(-1) ?? null;

const ingest = {
  facts: new Facts(byId("ingest-facts")),
  rate: new Chart(byId("ingest-charts"), "messages a second", ["messages"], show.rate),
  answers: new Chart(byId("ingest-charts"), "answers to senders", ["p99", "p50"], show.seconds),
};
const log = {
  facts: new Facts(byId("log-facts")),
  size: new Chart(byId("log-charts"), "frames kept", ["bytes"], show.bytes, BYTE_STEPS),
};
const cards = new Map();
let status = null;

function showIngest(now, rows) {
  setPill(byId("ingest-state"), now.state, tone(now.state));
  const over = rows.window_seconds ? `over ${rows.window_seconds} s` : "";
  const { facts } = ingest;
  facts.set("Messages", show.rate(latest(rows.ingest?.messages_per_second)), { small: over });
  facts.set("Bytes", show.byteRate(latest(rows.ingest?.bytes_per_second)), { small: over });
  facts.set("Frames", show.rate(latest(rows.ingest?.frames_per_second)), { small: over });
  facts.set("Answers, p99", show.seconds(latest(rows.ingest?.answer_p99_seconds)), { small: over });
  facts.set("Connections", show.count(now.connections));
  facts.set("In flight", show.count(now.requests), { small: "requests" });
  ingest.rate.set(list(rows.at), list(rows.ingest?.messages_per_second));
  ingest.answers.set(list(rows.at), list(rows.ingest?.answer_p99_seconds), list(rows.ingest?.answer_p50_seconds));
}

function showLog(now, rows) {
  const state = now.poisoned ? "failed" : now.space_is_short ? "full" : "writing";
  setPill(byId("log-state"), state, state === "writing" ? "good" : "bad");
  const { facts } = log;
  facts.set("Size", show.bytes(now.bytes), { small: "before compression" });
  facts.set("On disk", show.bytes(now.file_bytes), { small: "tables" });
  facts.set("Age", show.seconds(now.oldest_seconds), { small: "of the oldest frame" });
  facts.set("Segments", show.count(now.segments));
  facts.set("Messages", show.count(now.messages), { small: "ever accepted" });
  facts.set("Offsets", `${now.first_offset} – ${now.end_offset}`);
  facts.set("A 200 means", now.promise, { wide: true });
  log.size.set(list(rows.at), list(rows.log?.bytes));
}

class Card {
  constructor(name) {
    this.name = name;
    this.state = make("p", { class: "pill", "data-state": "" });
    this.paused = make("p", { class: "pill warn", hidden: true }, "paused");
    this.pause = make("button", { type: "button", class: "change", hidden: true });
    this.reasons = make("div", { "data-reasons": "" });
    this.list = make("dl", { class: "facts" });
    this.facts = new Facts(this.list);
    this.books = make("p", { class: "books", "data-books": "" });
    this.endpoints = make("div");
    const plots = make("div", { class: "charts side" });
    const title = make("h3", { id: `destination-${name}` }, name);
    this.element = make(
      "article",
      { class: "card", "aria-labelledby": `destination-${name}`, "data-destination": name },
      make("div", { class: "head" }, title, this.state, this.paused, this.pause),
      this.reasons,
      this.list,
      this.books,
      plots,
      this.endpoints,
    );
    byId("destinations").append(this.element);
    this.charts = {
      rate: new Chart(plots, "acknowledged a second", ["messages"], show.rate),
      lag: new Chart(plots, "lag", ["lag"], show.seconds),
      acks: new Chart(plots, "acknowledgement", ["p99", "p50"], show.seconds),
    };
    this.pause.addEventListener("click", () => this.toggle());
  }

  toggle() {
    const verb = this.isPaused ? "resume" : "pause";
    const done = this.isPaused ? `${this.name} delivers again.` : `${this.name} is paused; nothing is lost.`;
    return change("POST", `/v1/cursors/${encodeURIComponent(this.name)}/${verb}`, undefined, done);
  }

  show(now, at, rows) {
    setPill(this.state, now.state, tone(now.state));
    this.isPaused = now.paused === true;
    this.paused.hidden = !this.isPaused || now.state === "paused";
    // Only a relay that says whether it is paused can be told to.
    this.pause.hidden = typeof now.paused !== "boolean" || access.changes_need === "impossible";
    setText(this.pause, this.isPaused ? "Resume" : "Pause");
    this.pause.setAttribute("aria-label", `${this.isPaused ? "Resume" : "Pause"} ${this.name}`);

    const held = list(now.endpoints).filter((endpoint) => endpoint.reason && endpoint.state !== "up");
    const reasons = [
      ...(now.reason ? [`It is stuck: ${now.reason}`] : []),
      ...held.map((endpoint) => `${endpoint.url} ${endpoint.state === "resting" ? "rests" : `is ${endpoint.state}`}: ${endpoint.reason}`),
    ];
    refill(this.reasons, reasons, () => reasons.map((reason) => make("p", { class: "reason" }, reason)));

    const { facts } = this;
    facts.set("Lag", show.seconds(now.lag_seconds), { small: "oldest in flight" });
    facts.set("Pending", show.count(now.books?.pending), { small: "messages" });
    facts.set("Ack, p50", show.seconds(latest(rows?.acknowledgement_p50_seconds)), {
      small: { off: "not required", unknown: "not known yet" }[now.acknowledgement] ?? "required",
    });
    facts.set("Being sent", show.count(now.batches_posting), { small: "batches" });
    facts.set("Unacknowledged", show.count(now.batches_unacknowledged), { small: "batches" });
    facts.set("Cursor", show.position(now.checkpoint), { small: `read up to ${show.position(now.read)}` });
    facts.set("Dead letters", show.count(now.books?.dead_lettered));

    const books = now.books ?? {};
    const parts = ["acknowledged", "filtered", "dead_lettered", "skipped", "dropped", "pending"];
    refill(this.books, books, () => [
      "Books: ",
      make("b", {}, show.count(books.accepted)),
      " accepted = ",
      ...parts.flatMap((part, n) => [
        n ? " + " : "",
        make("b", {}, show.count(books[part])),
        ` ${part.replace("_", "-")}`,
      ]),
      books.difference === 0 ? "; they balance." : `; THEY DO NOT BALANCE: the difference is ${books.difference}.`,
    ]);

    refill(this.endpoints, now.endpoints, () => [
      table(
        `Endpoints of ${this.name}`,
        ["Endpoint", "State"],
        list(now.endpoints).map((endpoint) => [
          make("td", { class: "text" }, endpoint.url),
          make("td", {}, make("span", { class: `pill ${tone(endpoint.state)}` }, endpoint.state)),
        ]),
      ),
    ]);

    this.charts.rate.set(at, list(rows?.acknowledged_per_second));
    this.charts.lag.set(at, list(rows?.lag_seconds));
    this.charts.acks.set(at, list(rows?.acknowledgement_p99_seconds), list(rows?.acknowledgement_p50_seconds));
  }

  remove() {
    this.element.remove();
    for (const chart of Object.values(this.charts)) charts.delete(chart);
  }
}

function showDestinations(destinations, rows) {
  const names = new Set(destinations.map((destination) => destination.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      card.remove();
      cards.delete(name);
    }
  }
  for (const destination of destinations) {
    const { name } = destination;
    if (!cards.has(name)) cards.set(name, new Card(name));
    const its = list(rows.destinations).find((row) => row.name === name);
    cards.get(name).show(destination, list(rows.at), its);
  }
}

/** What somebody has to look at, the worst first. */
function problems(now) {
  const found = [];
  const bad = (text) => found.push(["bad", text]);
  const warn = (text) => found.push(["warn", text]);
  if (now.log.poisoned) bad(`The log has failed: ${now.log.poisoned}`);
  if (now.log.space_is_short) bad("No space is left for frames: they are held, and then refused.");
  for (const destination of now.destinations) {
    const { name, books } = destination;
    if (books.difference !== 0) bad(`The books of ${name} do not balance. Run forebay wal verify.`);
    if (destination.state === "held") bad(`${name} is held and waits for an operator; nothing is lost.`);
    if (destination.state === "stuck") bad(`${name} is stuck and waits for an operator: ${destination.reason ?? ""}`);
    if (destination.paused === true) warn(`${name} is paused by an operator.`);
    if (books.dropped > 0) bad(`${name} never gets ${show.count(books.dropped)} messages: they were dropped.`);
    if (books.dead_lettered > 0) warn(`${name} has refused ${show.count(books.dead_lettered)} messages for good.`);
    if (destination.tls_verified === false) warn(`Certificates of ${name} are not checked.`);
    if (destination.acknowledgement === "unknown") warn(`${name} waits for the collectors to say whether they acknowledge.`);
    if (destination.acknowledgement === "off") warn(`${name} counts as delivered what no indexer has acknowledged.`);
  }
  if (now.ingest.state === "closed") bad("Connections of senders are refused.");
  if (now.ingest.state === "holding") warn("Requests of senders wait for the log.");
  for (const loss of list(now.ingest.upstream_loss)) {
    bad(`${show.count(loss.messages)} messages of ${loss.drain} were lost before they came here (${loss.code}).`);
  }
  for (const stranger of list(now.ingest.unknown_drains)) {
    warn(`The drain ${stranger.token}… is not configured and has sent ${show.count(stranger.frames)} frames.`);
  }
  for (const gap of list(now.log.gaps)) {
    bad(`Frames ${gap.first_offset} to ${gap.end_offset} are gone (${gap.cause}): ${show.count(gap.messages)} messages.`);
  }
  for (const orphan of list(now.orphaned)) {
    warn(`${orphan.name} is not configured any more, and its cursor keeps ${show.bytes(orphan.pinned_bytes)}.`);
  }
  for (const replay of list(now.replays)) {
    const { id, state, reason, destination } = replay;
    if (state === "held" || state === "stuck") bad(`Replay ${id} to ${destination} is ${state}: ${reason}`);
    else if (state === "waiting" && replay.configured === false) warn(`Replay ${id} to ${destination} waits: ${reason}`);
  }
  if (!now.config.last_reload_successful) warn("The last reload of the configuration was refused; the old one holds.");
  if (list(now.config.restart_needed).length > 0) {
    warn(`Only a restart takes the changes of ${now.config.restart_needed.join(", ")}.`);
  }
  return found.sort(([one], [other]) => (one === other ? 0 : one === "bad" ? -1 : 1));
}

function showProblems(found) {
  byId("problems").hidden = found.length === 0;
  refill(byId("problem-list"), found, () => found.map(([kind, text]) => make("li", { class: kind }, text)));
}

/** How far a replay is. */
function progress({ progress: part, acknowledged, messages, messages_per_second: rate, remaining_seconds: left }) {
  if (!isNumber(part)) return NOTHING;
  const pace = isNumber(rate) ? `; ${show.rate(rate)}` : "";
  const rest = isNumber(left) ? `, ${show.seconds(left)} left` : "";
  return `${Math.floor(part * 100)} %, ${show.count(acknowledged)} of ${show.count(messages)} messages acknowledged${pace}${rest}`;
}

function showReplays(replays) {
  byId("replays").hidden = replays === null;
  if (replays === null) return;
  byId("replay").hidden = access.changes_need === "impossible";
  refill(byId("replay-list"), [replays, access.changes_need], () => {
    if (replays.length === 0) return [none("None.")];
    const rows = replays.map((replay) => {
      const id = String(replay.id);
      const cancel = make("button", { type: "button", class: "change", "aria-label": `Cancel replay ${id}` }, "Cancel");
      cancel.addEventListener("click", () =>
        change("DELETE", `/v1/replays/${encodeURIComponent(id)}`, undefined, `Replay ${id} is cancelled.`),
      );
      const may = access.changes_need !== "impossible" && !["finished", "cancelled"].includes(replay.state);
      const only = [replay.drain, replay.app].filter(Boolean).join(", ");
      const where = `frames ${replay.first_offset} to ${replay.end_offset}${only ? ` of ${only}` : ""}, to ${replay.destination}`;
      return make(
        "li",
        { "data-replay": id },
        make("div", { class: "head" }, make("code", {}, id), make("span", { class: `pill ${tone(replay.state)}` }, replay.state ?? NOTHING), may ? cancel : null),
        make("p", {}, where),
        make("progress", { max: 1, value: isNumber(replay.progress) ? replay.progress : 0, "aria-label": `Progress of replay ${id}` }),
        make("p", {}, progress(replay)),
        replay.reason ? make("p", { class: "reason" }, replay.reason) : null,
      );
    });
    return [make("ul", { class: "replays" }, ...rows)];
  });
}

/** Has a dead letter sent again; none where nobody may, or where it is under way. */
function redriveButton(destination, letter) {
  if (access.changes_need === "impossible" || isNumber(letter.redrive_us)) return null;
  const { position } = letter;
  const button = make("button", { type: "button", class: "change", "aria-label": `Redrive ${position} of ${destination}` }, "Redrive");
  button.addEventListener("click", () =>
    change("POST", "/v1/dead-letters/redrive", { destination, positions: [position] }, `${position} is to be sent to ${destination} again.`),
  );
  return button;
}

/** The first dead letters of each destination: the collector's words, and how the message begins. */
function showLetters(letters) {
  byId("letters").hidden = letters.length === 0;
  refill(byId("letter-list"), [letters, access.changes_need], () => {
    const rows = letters.map(({ destination, letter }) => {
      const code = isNumber(letter.code) ? `, code ${letter.code}` : "";
      const again = isNumber(letter.redrive_us) ? "; is to be sent again" : "";
      return make(
        "li",
        { "data-letter": letter.position },
        make("time", { class: "muted" }, show.day(letter.refused_us / 1e6)),
        make("span", { class: "pill" }, destination),
        redriveButton(destination, letter),
        make(
          "p",
          {},
          `${letter.position}: HTTP ${letter.status}${code}: ${letter.text}${again} `,
          make("code", {}, letter.message_begins ?? ""),
        ),
      );
    });
    return [make("ol", { class: "warnings" }, ...rows)];
  });
}

function showWarnings(warnings) {
  refill(byId("warning-list"), warnings, () => {
    if (warnings.length === 0) return [none("None since the start.")];
    const rows = warnings.map((warning) => {
      const times = warning.times > 1 ? ` (${show.count(warning.times)} times)` : "";
      return make(
        "li",
        {},
        make("time", { class: "muted" }, show.day(warning.at)),
        make("span", { class: `pill ${warning.level === "ERROR" ? "bad" : "warn"}` }, warning.level),
        make("p", {}, `${warning.text}${times}`),
      );
    });
    return [make("ol", { class: "warnings" }, ...rows)];
  });
}

// Asking.

let lastAnswer = null;
let running = null;
let timer = null;

function connected(is) {
  const connection = byId("connection");
  const wasLost = connection.dataset.state !== "live";
  connection.dataset.state = is ? "live" : "lost";
  setText(connection, is ? "live" : "connection lost");
  byId("main").toggleAttribute("data-stale", !is);
  byId("lost").hidden = is;
  for (const button of document.querySelectorAll("button.change")) button.disabled = !is;
  if (is) {
    lastAnswer = Date.now() / 1000;
  } else {
    const since = lastAnswer === null ? "" : ` since ${show.time(lastAnswer)}. What is shown is of that time`;
    setText(byId("lost"), `The relay does not answer${since}. Senders are not answered either, if it is down: see journalctl -u forebay.`);
  }
  return is && wasLost;
}

/** What this relay does not have: not asked for again before it is another. */
const absent = new Set();

async function value(path) {
  if (absent.has(path)) return null;
  const answer = await ask("GET", path);
  if (answer.status === 404) absent.add(path);
  return answer.ok ? answer.value : null;
}

async function fetchAll() {
  if (byId("connection").dataset.state !== "live") {
    absent.clear();
    await learnAccess();
  }
  const [now, rows, warnings] = await Promise.all(["/v1/status", "/v1/history", "/v1/warnings"].map(value));
  if (!now) throw new Error("this is no forebay");
  // What this relay can do is told by what it says: nothing is asked that it does not have.
  const steered = now.destinations.some((destination) => typeof destination.paused === "boolean");
  const replays = steered ? await value("/v1/replays") : null;
  const refused = now.destinations.filter((destination) => destination.books.dead_lettered > 0);
  const letters = await Promise.all(
    refused.map(async ({ name }) => {
      const found = await value(`/v1/dead-letters?destination=${encodeURIComponent(name)}&limit=${LETTERS}`);
      return list(found?.letters).map((letter) => ({ destination: name, letter }));
    }),
  );
  return { now, rows: rows ?? {}, warnings: list(warnings), replays: replays && list(replays), letters: letters.flat() };
}

function showAll({ now, rows, warnings, replays, letters }) {
  status = now;
  setText(byId("version"), now.version);
  setPill(byId("phase"), now.phase, tone(now.phase));
  document.title = `forebay: ${now.phase}`;
  showProblems(problems(now));
  showIngest(now.ingest, rows);
  showLog(now.log, rows);
  showDestinations(now.destinations, rows);
  showReplays(replays);
  showLetters(letters);
  showWarnings(warnings);
}

/** Asks once, now. Whoever asks meanwhile waits for the same answer. */
function poll() {
  running ??= (async () => {
    let all = null;
    try {
      all = await fetchAll();
    } catch {
      // Not there, or not whole: both are "lost" to whoever looks.
    }
    if (all) showAll(all);
    connected(all !== null);
  })().finally(() => {
    running = null;
    clearTimeout(timer);
    // A page that nobody looks at asks nothing.
    if (!document.hidden) timer = setTimeout(poll, EVERY_MS);
  });
  return running;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
byId("replay").addEventListener("click", () => startReplay(status.destinations.map(({ name }) => name)));
poll();
