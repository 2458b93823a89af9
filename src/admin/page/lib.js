// What the page is made with. Elements are made here and nowhere else, and text becomes text: there
// is no way from data to HTML.

const byId = (id) => document.getElementById(id);

/** An element with attributes, and children that are elements or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Writes a text only when it is another: nothing is read aloud, or selected away, for nothing. */
function setText(element, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

function setPill(element, text, tone) {
  setText(element, text);
  element.className = `pill ${tone}`;
}

/** Makes the children of an element anew, if what they show has changed. */
function refill(element, data, children) {
  const shown = JSON.stringify(data);
  if (element.dataset.shown === shown) return;
  element.dataset.shown = shown;
  element.replaceChildren(...children());
}

const NOTHING = "–";
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

const show = {
  count: (n) => (isNumber(n) ? plain.format(n) : NOTHING),
  rate: (n) => (isNumber(n) ? `${n < 100 ? short.format(n) : plain.format(n)}/s` : NOTHING),
  bytes(n) {
    if (!isNumber(n)) return NOTHING;
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    for (; n >= 1024 && unit < units.length - 1; unit += 1) n /= 1024;
    return `${short.format(n)} ${units[unit]}`;
  },
  byteRate: (n) => (isNumber(n) ? `${show.bytes(n)}/s` : NOTHING),
  seconds(s) {
    if (!isNumber(s)) return NOTHING;
    if (s === 0) return "0 s";
    if (s < 0.001) return `${short.format(s * 1e6)} µs`;
    if (s < 1) return `${short.format(s * 1e3)} ms`;
    if (s < 60) return `${short.format(s)} s`;
    const whole = Math.floor(s);
    if (s < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    if (s < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
    return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
  },
  time: (at) => (isNumber(at) ? new Date(at * 1000).toLocaleTimeString("en-GB") : NOTHING),
  day: (at) => (isNumber(at) ? new Date(at * 1000).toLocaleString("en-GB") : NOTHING),
  position: (pair) => (Array.isArray(pair) ? pair.join(".") : NOTHING),
};

/** A list of named facts, made once and updated in place. */
class Facts {
  constructor(list) {
    this.list = list;
    this.values = new Map();
  }

  set(name, value, { small, wide } = {}) {
    let found = this.values.get(name);
    if (!found) {
      found = { text: make("span"), small: make("small") };
      const row = make("div", { class: wide ? "wide" : null, "data-fact": name });
      row.append(make("dt", {}, name), make("dd", {}, found.text, found.small));
      this.list.append(row);
      this.values.set(name, found);
    }
    setText(found.text, value);
    setText(found.small, small);
    found.small.hidden = !small;
  }
}

/** A table in a box that scrolls by itself, so that the page never does sideways. */
function table(label, heads, rows) {
  const cell = (value) => (value instanceof Node ? value : make("td", {}, String(value ?? NOTHING)));
  return make(
    "div",
    { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))),
    ),
  );
}

const none = (text) => make("p", { class: "none" }, text);

/** Reads a colour of the style sheet, which depends on light and dark. */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const charts = new Set();

/** Steps of an axis in bytes: powers of two, where others take those of ten. */
const BYTE_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);

/** One or two lines over the last ten minutes. */
class Chart {
  constructor(place, title, names, format, steps) {
    this.title = title;
    this.names = names;
    this.format = format;
    this.steps = steps;
    this.values = names.map(() => make("strong"));
    const keys = names.map((name, n) =>
      make(
        "span",
        {},
        names.length > 1 ? make("span", { class: n ? "key second" : "key", "aria-hidden": "true" }) : null,
        names.length > 1 ? `${name} ` : null,
        this.values[n],
      ),
    );
    this.when = make("span");
    this.plot = make("div", { class: "plot", role: "img" });
    place.append(make("figure", {}, make("figcaption", {}, title, ...keys, this.when), this.plot));
    this.data = [[], ...names.map(() => [])];
    charts.add(this);
    new ResizeObserver(() => this.fit()).observe(this.plot);
    this.draw();
  }

  draw() {
    this.chart?.destroy();
    const [text, grid] = [colour("--muted"), colour("--grid")];
    const axis = { stroke: text, font: "11px system-ui, sans-serif", grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const line = (name, n) => ({
      label: name,
      stroke: colour(n ? "--second" : "--first"),
      width: 1.5,
      dash: n ? [5, 4] : undefined,
      points: { show: false },
      spanGaps: false,
    });
    const options = {
      width: this.plot.clientWidth || 300,
      height: 110,
      padding: [8, 30, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.15 : 1] } },
      axes: [
        { ...axis, space: 80, size: 22, values: (chart, ticks) => ticks.map(chart.data[0].length > 1 ? show.time : () => "") },
        { ...axis, size: 62, space: 28, incrs: this.steps, values: (_, ticks) => ticks.map((tick) => this.format(tick)) },
      ],
      series: [{}, ...this.names.map(line)],
      hooks: { setCursor: [(chart) => this.tell(chart.cursor.idx)] },
    };
    this.chart = new uPlot(options, this.data, this.plot);
    this.tell();
  }

  fit() {
    const width = this.plot.clientWidth;
    if (width > 0 && width !== this.chart.width) this.chart.setSize({ width, height: 110 });
  }

  set(at, ...columns) {
    this.data = [at, ...columns];
    this.chart.setData(this.data);
    this.tell(this.chart.cursor.idx);
  }

  /** The values at the pointer; without one, the latest. */
  tell(pointed) {
    const at = this.data[0];
    const index = isNumber(pointed) ? pointed : at.length - 1;
    const texts = this.values.map((value, n) => {
      const text = this.format(this.data[n + 1][index]);
      setText(value, text);
      return this.names.length > 1 ? `${this.names[n]} ${text}` : text;
    });
    setText(this.when, isNumber(pointed) ? `at ${show.time(at[index])}` : "");
    if (!isNumber(pointed)) {
      this.plot.setAttribute("aria-label", `${this.title}, the last ten minutes; now ${texts.join(", ")}`);
    }
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) chart.draw();
});
